package testkit

import (
	"context"
	"os"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/vigie-io/vigie/internal/devstack"
)

// EnvKafka is the address (host:port) of a broker of a Kafka cluster that ApacheKafka gives instead of one of its own.
const EnvKafka = "VIGIE_TEST_KAFKA"

// Broker is a Kafka cluster to test against. It has no topics at first and creates none by itself.
type Broker struct {
	// Addr is the host:port that clients take as seed broker; a MortalCluster has several, separated by commas.
	Addr string

	t        testing.TB
	dir      string
	embedded *devstack.Kafka // nil for Apache Kafka
	nodes    []*mortal       // of MortalCluster only
}

// Kafka starts a broker in this process that one test has to itself, and ends it with the test. It keeps its records
// in the test's own temporary directory. Do not rely on what differs from Apache Kafka, see docs/real-parts.md.
func Kafka(t testing.TB) *Broker {
	t.Helper()
	b := &Broker{t: t, dir: t.TempDir()}
	b.start(FreeAddr(t))
	t.Cleanup(func() { _ = b.embedded.Close() })
	return b
}

func (b *Broker) start(addr string) {
	b.t.Helper()
	kafka, err := devstack.StartKafka(context.Background(), devstack.KafkaConfig{Addr: addr, Dir: b.dir, Log: Log(b.t)})
	if err != nil {
		b.t.Fatal(err)
	}
	b.embedded, b.Addr = kafka, kafka.Addr()
}

// Cluster is the broker's control surface for faults and delays; nil for Apache Kafka.
func (b *Broker) Cluster() *kfake.Cluster {
	if b.embedded == nil {
		return nil
	}
	return b.embedded.Cluster()
}

// Stop ends a broker of [Kafka]; its clients see a broken connection. Restart starts it again.
func (b *Broker) Stop() {
	b.t.Helper()
	b.needEmbedded()
	if err := b.embedded.Close(); err != nil {
		b.t.Fatal(err)
	}
}

// Restart stops a broker of [Kafka] if it runs and starts it again on the same address with all it had stored.
func (b *Broker) Restart() {
	b.t.Helper()
	b.Stop()
	b.start(b.Addr)
}

func (b *Broker) needEmbedded() {
	if b.embedded == nil {
		b.t.Helper()
		b.t.Fatalf("stop Kafka at %s: only a broker of testkit.Kafka can be stopped", b.Addr)
	}
}

// ApacheKafka gives a single-node Apache Kafka 4.3.1 that all tests of the binary share: use topic, group and
// transactional names of your own. It is started at the first call, as a container where EnvContainers says so.
// VIGIE_TEST_KAFKA names an outside cluster to use instead.
func ApacheKafka(t testing.TB) *Broker {
	t.Helper()
	if addr := os.Getenv(EnvKafka); addr != "" {
		return &Broker{Addr: addr, t: t}
	}
	addr, err := sharedApache.start(t)
	if missing, ok := err.(missingError); ok {
		Missing(t, "Apache Kafka", missing.Error())
	}
	if err != nil {
		t.Fatal(err)
	}
	return &Broker{Addr: addr, t: t}
}
