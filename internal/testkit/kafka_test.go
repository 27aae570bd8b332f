package testkit_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/vigie-io/vigie/internal/testkit"
)

func client(t *testing.T, addr string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(addr)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func createTopic(t *testing.T, addr, topic string) {
	t.Helper()
	if _, err := kadm.NewClient(client(t, addr)).CreateTopic(t.Context(), 2, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, time.Minute, func() error { // Apache Kafka shows a topic some time after creating it
		topics, err := kadm.NewClient(client(t, addr)).ListTopics(t.Context(), topic)
		if err != nil {
			return err
		}
		return topics.Error()
	})
}

// produce writes n records in one transaction.
func produce(t *testing.T, addr, topic string, n int) {
	t.Helper()
	c := client(t, addr, kgo.TransactionalID("writer-"+topic), kgo.DefaultProduceTopic(topic))
	if err := c.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		c.Produce(t.Context(), kgo.StringRecord(fmt.Sprint(i)), nil)
	}
	if err := c.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.EndTransaction(t.Context(), kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
}

// consume reads until it has n committed records.
func consume(t *testing.T, addr, topic string, n int) int {
	t.Helper()
	c := client(t, addr, kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	got := 0
	for got < n {
		fetches := c.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			t.Fatalf("after %d of %d records: %v", got, n, err)
		}
		got += fetches.NumRecords()
	}
	return got
}

func roundTrip(t *testing.T, addr, topic string) {
	t.Helper()
	createTopic(t, addr, topic)
	produce(t, addr, topic, 1000)
	if got := consume(t, addr, topic, 1000); got != 1000 {
		t.Fatalf("records of %s: got %d, want 1000", topic, got)
	}
}

func TestApacheKafkaTakesTransactions(t *testing.T) {
	broker := testkit.ApacheKafka(t)
	roundTrip(t, broker.Addr, "round-trip")
	if again := testkit.ApacheKafka(t); again.Addr != broker.Addr {
		t.Errorf("second broker: got %s, want the shared one at %s", again.Addr, broker.Addr)
	}
}

func TestKafkaKeepsRecordsOverRestart(t *testing.T) {
	broker := testkit.Kafka(t)
	roundTrip(t, broker.Addr, "round-trip")
	before := broker.Addr
	broker.Restart()
	if broker.Addr != before {
		t.Fatalf("address after restart: got %s, want %s", broker.Addr, before)
	}
	if got := consume(t, broker.Addr, "round-trip", 1000); got != 1000 {
		t.Fatalf("records after restart: got %d, want 1000", got)
	}
}

func TestKafkaCreatesNoTopicByItself(t *testing.T) {
	broker := testkit.Kafka(t)
	c := client(t, broker.Addr, kgo.AllowAutoTopicCreation(), kgo.UnknownTopicRetries(0))
	if err := c.ProduceSync(t.Context(), &kgo.Record{Topic: "unknown", Value: []byte("x")}).FirstErr(); err == nil {
		t.Fatal("produce to an unknown topic: got no error, want one")
	}
}
