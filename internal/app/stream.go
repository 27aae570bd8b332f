package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/config"
	"github.com/vigie-io/vigie/internal/kafka"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/sink"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
)

var _ Runner = Stream

// Stream runs the workers, and the sink unless stream.sink is false.
func Stream(ctx context.Context, cfg config.Config, p Process) error {
	p.prepare()
	door, err := p.open(ctx, cfg, cfg.Stream.Listen, "stream.listen")
	if err != nil {
		return err
	}
	client, err := clickhouse.NewClient(cfg.ClickHouse)
	if err != nil {
		return errors.Join(err, door.listener.Close())
	}
	defer client.Close()
	topics := newTopics(cfg.Kafka, p.Log)
	metrics := kafka.NewMetrics(p.Registry)
	reload, err := newReloader(cfg, &p, door.listener.Addr())
	if err != nil {
		return errors.Join(err, door.listener.Close())
	}
	workers := newWorkers(&cfg, &p, metrics, reload.limits)

	g := newGroup(ctx)
	g.run("topics", func(ctx context.Context) error {
		if err := topics.ensure(ctx); err != nil || ctx.Err() != nil {
			return err
		}
		for _, worker := range workers {
			g.run("worker", worker.Run)
		}
		if cfg.Stream.Sink {
			g.run("sink", func(ctx context.Context) error { return runSink(ctx, &cfg, &p, metrics, client) })
		}
		return nil
	})
	g.run("stream", func(ctx context.Context) error {
		defer g.stop()
		ready := func(ctx context.Context) error { return streamReady(ctx, &cfg, topics, client) }
		return door.serve(ctx, reload, &p, ready, func() any { return topology(workers) })
	})
	return g.wait()
}

func newWorkers(cfg *config.Config, p *Process, connections *kafka.Metrics, limits *tenants.Live) []*pipeline.Worker {
	shape := cfg.Stream.Config
	shape.ResultsTopic, shape.DLQTopic = cfg.Kafka.Topics.Results.Name, cfg.Kafka.Topics.DLQ.Name
	shape.StateTopics = map[events.Signal]string{
		events.Metrics: cfg.Kafka.Topics.StateMetrics.Name,
		events.Spans:   cfg.Kafka.Topics.StateSpans.Name,
		events.Logs:    cfg.Kafka.Topics.StateLogs.Name,
	}
	shared := pipeline.NewMetrics(p.Registry)
	workers := make([]*pipeline.Worker, cfg.Stream.WorkerCount())
	for slot := range workers {
		workers[slot] = pipeline.NewWorker(pipeline.WorkerConfig{
			Config: shape, Slot: slot, Encoder: clickhouse.Encoder{}, Metrics: shared, Log: p.Log.With("worker", slot),
			Open: func(ctx context.Context) (pipeline.Session, func(), error) {
				session, err := kafka.NewSession(ctx, cfg.Kafka, slot, connections, p.Log.With("worker", slot))
				if err != nil {
					return nil, nil, err
				}
				return session, session.Close, nil
			},
			Decoder:      events.NewDecoder(decoderOptions(cfg.Tenants.Defaults)),
			ActiveSeries: limits.ActiveSeries,
		})
	}
	return workers
}

// decoderOptions are the contract's limits with those of the configuration.
func decoderOptions(limits tenants.Limits) events.Options {
	options := events.DefaultOptions()
	options.MaxLabels = limits.MaxLabels
	options.MaxName = int(limits.MaxLabelName)
	options.MaxValue = int(limits.MaxLabelValue)
	return options
}

// Pauses between a sink that ended with an error and the next.
const (
	sinkRetryMin = 250 * time.Millisecond
	sinkRetryMax = 15 * time.Second
)

// runSink moves results to ClickHouse until ctx ends. A sink whose session is lost is made anew: what it had not
// committed is inserted again under the same tokens.
func runSink(ctx context.Context, cfg *config.Config, p *Process, metrics *kafka.Metrics, client *clickhouse.Client) error {
	producer, err := kafka.NewProducer(cfg.Kafka, metrics, p.Log)
	if err != nil {
		return err
	}
	defer producer.Close()
	counters := sink.NewMetrics(p.Registry)
	for wait := sinkRetryMin; ; wait = min(2*wait, sinkRetryMax) {
		began := time.Now()
		err := sinkOnce(ctx, cfg, p.Log, producer, counters, client)
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(began) > sinkRetryMax {
			wait = sinkRetryMin
		}
		p.Log.Error("sink ended; starting it again", "err", err, "retry_in", wait)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

func sinkOnce(ctx context.Context, cfg *config.Config, log *slog.Logger, parker sink.Parker, counters *sink.Metrics, client *clickhouse.Client) error {
	results, err := kafka.NewResults(cfg.Kafka, 0, log)
	if err != nil {
		return err
	}
	defer results.Close()
	return sink.New(cfg.Stream.Inserts, results, client, parker, counters, log).Run(ctx)
}

// streamReady says whether records can be read and results stored.
func streamReady(ctx context.Context, cfg *config.Config, topics *topics, client *clickhouse.Client) error {
	if err := topics.ready(ctx); err != nil {
		return err
	}
	if !cfg.Stream.Sink {
		return nil
	}
	if err := client.Ready(ctx); err != nil {
		return fmt.Errorf("ClickHouse: %w", err)
	}
	return nil
}

func topology(workers []*pipeline.Worker) []*pipeline.Topology {
	out := make([]*pipeline.Topology, len(workers))
	for i, worker := range workers {
		out[i] = worker.Topology()
	}
	return out
}
