package querylog

import (
	"errors"
	"fmt"
	"time"

	"github.com/vigie-io/vigie/internal/units"
)

// Config bounds the log.
type Config struct {
	// Enabled says whether queries are logged. Default true.
	Enabled bool `yaml:"enabled"`
	// Every is the longest that a query waits to be written. Default 5s.
	Every time.Duration `yaml:"every"`
	// Queue is how many queries may wait to be written; further ones are counted and lost. Default 4096.
	Queue int `yaml:"queue"`
	// MaxText is how much is kept of a query's text and of a slow one's plan. Default 8KiB.
	MaxText units.Bytes `yaml:"max_text"`
}

// DefaultConfig is the configuration without any setting.
func DefaultConfig() Config {
	return Config{Enabled: true, Every: 5 * time.Second, Queue: 4096, MaxText: 8 << 10}
}

// Validate says which fields cannot be.
func (c *Config) Validate() error {
	var errs []error
	if c.Every < 100*time.Millisecond {
		errs = append(errs, fmt.Errorf("every %s: want 100ms or more", c.Every))
	}
	if c.Queue < 1 {
		errs = append(errs, fmt.Errorf("queue %d: want at least 1", c.Queue))
	}
	if c.MaxText < 16 || c.MaxText > 1<<20 {
		errs = append(errs, fmt.Errorf("max_text %s: want 16B to 1MiB", c.MaxText))
	}
	return errors.Join(errs...)
}
