package app

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/vigie-io/vigie/internal/backfill"
	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/config"
	"github.com/vigie-io/vigie/internal/kafka"
	"github.com/vigie-io/vigie/internal/pipeline/verify"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/internal/units"
	"github.com/vigie-io/vigie/pkg/events"
)

// Verification says what to verify.
type Verification struct {
	Topic        string   // "": the files alone
	Files        []string // patterns of all files that Job has loaded, beside the topic
	Job          string
	Table        verify.Table // of verify.Tables, or verify.Windows
	Merged       bool         // wait for what Merged tables hold also when Table is none of them
	Tenant       tenants.ID
	Since, Until time.Time
	Memory       units.Bytes
	Wait         time.Duration // for results that are not stored yet
	Now          time.Time
	Settled      verify.Offsets // as in verify.Config; of another table's summary
}

// Verify counts the records of a source topic again and compares with ClickHouse; report is called for every
// difference.
func Verify(ctx context.Context, cfg config.Config, of Verification, log *slog.Logger,
	report func(verify.Difference)) (verify.Summary, error) {
	var signal events.Signal
	if of.Topic != "" {
		var err error
		if signal, err = signalOf(&cfg.Kafka.Topics, of.Topic); err != nil {
			return verify.Summary{}, err
		}
	}
	client, err := readyClickHouse(ctx, &cfg)
	if err != nil {
		return verify.Summary{}, err
	}
	defer client.Close()
	store, loaded := clickhouse.NewStore(client), clickhouse.NewBackfill(client)
	replaced, err := loaded.Replaced(ctx)
	if err != nil {
		return verify.Summary{}, err
	}
	what := recountOf(&cfg, &of, signal)
	what.Replaced = func(tenant, metric string, start int64) bool { return replaced.Find(tenant, metric, start) != nil }
	what.ReplacedWindow = func(tenant, metric string, start, end int64) bool {
		return replaced.FindWindow(tenant, metric, start, end) != nil
	}
	var source verify.Source
	if of.Topic != "" {
		topic := kafka.NewSourceTopic(cfg.Kafka, of.Topic, of.Wait, log)
		if of.Merged || of.Table.Merged() {
			topic.AwaitMerged()
		}
		source = topic
	}
	if len(of.Files) > 0 {
		if err := recountFiles(ctx, &cfg, &of, &what, loaded); err != nil {
			return verify.Summary{}, err
		}
	}
	if of.Table == verify.Windows() {
		return verify.RunWindows(ctx, what, source, store, report)
	}
	if what.Added, err = loaded.Added(ctx, of.Job); err != nil {
		return verify.Summary{}, err
	}
	return verify.Run(ctx, what, source, store, report)
}

// recountOf is what to count of a topic, by the settings that the stream runs with.
func recountOf(cfg *config.Config, of *Verification, signal events.Signal) verify.Config {
	return verify.Config{
		Signal: signal, Table: of.Table, Tenant: of.Tenant, Since: of.Since, Until: of.Until, Memory: of.Memory,
		MaxPast: cfg.Stream.MaxPast, MaxFuture: cfg.Stream.MaxFuture, WatermarkDelay: cfg.Stream.WatermarkDelay,
		MaxTenants: cfg.Stream.MaxTenants,
		Topic:      of.Topic,
		Rollups:    cfg.Stream.Rollups,
		SeriesIdle: cfg.Stream.SeriesIdle,
		IdleAfter:  cfg.Stream.IdleAfter,
		Limits:     cfg.Tenants.For,
		Now:        of.Now,
		Settled:    of.Settled,
	}
}

// recountFiles adds the files of a job to what is counted.
func recountFiles(ctx context.Context, cfg *config.Config, of *Verification, what *verify.Config,
	loaded *clickhouse.Backfill) error {
	job := backfillOf(cfg, backfill.Config{Job: of.Job, Patterns: of.Files})
	files, err := backfill.NewRecount(ctx, job, loaded)
	if err != nil {
		return err
	}
	if what.Signal != "" && what.Signal != files.Signal() {
		return fmt.Errorf("verify topic %s and job %s: the job has loaded %s", of.Topic, of.Job, files.Signal())
	}
	what.Signal, what.Files, what.FileDecoder, what.FileParts = files.Signal(), files, events.NewDecoder(job.Decoder), files.Parts()
	return nil
}

func signalOf(topics *kafka.Topics, name string) (events.Signal, error) {
	switch name {
	case topics.Metrics.Name:
		return events.Metrics, nil
	case topics.Spans.Name:
		return events.Spans, nil
	case topics.Logs.Name:
		return events.Logs, nil
	}
	return "", fmt.Errorf("verify topic %q: want %s, %s or %s", name, topics.Metrics.Name, topics.Spans.Name, topics.Logs.Name)
}

// replacedOf says which panes `vigie backfill -replace` has put others in the place of.
func replacedOf(ctx context.Context, client *clickhouse.Client) (func(tenant, metric string, start int64) bool, error) {
	replaced, err := clickhouse.NewBackfill(client).Replaced(ctx)
	if err != nil {
		return nil, err
	}
	return func(tenant, metric string, start int64) bool { return replaced.Find(tenant, metric, start) != nil }, nil
}
