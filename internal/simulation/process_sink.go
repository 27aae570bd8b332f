package simulation

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/vigie-io/vigie/internal/kafka"
	"github.com/vigie-io/vigie/internal/pause"
	"github.com/vigie-io/vigie/internal/sink"
)

// sink is a stream process without workers: a sink of results, mergers, and a sink of what they merge. Each of them is
// made anew after an error, as internal/app does.
func (w *World) sink(ctx context.Context, cfg kafka.Config, p *process) {
	log := w.log.With("process", p.name)
	topics := &cfg.Topics
	parts := map[string]func() error{
		"sink": func() error { return w.sinkOnce(ctx, cfg, p, topics.Results.Name, kafka.NewResults, log) },
	}
	if !p.earlier {
		parts["coarse sink"] = func() error { return w.sinkOnce(ctx, cfg, p, topics.Coarse.Name, kafka.NewCoarseResults, log) }
		parts["mergers"] = func() error { return w.merge(ctx, cfg, p, log) }
	}
	var all sync.WaitGroup
	for name, run := range parts {
		all.Go(func() {
			for ctx.Err() == nil {
				if err := run(); err != nil {
					log.Error(name+" ended; starting it again", "err", err)
					_ = pause.For(ctx, 250*time.Millisecond)
				}
			}
		})
	}
	all.Wait()
}

func (w *World) sinkOnce(ctx context.Context, cfg kafka.Config, p *process, topic string,
	open func(kafka.Config, int, *slog.Logger) (*kafka.Results, error), log *slog.Logger) error {
	producer, err := kafka.NewProducer(cfg, nil, log)
	if err != nil {
		return err
	}
	defer producer.Close()
	results, err := open(cfg, 0, log)
	if err != nil {
		return err
	}
	defer results.Close()
	return sink.New(topic, sink.DefaultConfig(), results, inserter{w.Server, p}, producer, w.counters, log).Run(ctx)
}

// inserter is the way of one process to ClickHouse.
type inserter struct {
	server  *Server
	process *process
}

// Moments of a sink that are no requests.
const (
	momentInserting = "inserting" // before an insert
	momentInserted  = "inserted"  // it is stored, and its offset not committed
)

func (i inserter) Insert(ctx context.Context, table, token string, rows int, block []byte) error {
	i.process.reach(momentInserting)
	if ctx.Err() != nil {
		return ctx.Err() // crashed
	}
	err := i.server.Insert(ctx, table, token, rows, block)
	if err == nil {
		i.process.reach(momentInserted)
	}
	return err
}
