package ingest

import (
	"fmt"
	"time"

	"github.com/vigie-io/vigie/internal/units"
)

// Config says how the HTTP door behaves for all tenants together; what one tenant may use is tenants.Limits.
type Config struct {
	// MaxInFlight bounds the memory of request bodies being handled, all tenants together, in their decompressed
	// form. Default 256MiB. Above it: 503 with Retry-After. Decoded events take about three times as much again.
	MaxInFlight units.Bytes `yaml:"max_in_flight"`
	// ReadTimeout is how long a client may take to send a body. Default 30s. After it: 400.
	ReadTimeout time.Duration `yaml:"read_timeout"`
	// PublishTimeout is how long to wait for Kafka's acknowledgement. Default 10s. After it: 503 with Retry-After.
	PublishTimeout time.Duration `yaml:"publish_timeout"`
	// RetryAfter is what a 503 asks the client to wait. Default 5s.
	RetryAfter time.Duration `yaml:"retry_after"`
	// RecordTarget is the size at which events are cut into Kafka records. Default 256KiB. A body that is wholly
	// good is forwarded as it came while it is smaller than RecordMax.
	RecordTarget units.Bytes `yaml:"record_target"`
	// RecordMax is the largest Kafka record value written; keep it below the topic's max.message.bytes and the
	// producer's batch size. Default 960KiB. A single event larger than it is refused.
	RecordMax units.Bytes `yaml:"record_max"`
	// MaxFuture is how far ahead of the clock an event's time may be. Default 5m. Stream workers check the same.
	MaxFuture time.Duration `yaml:"max_future"`
	// MaxPast is how far behind the clock an event's time may be. Default 72h. Stream workers check the same.
	MaxPast time.Duration `yaml:"max_past"`
	// MaxErrors is the number of refused events that one answer describes; all are counted. Default 100.
	MaxErrors int `yaml:"max_errors"`
	// MaxTenantLabels is the number of tenants with metrics of their own; further ones share tenant="other".
	// Default 1000.
	MaxTenantLabels int `yaml:"max_tenant_labels"`
	// MaxMetadata is the number of metrics whose help and unit are remembered from Prometheus metadata, all
	// tenants together. Default 100000. Above it they are forgotten and learnt anew.
	MaxMetadata int `yaml:"max_metadata"`
}

// DefaultConfig suits a process with 1 GiB of memory.
func DefaultConfig() Config {
	return Config{
		MaxInFlight:     256 << 20,
		ReadTimeout:     30 * time.Second,
		PublishTimeout:  10 * time.Second,
		RetryAfter:      5 * time.Second,
		RecordTarget:    256 << 10,
		RecordMax:       960 << 10,
		MaxFuture:       5 * time.Minute,
		MaxPast:         72 * time.Hour,
		MaxErrors:       100,
		MaxTenantLabels: 1000,
		MaxMetadata:     100_000,
	}
}

// Validate names the first field that cannot be.
func (c *Config) Validate() error {
	positive := []struct {
		name  string
		value int64
	}{
		{"max_in_flight", int64(c.MaxInFlight)},
		{"read_timeout", int64(c.ReadTimeout)},
		{"publish_timeout", int64(c.PublishTimeout)},
		{"retry_after", int64(c.RetryAfter)},
		{"record_target", int64(c.RecordTarget)},
		{"record_max", int64(c.RecordMax)},
		{"max_future", int64(c.MaxFuture)},
		{"max_past", int64(c.MaxPast)},
		{"max_errors", int64(c.MaxErrors)},
		{"max_tenant_labels", int64(c.MaxTenantLabels)},
		{"max_metadata", int64(c.MaxMetadata)},
	}
	for _, f := range positive {
		if f.value <= 0 {
			return fmt.Errorf("%s: got %d, want more than 0", f.name, f.value)
		}
	}
	if c.RecordTarget > c.RecordMax || c.RecordMax > 1<<20 {
		return fmt.Errorf("record_target %s, record_max %s: want record_target <= record_max <= 1MiB",
			c.RecordTarget, c.RecordMax)
	}
	return nil
}
