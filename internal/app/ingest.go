package app

import (
	"context"
	"net/http"

	"github.com/vigie-io/vigie/internal/auth"
	"github.com/vigie-io/vigie/internal/config"
	"github.com/vigie-io/vigie/internal/ingest"
	"github.com/vigie-io/vigie/internal/kafka"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
)

var _ Runner = Ingest

// Ingest takes events over HTTP and appends them to Kafka.
func Ingest(ctx context.Context, cfg config.Config, p Process) error {
	p.prepare()
	endpoint, err := p.open(ctx, cfg, cfg.Ingest.Listen, "ingest.listen")
	if err != nil {
		return err
	}
	defer endpoint.release()
	endpoint.tenants = true
	reload, err := newReloader(cfg, &p, endpoint.listener.Addr())
	if err != nil {
		return err
	}
	producer, err := kafka.NewProducer(cfg.Kafka, kafka.NewMetrics(p.Registry), p.Log)
	if err != nil {
		return err
	}
	defer producer.Close()
	server, err := ingest.New(ingest.Options{
		Config:       cfg.Ingest.Config,
		Publisher:    producer,
		Authenticate: func(r *http.Request) (tenants.ID, error) { return reload.keys.Tenant(r, auth.Write) },
		Limits:       reload.limits.For,
		Topic:        func(signal events.Signal) string { return topicOf(&cfg.Kafka.Topics, signal) },
		Registerer:   p.Registry,
		Log:          p.Log,
	})
	if err != nil {
		return err
	}
	endpoint.mux.Handle("/", server)
	topics := newTopics(cfg.Kafka, p.Log)
	g := newGroup(ctx)
	g.run("topics", topics.ensure)
	g.run("ingest", func(ctx context.Context) error {
		defer g.stop()
		return endpoint.serve(ctx, reload, &p, topics.ready)
	})
	return g.wait()
}

// topicOf is the source topic of a signal.
func topicOf(topics *kafka.Topics, signal events.Signal) string {
	switch signal {
	case events.Metrics:
		return topics.Metrics.Name
	case events.Spans:
		return topics.Spans.Name
	case events.Logs:
		return topics.Logs.Name
	}
	panic("BUG: no topic for signal " + string(signal))
}
