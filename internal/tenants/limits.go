package tenants

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/vigie-io/vigie/internal/units"
)

// Limits are what one tenant may use. In Config.Overrides a field left out (zero) takes the default;
// "no limit" is said with a large number.
type Limits struct {
	// BytesPerSecond is the sustained rate of decompressed request bodies at ingest, per process. Default 64MiB.
	// Above it requests are answered 429 with Retry-After.
	BytesPerSecond units.Bytes `yaml:"bytes_per_second"`
	// EventsPerSecond is the sustained rate of events (samples, spans, log records) at ingest, per process.
	// Default 500000. Above it requests are answered 429 with Retry-After.
	EventsPerSecond int `yaml:"events_per_second"`
	// Burst is how many seconds' worth of the two rates may arrive at once. Default 2s. A single request larger
	// than that is still taken when the tenant has been idle, and paid off afterwards.
	Burst time.Duration `yaml:"burst"`
	// StreamEventsPerSecond is the rate of events that stream takes from Kafka, in windows of Burst by the records' own
	// timestamps, from all producers together, those that write to Kafka directly among them. Default 2000000. Each of
	// the tenant's shards has an equal part. Records above it are dropped and counted.
	StreamEventsPerSecond int `yaml:"stream_events_per_second"`
	// StreamBytesPerSecond is the same for bytes of keys and values. Default 512MiB.
	StreamBytesPerSecond units.Bytes `yaml:"stream_bytes_per_second"`
	// MaxBody is the largest request body as sent, compressed or not. Default 16MiB. Above it: 413.
	MaxBody units.Bytes `yaml:"max_body"`
	// MaxDecompressed is the largest request body after decompression; decompression stops there. Default 64MiB.
	// Above it: 413.
	MaxDecompressed units.Bytes `yaml:"max_decompressed"`
	// MaxLabels is the number of labels an event may carry. Default 64. Events with more are refused.
	MaxLabels int `yaml:"max_labels"`
	// MaxLabelName is the longest label name. Default 256B. Events with longer ones are refused.
	MaxLabelName units.Bytes `yaml:"max_label_name"`
	// MaxLabelValue is the longest label value. Default 4KiB. Events with longer ones are refused.
	MaxLabelValue units.Bytes `yaml:"max_label_value"`
	// Shards is the number of Kafka keys that ingest spreads the tenant over (tenant, tenant#1 …). Default 1.
	// Raise it for a tenant that is too much for one partition; a series always stays on its shard.
	Shards int `yaml:"shards"`
	// ActiveSeries is the number of series a tenant may have active in one stream task. Default 100000.
	// Samples of further series are dropped and counted.
	ActiveSeries int `yaml:"active_series"`
	// SeriesBytes is about the memory that the names, labels, units and descriptions of these series may take. Default
	// 128MiB. Samples of further series are dropped and counted.
	SeriesBytes units.Bytes `yaml:"series_bytes"`
	// OpenWindows is the number of windows (slices of windows that overlap, by series) that a tenant may have open, or
	// open to corrections, in one windowed rollup and stream task. Default 100000. Events of further windows are
	// dropped and counted.
	OpenWindows int `yaml:"open_windows"`
	// WindowBytes is about the memory that these windows may take. Default 64MiB. Events of further windows are dropped
	// and counted.
	WindowBytes units.Bytes `yaml:"window_bytes"`

	// QueryTimeout is the longest a PromQL or SQL query may take, its waiting for a place included. Default 30s.
	QueryTimeout time.Duration `yaml:"query_timeout"`
	// QueryConcurrency is the number of queries a tenant may run at once, per process, where query.tenant_places allows
	// as many. Default 16. Further ones wait; when query.promql.max_waiting wait, the answer is 429.
	QueryConcurrency int `yaml:"query_concurrency"`
	// QuerySamples is the number of samples one PromQL query may hold in memory. Default 20000000.
	QuerySamples int `yaml:"query_samples"`
	// QuerySeries is the number of series one PromQL selector may match. Default 100000.
	QuerySeries int `yaml:"query_series"`
	// QueryRange is the longest span of time one PromQL query may cover. Default 9600h (400 days), as far as data is
	// kept.
	QueryRange time.Duration `yaml:"query_range"`
	// SQLReadRows is the number of rows one SQL query may read. Default 500000000.
	SQLReadRows int64 `yaml:"sql_read_rows"`
	// SQLReadBytes is the amount of uncompressed data one SQL query may read. Default 50GiB.
	SQLReadBytes units.Bytes `yaml:"sql_read_bytes"`
	// SQLResultRows is the number of rows one SQL query may return. Default 1000000.
	SQLResultRows int64 `yaml:"sql_result_rows"`
	// SQLMemory is the memory one SQL query may use in ClickHouse. Default 2GiB.
	SQLMemory units.Bytes `yaml:"sql_memory"`
}

// Config says what tenants may use.
type Config struct {
	// Defaults hold for every tenant that Overrides does not name, and for the fields an override leaves out.
	Defaults Limits `yaml:"defaults"`
	// Overrides replace single limits of single tenants, by tenant.
	Overrides map[ID]Limits `yaml:"overrides"`
}

// DefaultConfig is right for a machine of a few cores that serves a handful of tenants.
func DefaultConfig() Config {
	return Config{Defaults: Limits{
		BytesPerSecond:        64 << 20,
		EventsPerSecond:       500_000,
		Burst:                 2 * time.Second,
		StreamEventsPerSecond: 2_000_000,
		StreamBytesPerSecond:  512 << 20,
		MaxBody:               16 << 20,
		MaxDecompressed:       64 << 20,
		MaxLabels:             64,
		MaxLabelName:          256,
		MaxLabelValue:         4 << 10,
		Shards:                1,
		ActiveSeries:          100_000,
		SeriesBytes:           128 << 20,
		OpenWindows:           100_000,
		WindowBytes:           64 << 20,

		QueryTimeout:     30 * time.Second,
		QueryConcurrency: 16,
		QuerySamples:     20_000_000,
		QuerySeries:      100_000,
		QueryRange:       400 * 24 * time.Hour,
		SQLReadRows:      500_000_000,
		SQLReadBytes:     50 << 30,
		SQLResultRows:    1_000_000,
		SQLMemory:        2 << 30,
	}}
}

// Unlimited are limits that nothing in the stream reaches.
func Unlimited() *Config {
	c := DefaultConfig()
	c.Defaults.StreamEventsPerSecond, c.Defaults.StreamBytesPerSecond = math.MaxInt, math.MaxInt
	c.Defaults.ActiveSeries, c.Defaults.SeriesBytes = math.MaxInt, math.MaxInt64
	c.Defaults.OpenWindows, c.Defaults.WindowBytes = math.MaxInt, math.MaxInt64
	return &c
}

// MaxShards bounds Limits.Shards.
const MaxShards = 1024

// Validate names the first field that cannot be.
func (c *Config) Validate() error {
	if err := c.Defaults.validate(true); err != nil {
		return fmt.Errorf("defaults: %w", err)
	}
	ids := make([]ID, 0, len(c.Overrides))
	for id := range c.Overrides {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		if err := Validate(id); err != nil {
			return fmt.Errorf("overrides: %w", err)
		}
		override := c.Overrides[id]
		if err := override.validate(false); err != nil {
			return fmt.Errorf("overrides: %s: %w", id, err)
		}
	}
	return nil
}

// For returns the limits of a tenant. It is cheap enough to call per request and safe for concurrent use.
func (c *Config) For(id ID) Limits {
	d := c.Defaults
	o, found := c.Overrides[id]
	if !found {
		return d
	}
	return Limits{
		BytesPerSecond:        cmp.Or(o.BytesPerSecond, d.BytesPerSecond),
		EventsPerSecond:       cmp.Or(o.EventsPerSecond, d.EventsPerSecond),
		Burst:                 cmp.Or(o.Burst, d.Burst),
		StreamEventsPerSecond: cmp.Or(o.StreamEventsPerSecond, d.StreamEventsPerSecond),
		StreamBytesPerSecond:  cmp.Or(o.StreamBytesPerSecond, d.StreamBytesPerSecond),
		MaxBody:               cmp.Or(o.MaxBody, d.MaxBody),
		MaxDecompressed:       cmp.Or(o.MaxDecompressed, d.MaxDecompressed),
		MaxLabels:             cmp.Or(o.MaxLabels, d.MaxLabels),
		MaxLabelName:          cmp.Or(o.MaxLabelName, d.MaxLabelName),
		MaxLabelValue:         cmp.Or(o.MaxLabelValue, d.MaxLabelValue),
		Shards:                cmp.Or(o.Shards, d.Shards),
		ActiveSeries:          cmp.Or(o.ActiveSeries, d.ActiveSeries),
		SeriesBytes:           cmp.Or(o.SeriesBytes, d.SeriesBytes),
		OpenWindows:           cmp.Or(o.OpenWindows, d.OpenWindows),
		WindowBytes:           cmp.Or(o.WindowBytes, d.WindowBytes),

		QueryTimeout:     cmp.Or(o.QueryTimeout, d.QueryTimeout),
		QueryConcurrency: cmp.Or(o.QueryConcurrency, d.QueryConcurrency),
		QuerySamples:     cmp.Or(o.QuerySamples, d.QuerySamples),
		QuerySeries:      cmp.Or(o.QuerySeries, d.QuerySeries),
		QueryRange:       cmp.Or(o.QueryRange, d.QueryRange),
		SQLReadRows:      cmp.Or(o.SQLReadRows, d.SQLReadRows),
		SQLReadBytes:     cmp.Or(o.SQLReadBytes, d.SQLReadBytes),
		SQLResultRows:    cmp.Or(o.SQLResultRows, d.SQLResultRows),
		SQLMemory:        cmp.Or(o.SQLMemory, d.SQLMemory),
	}
}

// validate checks every field; only complete limits may not leave one at zero.
func (l *Limits) validate(complete bool) error {
	fields := []struct {
		name  string
		value int64
	}{
		{"bytes_per_second", int64(l.BytesPerSecond)},
		{"events_per_second", int64(l.EventsPerSecond)},
		{"burst", int64(l.Burst)},
		{"stream_events_per_second", int64(l.StreamEventsPerSecond)},
		{"stream_bytes_per_second", int64(l.StreamBytesPerSecond)},
		{"max_body", int64(l.MaxBody)},
		{"max_decompressed", int64(l.MaxDecompressed)},
		{"max_labels", int64(l.MaxLabels)},
		{"max_label_name", int64(l.MaxLabelName)},
		{"max_label_value", int64(l.MaxLabelValue)},
		{"shards", int64(l.Shards)},
		{"active_series", int64(l.ActiveSeries)},
		{"series_bytes", int64(l.SeriesBytes)},
		{"open_windows", int64(l.OpenWindows)},
		{"window_bytes", int64(l.WindowBytes)},
		{"query_timeout", int64(l.QueryTimeout)},
		{"query_concurrency", int64(l.QueryConcurrency)},
		{"query_samples", int64(l.QuerySamples)},
		{"query_series", int64(l.QuerySeries)},
		{"query_range", int64(l.QueryRange)},
		{"sql_read_rows", l.SQLReadRows},
		{"sql_read_bytes", int64(l.SQLReadBytes)},
		{"sql_result_rows", l.SQLResultRows},
		{"sql_memory", int64(l.SQLMemory)},
	}
	for _, f := range fields {
		if f.value < 0 || complete && f.value == 0 {
			return fmt.Errorf("%s: got %d, want more than 0", f.name, f.value)
		}
	}
	if l.Shards > MaxShards {
		return fmt.Errorf("shards: got %d, want at most %d", l.Shards, MaxShards)
	}
	return nil
}
