package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vigie-io/vigie/internal/config"
	"github.com/vigie-io/vigie/internal/demo"
	"github.com/vigie-io/vigie/internal/ingest"
	"github.com/vigie-io/vigie/internal/kafka"
	"github.com/vigie-io/vigie/internal/live"
	"github.com/vigie-io/vigie/pkg/events"
)

// selfEvery is how often this host and Vigie itself are measured.
const selfEvery = 10 * time.Second

// measured is one of Vigie's services and its metrics.
type measured struct {
	service string
	from    prometheus.Gatherer
}

// feed keeps live data coming until ctx ends: this host and Vigie itself through ingest, as tenant demo, and
// the demo shop straight to Kafka, as any producer would.
func feed(ctx context.Context, cfg config.Config, p Process, key string, services []measured) error {
	g := newGroup(ctx)
	client := &ingestClient{url: "http://" + dialable(cfg.Ingest.Listen) + "/v1/events/metrics", key: key, log: p.Log}
	if cfg.Dev.Host {
		g.run("host figures", func(ctx context.Context) error { return live.NewHost().Run(ctx, selfEvery, client.send) })
	}
	if cfg.Dev.Self {
		g.run("own metrics", func(ctx context.Context) error { return feedSelf(ctx, client, services) })
	}
	if cfg.Dev.Demo.Enabled {
		g.run("demo shop", func(ctx context.Context) error { return Demo(ctx, cfg, p) })
	}
	return g.wait()
}

func feedSelf(ctx context.Context, client *ingestClient, services []measured) error {
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("own metrics: %w", err)
	}
	ticker := time.NewTicker(selfEvery)
	defer ticker.Stop()
	for {
		now := time.Now().UnixNano()
		for _, s := range services {
			metrics, err := live.Registry(nil, s.from, s.service, host, now)
			if err != nil {
				return err
			}
			if err := client.send(ctx, metrics); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// Demo produces the demo shop's events to Kafka until ctx ends.
func Demo(ctx context.Context, cfg config.Config, p Process) error {
	p.prepare()
	producer, err := kafka.NewProducer(cfg.Kafka, kafka.NewMetrics(p.Registry), p.Log)
	if err != nil {
		return err
	}
	defer producer.Close()
	return demo.NewShop(cfg.Dev.Demo.Config).Run(ctx, func(ctx context.Context, records []demo.Record) error {
		batch := make([]ingest.Record, len(records))
		for i, r := range records {
			batch[i] = ingest.Record{Topic: topicOf(&cfg.Kafka.Topics, r.Signal), Key: r.Key, Value: r.Value}
		}
		err := producer.Publish(ctx, batch)
		if errors.Is(err, ingest.ErrUnavailable) {
			p.Log.Warn("demo shop goes on when Kafka is back; events of the pause are lost", "err", err)
			return nil
		}
		return err
	})
}

// ingestClient sends events over HTTP like any client.
type ingestClient struct {
	url, key string
	log      *slog.Logger
}

const ingestTimeout = 10 * time.Second

// send posts the events as NDJSON. An answer that says "later" is logged and the events are given up: the next
// measurement follows soon.
func (c *ingestClient) send(ctx context.Context, metrics []events.Metric) error {
	var body bytes.Buffer
	for i := range metrics {
		body.Write(events.AppendMetric(body.AvailableBuffer(), &metrics[i]))
		body.WriteByte('\n')
	}
	ctx, cancel := context.WithTimeout(ctx, ingestTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, &body)
	if err != nil {
		return fmt.Errorf("send own events: %w", err)
	}
	request.Header.Set("Authorization", "Bearer "+c.key)
	request.Header.Set("Content-Type", "application/x-ndjson")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		c.log.Warn("own events were not sent", "err", err)
		return nil
	}
	defer response.Body.Close()
	if response.StatusCode/100 != 2 {
		answer, _ := io.ReadAll(io.LimitReader(response.Body, 500))
		c.log.Warn("own events were refused", "status", response.Status, "answer", string(answer))
	}
	return nil
}
