package coarse

import (
	"fmt"
	"time"

	"github.com/vigie-io/vigie/internal/units"
)

// Config is the merger's part of the configuration (section "stream.coarse").
type Config struct {
	// How often merged rows are committed, by the clock, so that all partitions are at about the same time. The tiers of a
	// minute and an hour are up to so much behind. Less makes more rows, which ClickHouse has to merge. Default 30s.
	Interval time.Duration `yaml:"interval"`
	// Bytes of merged rows that a process holds at most, about. The partitions that it has share them; when a share is full,
	// its rows are committed before their time. Default 64MiB.
	Memory units.Bytes `yaml:"memory"`
}

// DefaultConfig returns the documented defaults.
func DefaultConfig() Config { return Config{Interval: 30 * time.Second, Memory: 64 << 20} }

// Validate says what is wrong, naming the key within the section.
func (c *Config) Validate() error {
	switch {
	case c.Interval < 100*time.Millisecond || c.Interval > 10*time.Minute:
		return fmt.Errorf("interval %s: want 100ms to 10m", c.Interval)
	case c.Memory < 1<<20:
		return fmt.Errorf("memory %s: want at least 1MiB", c.Memory)
	}
	return nil
}
