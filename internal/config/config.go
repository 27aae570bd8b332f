// Package config puts the configuration of a Vigie process together from defaults, one YAML file, the environment and
// flags, and says with line and key what is wrong with it. It knows the Config of every package and starts nothing.
package config

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"

	"github.com/vigie-io/vigie/internal/auth"
	"github.com/vigie-io/vigie/internal/backfill"
	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/coarse"
	"github.com/vigie-io/vigie/internal/demo"
	"github.com/vigie-io/vigie/internal/ingest"
	"github.com/vigie-io/vigie/internal/kafka"
	"github.com/vigie-io/vigie/internal/notify"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/query/api"
	"github.com/vigie-io/vigie/internal/query/ruler"
	"github.com/vigie-io/vigie/internal/sink"
	"github.com/vigie-io/vigie/internal/telemetry"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/internal/units"
)

// Config is everything a Vigie process can be told. All services read the same file; each uses its part.
type Config struct {
	// DataDir is where `vigie dev` keeps its data and keys; nothing else uses it. Default .vigie.
	DataDir string `yaml:"data_dir"`
	// Log says how the process logs.
	Log telemetry.LogConfig `yaml:"log"`
	// Tracing says where the process sends the spans of its own HTTP calls.
	Tracing telemetry.TracingConfig `yaml:"tracing"`
	// Kafka is the broker and its topics.
	Kafka kafka.Config `yaml:"kafka"`
	// ClickHouse is the database.
	ClickHouse clickhouse.Config `yaml:"clickhouse"`
	// Auth are the API keys.
	Auth auth.Config `yaml:"auth"`
	// Tenants are the limits of each tenant.
	Tenants tenants.Config `yaml:"tenants"`
	// Ingest is the HTTP door.
	Ingest Ingest `yaml:"ingest"`
	// Stream are the workers and the sink.
	Stream Stream `yaml:"stream"`
	// Query is the PromQL and SQL service.
	Query Query `yaml:"query"`
	// Rules are the tenants' Prometheus rules, which query evaluates.
	Rules ruler.Config `yaml:"rules"`
	// Backfill is what `vigie backfill` alone needs.
	Backfill Backfill `yaml:"backfill"`
	// Dev is what `vigie dev` alone needs.
	Dev Dev `yaml:"dev"`
}

// Ingest configures the service of that name.
type Ingest struct {
	// Listen is the address events and the admin endpoints are served on. Default 127.0.0.1:7071.
	Listen string `yaml:"listen"`

	ingest.Config `yaml:",inline"`
}

// Stream configures the service of that name.
type Stream struct {
	// Listen is the address of the admin endpoints. Default 127.0.0.1:7072.
	Listen string `yaml:"listen"`
	// Workers is the number of workers, each with its own transactional session. Default 0: one per core.
	Workers int `yaml:"workers"`
	// Sink says whether this process also moves results to ClickHouse. Default true.
	Sink bool `yaml:"sink"`

	pipeline.Config `yaml:",inline"`

	// Inserts are the sinks' own settings.
	Inserts sink.Config `yaml:"inserts"`
	// Coarse is how rows for the tiers of a minute and an hour are merged. It is where the sink is.
	Coarse coarse.Config `yaml:"coarse"`
	// Alertmanager says who is told of alerts.
	Alertmanager notify.Config `yaml:"alertmanager"`
}

// WorkerCount is the number of workers to run.
func (s Stream) WorkerCount() int {
	if s.Workers > 0 {
		return s.Workers
	}
	return runtime.GOMAXPROCS(0)
}

// Query configures the service of that name.
type Query struct {
	// Listen is the address PromQL, SQL and the admin endpoints are served on. Default 127.0.0.1:7070.
	Listen string `yaml:"listen"`

	api.Config `yaml:",inline"`
}

// Backfill configures `vigie backfill`.
type Backfill struct {
	// S3 is where files named s3://bucket/key are.
	S3 backfill.S3Config `yaml:"s3"`
}

// Dev configures `vigie dev`.
type Dev struct {
	// KafkaListen is the embedded broker's loopback address. Default 127.0.0.1:7092.
	KafkaListen string `yaml:"kafka_listen"`
	// ClickHouseHTTP is the embedded ClickHouse's loopback address for HTTP. Default 127.0.0.1:7123.
	ClickHouseHTTP string `yaml:"clickhouse_http"`
	// ClickHouseNative is its loopback address for the native protocol. Default 127.0.0.1:7900.
	ClickHouseNative string `yaml:"clickhouse_native"`
	// Host says whether this machine's own figures are fed in. Default true.
	Host bool `yaml:"host"`
	// Self says whether Vigie's own metrics and spans are fed in. Default true.
	Self bool `yaml:"self"`
	// Demo is the demo shop; `vigie demo` uses the same settings.
	Demo Demo `yaml:"demo"`
}

// Demo is the demo shop in `vigie dev`.
type Demo struct {
	// Enabled says whether `vigie dev` feeds the shop's events in. Default true.
	Enabled bool `yaml:"enabled"`

	demo.Config `yaml:",inline"`
}

// Default is the configuration that works on a developer's machine.
func Default() Config {
	return Config{
		DataDir:    ".vigie",
		Log:        telemetry.DefaultLogConfig(),
		Kafka:      kafka.DefaultConfig(),
		ClickHouse: clickhouse.DefaultConfig(),
		Auth:       auth.DefaultConfig(),
		Tenants:    tenants.DefaultConfig(),
		Ingest:     Ingest{Listen: "127.0.0.1:7071", Config: ingest.DefaultConfig()},
		Stream: Stream{Listen: "127.0.0.1:7072", Sink: true, Config: pipeline.DefaultConfig(), Inserts: sink.DefaultConfig(),
			Coarse: coarse.DefaultConfig(), Alertmanager: notify.DefaultConfig()},
		Backfill: Backfill{S3: backfill.DefaultS3Config()},
		Query:    Query{Listen: "127.0.0.1:7070", Config: api.DefaultConfig()},
		Rules:    ruler.DefaultConfig(),
		Dev: Dev{
			KafkaListen: "127.0.0.1:7092", ClickHouseHTTP: "127.0.0.1:7123", ClickHouseNative: "127.0.0.1:7900",
			Host: true, Self: true, Demo: Demo{Enabled: true, Config: demo.DefaultConfig()},
		},
	}
}

// Validate reports everything that is wrong, each with its key.
func (c *Config) Validate() error {
	errs := []error{
		c.Log.Validate(), c.Tracing.Validate(), c.Kafka.Validate(), c.ClickHouse.Validate(),
		in("auth", c.Auth.Validate()), in("tenants", c.Tenants.Validate()),
		in("ingest", c.Ingest.Config.Validate()), in("stream", c.Stream.Config.Validate()),
		in("stream.inserts", c.Stream.Inserts.Validate()),
		in("stream.coarse", c.Stream.Coarse.Validate()),
		in("stream.alertmanager", c.Stream.Alertmanager.Validate()),
		in("query", c.Query.Config.Validate()),
		in("rules", c.Rules.Validate()),
		in("backfill.s3", c.Backfill.S3.Validate()),
		in("dev.demo", c.Dev.Demo.Config.Validate()),
		address("ingest.listen", c.Ingest.Listen), address("stream.listen", c.Stream.Listen),
		address("query.listen", c.Query.Listen),
		address("dev.kafka_listen", c.Dev.KafkaListen), address("dev.clickhouse_http", c.Dev.ClickHouseHTTP),
		address("dev.clickhouse_native", c.Dev.ClickHouseNative),
	}
	if c.DataDir == "" {
		errs = append(errs, errors.New("data_dir: want a directory, such as .vigie"))
	}
	if c.Stream.Workers < 0 || c.Stream.Workers > 1024 {
		errs = append(errs, fmt.Errorf("stream.workers %d: want 0 (one per core) to 1024", c.Stream.Workers))
	}
	return errors.Join(append(errs, c.blocksFit(), c.shardedAlerts())...)
}

// blocksFit names blocks that may be too large for a message of their topic: no epoch that has one could be committed.
func (c *Config) blocksFit() error {
	const lastRow = 1 << 20 // it may pass a block's bounds
	topics := &c.Kafka.Topics
	var errs []error
	if have, want := topics.Results.MaxMessage, c.Stream.BlockBytes+lastRow; have < want {
		errs = append(errs, fmt.Errorf("kafka.topics.results.max_message %s: want 1MiB more than stream.block_bytes, %s at least", have, want))
	}
	if have, want := topics.Coarse.MaxMessage, units.Bytes(coarse.BlockBytes+lastRow); have < want {
		errs = append(errs, fmt.Errorf("kafka.topics.coarse.max_message %s: want %s at least, for a block of merged rows", have, want))
	}
	return errors.Join(errs...)
}

// shardedAlerts names the alerts of tenants that are spread over several keys: each of their partitions would judge a
// part.
func (c *Config) shardedAlerts() error {
	var errs []error
	for i, a := range c.Stream.Alerts {
		for _, id := range a.Tenants {
			if n := c.Tenants.For(id).Shards; n > 1 {
				errs = append(errs, fmt.Errorf("stream.alerts[%d] %q: tenant %s has %d shards, and an alert sees one: "+
					"set its shards to 1, or use a rule over PromQL", i, a.Name, id, n))
			}
		}
	}
	return errors.Join(errs...)
}

// in names the section of an error.
func in(section string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", section, err)
}

func address(key, value string) error {
	_, port, err := net.SplitHostPort(value)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	if err != nil {
		return fmt.Errorf("%s %q: want host:port, such as 127.0.0.1:7070", key, value)
	}
	return nil
}

// Logger is the logger that the configuration asks for, writing to w.
func (c *Config) Logger(w io.Writer) *slog.Logger { return telemetry.NewLogger(c.Log, w) }
