package sqlgate

import (
	"errors"
	"fmt"

	"github.com/vigie-io/vigie/internal/units"
)

// Config bounds the SQL endpoint beyond tenants.Limits.
type Config struct {
	// MaxQuerySize is the longest statement taken, decompressed. Default 256KiB.
	MaxQuerySize units.Bytes `yaml:"max_query_size"`
	// Database is where bare table names are looked up. Default api.
	Database string `yaml:"database"`
	// TenantThreads is how many threads of ClickHouse the statements of one tenant share, so that many heavy ones of
	// one leave the processors to others: a statement that begins while n of its tenant run, itself one of them, has at
	// most an n-th of them, but at least one, and never more than clickhouse.sql.max_threads. Default 8.
	TenantThreads int `yaml:"tenant_threads"`
}

// DefaultConfig is the configuration without any setting.
func DefaultConfig() Config {
	return Config{MaxQuerySize: 256 << 10, Database: "api", TenantThreads: 8}
}

// Validate says which fields cannot be.
func (c *Config) Validate() error {
	var errs []error
	if c.MaxQuerySize <= 0 || c.MaxQuerySize > 64<<20 {
		errs = append(errs, fmt.Errorf("max_query_size %s: want more than zero and at most 64MiB", c.MaxQuerySize))
	}
	if c.Database == "" {
		errs = append(errs, errors.New("database: want the name of the database with the views, api"))
	}
	if c.TenantThreads < 1 {
		errs = append(errs, fmt.Errorf("tenant_threads %d: want at least 1", c.TenantThreads))
	}
	return errors.Join(errs...)
}
