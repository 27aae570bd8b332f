package api

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/vigie-io/vigie/internal/query/promql"
	"github.com/vigie-io/vigie/internal/query/querylog"
	"github.com/vigie-io/vigie/internal/query/sqlgate"
	"github.com/vigie-io/vigie/internal/tenants"
)

// Config is the query service's own part of the configuration; what a tenant may use is in tenants.Limits.
type Config struct {
	// PromQL says how windows are read as samples.
	PromQL promql.Config `yaml:"promql"`
	// SQL bounds the SQL endpoint.
	SQL sqlgate.Config `yaml:"sql"`
	// Log bounds the log of queries, which tenants read in api.queries.
	Log querylog.Config `yaml:"log"`
	// TenantPlaces is how many queries of one tenant this process runs at a time where its query_concurrency allows
	// more. What runs is not interrupted, so a tenant that holds many times the processors makes every other wait as
	// many times longer, and none of its own queries faster. Default 0: twice the processors, and 4 at least.
	TenantPlaces int `yaml:"tenant_places"`
}

// DefaultConfig is the configuration without any setting.
func DefaultConfig() Config {
	return Config{PromQL: promql.DefaultConfig(), SQL: sqlgate.DefaultConfig(), Log: querylog.DefaultConfig()}
}

// Validate says which fields cannot be.
func (c *Config) Validate() error {
	var errs []error
	if err := c.PromQL.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("promql: %w", err))
	}
	if err := c.SQL.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("sql: %w", err))
	}
	if err := c.Log.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("log: %w", err))
	}
	if c.TenantPlaces < 0 {
		errs = append(errs, fmt.Errorf("tenant_places %d: want at least 1, or 0 for twice the processors", c.TenantPlaces))
	}
	return errors.Join(errs...)
}

// bounded are limits with no more queries at a time than a tenant has places here.
func (c *Config) bounded(limits func(tenants.ID) tenants.Limits) func(tenants.ID) tenants.Limits {
	most := c.TenantPlaces
	if most == 0 {
		most = max(leastPlaces, 2*runtime.GOMAXPROCS(0))
	}
	return func(t tenants.ID) tenants.Limits {
		l := limits(t)
		l.QueryConcurrency = min(l.QueryConcurrency, most)
		return l
	}
}

// leastPlaces lets a few slow queries of a tenant leave room for its dashboard, on however few processors.
const leastPlaces = 4
