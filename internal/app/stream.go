package app

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/coarse"
	"github.com/vigie-io/vigie/internal/config"
	"github.com/vigie-io/vigie/internal/kafka"
	"github.com/vigie-io/vigie/internal/notify"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/telemetry"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/internal/topology"
	"github.com/vigie-io/vigie/pkg/events"
)

var _ Runner = Stream

// Stream runs the workers, and the sink unless stream.sink is false.
func Stream(ctx context.Context, cfg config.Config, p Process) error {
	p.prepare()
	boundMemory(p.Log)
	endpoint, err := p.open(ctx, cfg, cfg.Stream.Listen, "stream.listen")
	if err != nil {
		return err
	}
	defer endpoint.release()
	client, err := clickhouse.NewClient(cfg.ClickHouse)
	if err != nil {
		return err
	}
	defer client.Close()
	topics := newTopics(cfg.Kafka, p.Log)
	metrics := kafka.NewMetrics(p.Registry)
	reload, err := newReloader(cfg, &p, endpoint.listener.Addr())
	if err != nil {
		return err
	}
	results, merged := newSinkRunners(&cfg, &p, client)
	mergers := coarse.NewMetrics(p.Registry)
	workers := newWorkers(&cfg, &p, topics, metrics, reload.limits, results)
	notifier := notify.New(cfg.Stream.Alertmanager, notify.NewMetrics(p.Registry), p.Log)
	endpoint.mux.Handle("GET /{$}", http.RedirectHandler("/topology", http.StatusFound))
	ready := func(ctx context.Context) error { return streamReady(ctx, &cfg, topics, client) }
	endpoint.mux.Handle("GET /topology", topology.Handler(func(ctx context.Context) *topology.Topology {
		t := describe(&cfg, &p, workers, results, merged)
		t.NotReady = whyNot(ctx, ready)
		return t
	}))

	g := newGroup(ctx)
	for _, worker := range workers {
		g.run("worker", worker.Run)
	}
	g.run("topics", func(ctx context.Context) error {
		if err := topics.ensure(ctx); err != nil || ctx.Err() != nil {
			return err
		}
		if cfg.Stream.Sink {
			g.run("sink", func(ctx context.Context) error { return results.run(ctx, metrics) })
			g.run("sink of merged results", func(ctx context.Context) error { return merged.run(ctx, metrics) })
			g.run("mergers", func(ctx context.Context) error {
				mergeResults(ctx, &cfg, &p, client, mergers)
				return nil
			})
			g.run("duplicates", func(ctx context.Context) error {
				results.watchDuplicates(ctx)
				return nil
			})
		}
		if len(cfg.Stream.Alertmanager.URLs) > 0 {
			g.run("alerts", func(ctx context.Context) error { return notifyAlerts(ctx, &cfg, notifier, p.Log) })
		}
		return nil
	})
	g.run("stream", func(ctx context.Context) error {
		defer g.stop()
		return endpoint.serve(ctx, reload, &p, ready)
	})
	return g.wait()
}

func newWorkers(cfg *config.Config, p *Process, topics *topics, connections *kafka.Metrics, limits *tenants.Live,
	results *sinkRunner) []*pipeline.Worker {
	shape := cfg.Stream.Config
	shape.ResultsTopic, shape.DLQTopic = cfg.Kafka.Topics.Results.Name, cfg.Kafka.Topics.DLQ.Name
	shape.AlertsTopic = cfg.Kafka.Topics.Alerts.Name
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
				session, err := opened(ctx, topics, func() (*kafka.Session, error) {
					return kafka.NewSession(ctx, cfg.Kafka, slot, connections, p.Log.With("worker", slot))
				})
				if err != nil {
					return nil, nil, err
				}
				return session, session.Close, nil
			},
			Limits: limits.Config, Storing: results.storing,
		})
	}
	return workers
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

// whyNot is what a check says within a second; "" is nothing.
func whyNot(ctx context.Context, ready telemetry.Check) string {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if err := ready(ctx); err != nil {
		return err.Error()
	}
	return ""
}

// describe draws the picture that /topology shows.
func describe(cfg *config.Config, p *Process, workers []*pipeline.Worker, results, merged *sinkRunner) *topology.Topology {
	host, _ := os.Hostname()
	t := &topology.Topology{
		Instance: cmp.Or(cfg.Kafka.Instance, host), Version: p.Version, At: time.Now(), Sink: results.topology(),
		Merged:  merged.topology(),
		Workers: make([]*pipeline.Topology, len(workers)),
	}
	for i, worker := range workers {
		t.Workers[i] = worker.Topology()
	}
	return t
}
