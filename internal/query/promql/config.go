package promql

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Config says how windows are read as samples. What one query may cost is in tenants.Limits.
type Config struct {
	// MaxWaiting is how many queries of one tenant may wait when its query_concurrency is used up, so that a
	// dashboard of many panels loads; further ones are answered 429. Default 64.
	MaxWaiting int `yaml:"max_waiting"`
	// Pushdown lets the database add up the series that a query cannot tell apart, as in sum by (service)
	// (rate(m[5m])). Answers are the same but for the last digits of floats. Default true.
	Pushdown bool `yaml:"pushdown"`
	// SlowQuery is from how long on a query is logged, with how it was read. 0 logs none. Default 5s.
	SlowQuery time.Duration `yaml:"slow_query"`
	// MaxSelectors bounds the selectors of one query, and the match[] of one request for series, labels or federation:
	// each is a read of the database. Default 200.
	MaxSelectors int `yaml:"max_selectors"`
	// Lookback is how long a gauge or cumulative sample stays valid for an instant selector. Queries over 1 m
	// and 1 h windows use at least two windows. Default 5m.
	Lookback time.Duration `yaml:"lookback"`
	// ActivityHorizon is how long a delta series without events still reads as zero before it ends.
	// Default 1h.
	ActivityHorizon time.Duration `yaml:"activity_horizon"`
	// LabelsWindow is how far back label and series requests look that give no start. Default 24h.
	LabelsWindow time.Duration `yaml:"labels_window"`
	// SeriesRefresh is how often the stream announces a living series again: series last announced up to this
	// much before a query's range are still considered. Keep it above the stream's series_refresh. Default 30m.
	SeriesRefresh time.Duration `yaml:"series_refresh"`
	// Retention10s is how long 10 s windows are kept; queries that reach further back use 1 m windows.
	// It must not exceed the table's TTL. Default 72h.
	Retention10s time.Duration `yaml:"retention_10s"`
	// Retention1m is the same for 1 m windows, after which 1 h windows are used. Default 720h (30 days).
	Retention1m time.Duration `yaml:"retention_1m"`
	// Retention1h is the age beyond which nothing is read. Default 9600h (400 days).
	Retention1h time.Duration `yaml:"retention_1h"`
	// BucketBounds are the le bounds of the derived <name>_bucket series, ascending, without +Inf.
	// Default 1-2.5-5 from 0.001 to 10000, then decades to 1e9.
	BucketBounds []float64 `yaml:"bucket_bounds"`
}

// DefaultConfig is the configuration without any setting.
func DefaultConfig() Config {
	return Config{
		MaxWaiting:      64,
		Pushdown:        true,
		SlowQuery:       5 * time.Second,
		MaxSelectors:    200,
		Lookback:        5 * time.Minute,
		ActivityHorizon: time.Hour,
		LabelsWindow:    24 * time.Hour,
		SeriesRefresh:   30 * time.Minute,
		Retention10s:    72 * time.Hour,
		Retention1m:     720 * time.Hour,
		Retention1h:     9600 * time.Hour,
		BucketBounds: []float64{
			0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500,
			1000, 2500, 5000, 10000, 1e5, 1e6, 1e7, 1e8, 1e9,
		},
	}
}

// Validate says which fields cannot be.
func (c *Config) Validate() error {
	var errs []error
	if c.LabelsWindow <= 0 {
		errs = append(errs, fmt.Errorf("labels_window %s: want more than zero", c.LabelsWindow))
	}
	if c.MaxWaiting < 0 {
		errs = append(errs, fmt.Errorf("max_waiting %d: want zero or more", c.MaxWaiting))
	}
	if c.SlowQuery < 0 {
		errs = append(errs, fmt.Errorf("slow_query %s: want zero or more", c.SlowQuery))
	}
	if c.MaxSelectors < 1 {
		errs = append(errs, fmt.Errorf("max_selectors %d: want at least one", c.MaxSelectors))
	}
	if c.SeriesRefresh < 0 {
		errs = append(errs, fmt.Errorf("series_refresh %s: want zero or more", c.SeriesRefresh))
	}
	if c.Lookback < 2*time.Duration(Tier10s) {
		errs = append(errs, fmt.Errorf("lookback %s: want at least two windows, 20s", c.Lookback))
	}
	if c.ActivityHorizon < time.Duration(Tier1m) {
		errs = append(errs, fmt.Errorf("activity_horizon %s: want at least 1m", c.ActivityHorizon))
	}
	if !(0 < c.Retention10s && c.Retention10s <= c.Retention1m && c.Retention1m <= c.Retention1h) {
		errs = append(errs, fmt.Errorf("retention_10s %s, retention_1m %s, retention_1h %s: want each at least the one before",
			c.Retention10s, c.Retention1m, c.Retention1h))
	}
	if len(c.BucketBounds) == 0 || !slices.IsSorted(c.BucketBounds) ||
		len(slices.Compact(slices.Clone(c.BucketBounds))) != len(c.BucketBounds) {
		errs = append(errs, fmt.Errorf("bucket_bounds %v: want at least one bound, strictly ascending", c.BucketBounds))
	}
	return errors.Join(errs...)
}
