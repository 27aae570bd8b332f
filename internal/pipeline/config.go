package pipeline

import (
	"errors"
	"fmt"
	"time"

	"github.com/vigie-io/vigie/internal/pipeline/alerting"
	"github.com/vigie-io/vigie/internal/pipeline/rollup"
	"github.com/vigie-io/vigie/internal/units"
	"github.com/vigie-io/vigie/pkg/events"
)

// Config says how a stream worker turns records into rollups. How many workers there are, and the source
// topics, are not its business.
type Config struct {
	// ResultsTopic receives the result blocks. Default vigie.results.v1.
	ResultsTopic string `yaml:"results_topic"`
	// DLQTopic receives the records that were refused, whole or in part. Default vigie.dlq.v1.
	DLQTopic string `yaml:"dlq_topic"`
	// StateTopics receive the changes of keyed state, by signal of the source topic. The same partition number holds
	// the state of the source partition. Taken from kafka.topics.
	StateTopics map[events.Signal]string `yaml:"-"`
	// AlertsTopic receives what alerts of the stream say. Taken from kafka.topics.
	AlertsTopic string `yaml:"-"`
	// MaxFuture is how far ahead of the worker's clock an event time may lie. Default 5m. Later events are
	// dead-lettered (too_new) and do not move their tenant's watermark.
	MaxFuture time.Duration `yaml:"max_future"`
	// MaxPast is how far behind the worker's clock an event time may lie. Default 72h, the retention of the
	// 10 s tier. Older events are dead-lettered (too_old).
	MaxPast time.Duration `yaml:"max_past"`
	// WatermarkDelay is how far a tenant's watermark stays behind its newest event. Default 5s. Longer waits
	// for slower producers, and shows the newest window later in PromQL.
	WatermarkDelay time.Duration `yaml:"watermark_delay"`
	// IdleAfter is how long a tenant must be silent in a partition that is read to its end until its windows close by
	// processing time: its own clock is then taken to go on. Default 1m. 0s: they wait for a later event.
	IdleAfter time.Duration `yaml:"idle_after"`
	// Epoch is the rhythm of transactions.
	Epoch EpochConfig `yaml:"epoch"`
	// BlockRows is the most rows one result block, and so one INSERT, holds. Default 100000.
	BlockRows int `yaml:"block_rows"`
	// BlockBytes is the most one result block holds, about. Default 12MiB. It must stay 1MiB below max.message.bytes of
	// the results topic (kafka.topics.results.max_message): the last row of a block may pass it.
	BlockBytes units.Bytes `yaml:"block_bytes"`
	// DLQMessageBytes is the largest dead letter. Default 2MiB: a source record of 1 MiB with its headers always
	// fits. A larger one is replaced by a letter that names the source position and holds no bytes of it.
	DLQMessageBytes units.Bytes `yaml:"dlq_message_bytes"`
	// DLQExcerpt is how much of a refused event its tenant finds in api.dead_letters. Default 512B, at most 64KiB. 0B:
	// nothing of it.
	DLQExcerpt units.Bytes `yaml:"dlq_excerpt"`
	// SeriesIdle is how long a series may be silent before a task forgets it. Default 10m. A forgotten series
	// no longer counts as active; when it comes back it is announced anew.
	SeriesIdle time.Duration `yaml:"series_idle"`
	// SeriesRefresh is how often an active series is announced again. Default 5m. It bounds how far the
	// last-seen time in storage is behind the truth.
	SeriesRefresh time.Duration `yaml:"series_refresh"`
	// MaxTenants is the number of tenants one task keeps apart. Default 10000. Events of further tenants are
	// dropped and counted (tenant_limit) until others have been silent for SeriesIdle.
	MaxTenants int `yaml:"max_tenants"`
	// ProgressEvery is how often a worker says how far it is, also when idle. Default 1s. PromQL evaluates up to
	// what was said last.
	ProgressEvery time.Duration `yaml:"progress_every"`
	// ProgressHold is how long a worker that is given a partition waits at most, before it says how far it is, until
	// what others wrote of that partition is stored. Default 10m, after which PromQL no longer waits for the partition
	// either. What is published without is counted (vigie_pipeline_progress_unsettled_total).
	ProgressHold time.Duration `yaml:"progress_hold"`
	// Rollups declares metrics that are derived from events, beside the default ones (docs/rollups.md). Default none.
	Rollups []rollup.Declared `yaml:"rollups"`
	// Alerts declares conditions that are judged in the stream (docs/alerts.md). Default none.
	Alerts []alerting.Alert `yaml:"alerts"`
	// CloseTimeout bounds the last commit at shutdown. Default 3s. When it passes, the epoch is left to be
	// processed again by whoever takes over.
	CloseTimeout time.Duration `yaml:"close_timeout"`
}

// EpochConfig bounds the length of an epoch, which adapts to the load between Min and Max.
type EpochConfig struct {
	// Min is the length while load is light. Default 250ms. Shorter is fresher and costs more inserts.
	Min time.Duration `yaml:"min"`
	// Max is the length that load can stretch an epoch to. Default 5s. It bounds what a crash makes a worker do
	// again, and how stale results get under load.
	Max time.Duration `yaml:"max"`
	// Backlog is the length that an epoch can have, if it is more than Max, while a worker works off a backlog: all
	// records of the epoch were in the log before it began, and more follow, so that results are late anyway; or while
	// ClickHouse is behind, so that results wait for twice as long before they are stored, and no alerts are declared.
	// Fewer rows of a series and pane are written then. Default 20s. 0s: neither makes an epoch longer than Max.
	Backlog time.Duration `yaml:"backlog"`
	// RowsPerSecond is the number of result rows a second a worker aims to stay below by stretching its epochs:
	// every active series costs a row an epoch. Default 20000, which take one to one and a half ClickHouse cores where they
	// have distributions, and a tenth of one where not.
	RowsPerSecond int `yaml:"rows_per_second"`
	// MaxBytes ends an epoch early for which a worker takes about this much memory, beside what it takes for its series
	// anyway: panes of a series beyond the newest, long lists and sketches of values, and results as they are sent.
	// Default 256MiB: a million rows of ten events. With less, a worker that works off a backlog of more series writes
	// several rows of a series and pane where one would do. It is looked at after each fetch, so an epoch can pass it
	// by what one fetch brings.
	MaxBytes units.Bytes `yaml:"max_bytes"`
}

// DefaultConfig is right for production and for a laptop.
func DefaultConfig() Config {
	return Config{
		ResultsTopic: "vigie.results.v1",
		DLQTopic:     "vigie.dlq.v1",
		StateTopics: map[events.Signal]string{
			events.Metrics: "vigie.state.metrics.v1", events.Spans: "vigie.state.spans.v1", events.Logs: "vigie.state.logs.v1",
		},
		AlertsTopic:    "vigie.alerts.v1",
		MaxFuture:      5 * time.Minute,
		MaxPast:        72 * time.Hour,
		WatermarkDelay: 5 * time.Second,
		IdleAfter:      time.Minute,
		Epoch: EpochConfig{
			Min: 250 * time.Millisecond, Max: 5 * time.Second, Backlog: 20 * time.Second,
			RowsPerSecond: 20_000, MaxBytes: 256 << 20,
		},
		BlockRows:       100_000,
		BlockBytes:      12 << 20,
		DLQMessageBytes: 2 << 20,
		DLQExcerpt:      512,
		SeriesIdle:      10 * time.Minute,
		SeriesRefresh:   5 * time.Minute,
		MaxTenants:      10_000,
		ProgressEvery:   time.Second,
		ProgressHold:    10 * time.Minute,
		CloseTimeout:    3 * time.Second,
	}
}

// Validate names every field that cannot be.
func (c *Config) Validate() error {
	var errs []error
	refuse := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	refuse(c.ResultsTopic == "", "results_topic: want the name of a topic")
	refuse(c.DLQTopic == "", "dlq_topic: want the name of a topic")
	refuse(c.ResultsTopic != "" && c.ResultsTopic == c.DLQTopic,
		"dlq_topic %q: want another topic than results_topic", c.DLQTopic)
	for _, signal := range []events.Signal{events.Metrics, events.Spans, events.Logs} {
		refuse(c.StateTopics[signal] == "", "state topic of %s: want the name of a topic", signal)
	}
	refuse(c.MaxFuture < 0, "max_future %s: want 0s or more", c.MaxFuture)
	refuse(c.MaxPast < time.Minute, "max_past %s: want 1m or more", c.MaxPast)
	refuse(c.WatermarkDelay < 0, "watermark_delay %s: want 0s or more", c.WatermarkDelay)
	refuse(c.IdleAfter < 0 || c.IdleAfter > 0 && c.IdleAfter < time.Second,
		"idle_after %s: want 0s (never), or 1s or more", c.IdleAfter)
	refuse(c.Epoch.Min < time.Millisecond, "epoch.min %s: want 1ms or more", c.Epoch.Min)
	refuse(c.Epoch.Max < c.Epoch.Min, "epoch.max %s: want at least epoch.min (%s)", c.Epoch.Max, c.Epoch.Min)
	refuse(c.Epoch.Backlog < 0, "epoch.backlog %s: want 0s or more", c.Epoch.Backlog)
	refuse(c.Epoch.RowsPerSecond < 1, "epoch.rows_per_second %d: want 1 or more", c.Epoch.RowsPerSecond)
	refuse(c.Epoch.MaxBytes < 64<<10, "epoch.max_bytes %s: want 64KiB or more", c.Epoch.MaxBytes)
	refuse(c.BlockRows < 1, "block_rows %d: want 1 or more", c.BlockRows)
	refuse(c.BlockBytes < 64<<10, "block_bytes %s: want 64KiB or more", c.BlockBytes)
	refuse(c.DLQMessageBytes < 4<<10, "dlq_message_bytes %s: want 4KiB or more", c.DLQMessageBytes)
	refuse(c.DLQExcerpt < 0 || c.DLQExcerpt > 64<<10, "dlq_excerpt %s: want 0B (none) to 64KiB", c.DLQExcerpt)
	refuse(c.SeriesIdle < time.Second, "series_idle %s: want 1s or more", c.SeriesIdle)
	refuse(c.SeriesRefresh < time.Second, "series_refresh %s: want 1s or more", c.SeriesRefresh)
	refuse(c.MaxTenants < 1, "max_tenants %d: want 1 or more", c.MaxTenants)
	refuse(c.ProgressEvery < 10*time.Millisecond, "progress_every %s: want 10ms or more", c.ProgressEvery)
	refuse(c.ProgressHold < time.Second, "progress_hold %s: want 1s or more", c.ProgressHold)
	refuse(c.CloseTimeout <= 0, "close_timeout %s: want more than 0s", c.CloseTimeout)
	if err := rollup.Validate(c.Rollups); err != nil {
		errs = append(errs, err)
	}
	if err := alerting.Validate(c.Alerts); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
