package config

import (
	"slices"
	"testing"

	"github.com/vigie-io/vigie/internal/auth"
	"github.com/vigie-io/vigie/internal/tenants"
)

func TestChanges(t *testing.T) {
	f := func(change func(*Config), applied, restart []string) {
		t.Helper()
		old, fresh := Default(), Default()
		change(&fresh)
		gotApplied, gotRestart := Changes(&old, &fresh)
		if !slices.Equal(gotApplied, applied) || !slices.Equal(gotRestart, restart) {
			t.Errorf("got %v and %v, want %v and %v", gotApplied, gotRestart, applied, restart)
		}
	}
	f(func(*Config) {}, nil, nil)
	f(func(c *Config) { c.Tenants.Overrides = map[tenants.ID]tenants.Limits{"acme": {Shards: 2}} }, []string{"tenants.overrides"}, nil)
	f(func(c *Config) { c.Auth.Keys = []auth.Key{{Tenant: "acme"}} }, []string{"auth.keys"}, nil)
	f(func(c *Config) { c.Tenants.Defaults.ActiveSeries++ }, []string{"tenants.defaults.active_series"}, nil)
	f(func(c *Config) { c.Kafka.Brokers = []string{"a:1"}; c.Log.Level = "debug" }, nil, []string{"log.level", "kafka.brokers"})
	// Two secrets look the same when they are printed, and are not.
	f(func(c *Config) { c.ClickHouse.Password = "a" }, nil, []string{"clickhouse.password"})
	f(func(c *Config) { c.Tenants.Defaults.MaxLabels++ }, []string{"tenants.defaults.max_labels"}, nil)
	old, fresh := Default(), Default()
	old.ClickHouse.Password, fresh.ClickHouse.Password = "a", "b"
	if _, restart := Changes(&old, &fresh); !slices.Equal(restart, []string{"clickhouse.password"}) {
		t.Errorf("another secret: got %v, want clickhouse.password", restart)
	}
}
