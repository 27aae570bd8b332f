package simulation

import (
	"context"
	"log/slog"
	"time"

	"github.com/vigie-io/vigie/internal/kafka"
	"github.com/vigie-io/vigie/internal/pause"
	"github.com/vigie-io/vigie/internal/sink"
)

// sink is a stream process without workers; a sink that failed is made anew, as internal/app does.
func (w *World) sink(ctx context.Context, cfg kafka.Config, p *process) {
	log := w.log.With("process", p.name)
	for ctx.Err() == nil {
		if err := w.sinkOnce(ctx, cfg, p, log); err != nil {
			log.Error("sink ended; starting it again", "err", err)
			_ = pause.For(ctx, 250*time.Millisecond)
		}
	}
}

func (w *World) sinkOnce(ctx context.Context, cfg kafka.Config, p *process, log *slog.Logger) error {
	producer, err := kafka.NewProducer(cfg, nil, log)
	if err != nil {
		return err
	}
	defer producer.Close()
	results, err := kafka.NewResults(cfg, 0, log)
	if err != nil {
		return err
	}
	defer results.Close()
	return sink.New(sink.DefaultConfig(), results, inserter{w.Server, p}, producer, w.counters, log).Run(ctx)
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
