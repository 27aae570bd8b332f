package kafka_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"go.uber.org/goleak"

	"github.com/vigie-io/vigie/internal/kafka"
	"github.com/vigie-io/vigie/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

var installations atomic.Int64

// fake starts a broker in this process.
func fake(t *testing.T, options ...kfake.Opt) (*kfake.Cluster, kafka.Config) {
	t.Helper()
	leaks(t)
	cluster, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1), kfake.SleepOutOfOrder()}, options...)...)
	if err != nil {
		t.Fatalf("start kfake: %v", err)
	}
	t.Cleanup(cluster.Close)
	return cluster, install(t, cluster.ListenAddrs()...)
}

// leaks fails the test when goroutines that it started outlive it.
func leaks(t *testing.T) {
	before := goleak.IgnoreCurrent()
	// The client may leave one behind when it is closed just as a fetch begins.
	fetching := goleak.IgnoreTopFunction("github.com/twmb/franz-go/pkg/kgo.(*fetchManager).manageFetchConcurrency")
	t.Cleanup(func() { goleak.VerifyNone(t, before, fetching) })
}

// install makes an installation of its own on a broker: topics, group and ids that no other test uses.
func install(t testing.TB, brokers ...string) kafka.Config {
	t.Helper()
	cfg := config(brokers...)
	ensure(t, cfg)
	return cfg
}

func config(brokers ...string) kafka.Config {
	unique := fmt.Sprintf("t%d-%d", os.Getpid(), installations.Add(1))
	cfg := kafka.DefaultConfig()
	cfg.Brokers, cfg.Instance, cfg.Group, cfg.TransactionalIDPrefix = brokers, "host", unique, unique
	cfg.ReachInterval = 20 * time.Millisecond
	for _, topic := range []*kafka.Topic{&cfg.Topics.Metrics, &cfg.Topics.Spans, &cfg.Topics.Logs, &cfg.Topics.StateMetrics,
		&cfg.Topics.StateSpans, &cfg.Topics.StateLogs, &cfg.Topics.Results, &cfg.Topics.DLQ, &cfg.Topics.DLQReplayed,
		&cfg.Topics.Parked, &cfg.Topics.RuleState, &cfg.Topics.Coarse, &cfg.Topics.StateCoarse} {
		topic.Name = unique + "." + topic.Name
	}
	cfg.Topics.Metrics.Partitions, cfg.Topics.Spans.Partitions, cfg.Topics.Logs.Partitions = 4, 2, 2
	return cfg
}

func ensure(t testing.TB, cfg kafka.Config) []kafka.TopicState {
	t.Helper()
	admin, err := kafka.NewAdmin(cfg, quiet())
	if err != nil {
		t.Fatalf("admin: %v", err)
	}
	defer admin.Close()
	states, err := admin.EnsureTopics(deadline(t))
	if err != nil {
		t.Fatalf("ensure topics: %v", err)
	}
	return states
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// deadline is far behind what any test takes, on any machine; it only turns a hang into a failure.
func deadline(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// client is a plain Kafka client, as an outside producer or reader has it.
func client(t *testing.T, cfg kafka.Config, options ...kgo.Opt) *kgo.Client {
	t.Helper()
	options = append(options, kgo.SeedBrokers(cfg.Brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchMaxBytes(17<<20))
	if cfg.Dial != nil {
		options = append(options, kgo.Dialer(cfg.Dial))
	}
	if cfg.SASL.Mechanism == "plain" {
		user := plain.Auth{User: cfg.SASL.Username, Pass: string(cfg.SASL.Password)}
		options = append(options, kgo.SASL(user.AsMechanism()))
	}
	c, err := kgo.NewClient(options...)
	if err != nil {
		t.Fatalf("client: %v", err)
	}
	t.Cleanup(c.Close)
	return c
}

// produce appends values to one partition.
func produce(t *testing.T, cfg kafka.Config, topic string, partition int32, values ...string) {
	t.Helper()
	var records []*kgo.Record
	for _, value := range values {
		records = append(records, &kgo.Record{Topic: topic, Partition: partition, Key: []byte("acme"), Value: []byte(value)})
	}
	produceRecords(t, cfg, records...)
}

func produceRecords(t *testing.T, cfg kafka.Config, records ...*kgo.Record) {
	t.Helper()
	c := client(t, cfg)
	defer c.Close()
	if err := c.ProduceSync(deadline(t), records...).FirstErr(); err != nil {
		t.Fatalf("produce: %v", err)
	}
}

// committed reads what a read-committed reader sees of a topic, up to its present end.
func committed(t *testing.T, cfg kafka.Config, topic string) (out []*kgo.Record) {
	t.Helper()
	c := client(t, cfg, kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(),
		kgo.FetchMaxWait(50*time.Millisecond))
	defer c.Close()
	ends := endOffsets(t, cfg, topic)
	for ctx := deadline(t); len(ends) > 0; {
		fetches := c.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			t.Fatalf("read %s: %v (left %v)", topic, err, ends)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if !r.Attrs.IsControl() {
				out = append(out, r)
			}
			if r.Offset+1 >= ends[r.Partition] {
				delete(ends, r.Partition)
			}
		})
	}
	return out
}

func endOffsets(t *testing.T, cfg kafka.Config, topic string) map[int32]int64 {
	t.Helper()
	ends := map[int32]int64{}
	listed, err := kadmOf(t, cfg).ListCommittedOffsets(deadline(t), topic)
	if err != nil || listed.Error() != nil {
		t.Fatalf("list offsets of %s: %v, %v", topic, err, listed.Error())
	}
	for _, o := range listed.Offsets()[topic] {
		if o.At > 0 {
			ends[o.Partition] = o.At
		}
	}
	return ends
}

// await polls a condition that another goroutine makes true.
func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for ctx := deadline(t); !condition(); {
		select {
		case <-ctx.Done():
			t.Fatalf("got no %s, want it", what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func header(r *kgo.Record, key string) string {
	for _, h := range r.Headers {
		if h.Key == key {
			return string(h.Value)
		}
	}
	return ""
}

func words(s string) []string { return strings.Fields(s) }
