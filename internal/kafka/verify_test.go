package kafka_test

import (
	"errors"
	"maps"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/vigie-io/vigie/internal/kafka"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/pipeline/verify"
)

// Settle waits for records, by offsets: those a group has not passed hold it up, markers behind the last do not.
func TestSourceTopicSettles(t *testing.T) {
	_, cfg := fake(t)
	producer, err := kgo.NewClient(kgo.SeedBrokers(cfg.Brokers...), kgo.TransactionalID(cfg.Group+"-plain"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	if err := producer.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	record := &kgo.Record{Topic: cfg.Topics.Metrics.Name, Key: []byte("acme"), Value: []byte(`{}`),
		Headers: []kgo.RecordHeader{{Key: "a", Value: []byte("b")}}}
	if err := producer.ProduceSync(t.Context(), record).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if err := producer.EndTransaction(t.Context(), kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	topic := kafka.NewSourceTopic(cfg, cfg.Topics.Metrics.Name, 500*time.Millisecond, quiet())
	span, err := topic.Span(t.Context(), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if len(span.Cut) > 0 || span.To[0] != 2 {
		t.Fatalf("got %+v, want partition 0 to end behind the marker, at 2, and nothing cut", span)
	}
	seen := 0
	if err := topic.Records(t.Context(), span.From, span.To, func(partition int32, r *pipeline.Record) error {
		if seen++; partition != 0 || string(r.Key) != "acme" || len(r.Headers) != 1 {
			t.Errorf("got record %+v of partition %d", r, partition)
		}
		return nil
	}); err != nil || seen != 1 {
		t.Fatalf("got %d records and %v, want one", seen, err)
	}
	if err := topic.Settle(t.Context(), span.To); !errors.Is(err, kafka.ErrBehind) {
		t.Fatalf("settle while no worker runs: got %v, want ErrBehind", err)
	}
	admin := kadm.NewClient(producer)
	offsets := kadm.Offsets{}
	offsets.AddOffset(cfg.Topics.Metrics.Name, 0, 1, -1) // behind the record, before the marker
	if err := admin.CommitAllOffsets(t.Context(), cfg.Group, offsets); err != nil {
		t.Fatal(err)
	}
	if err := topic.Settle(t.Context(), span.To); err != nil {
		t.Fatalf("settle with a marker left: %v", err)
	}
	if err := topic.Settle(t.Context(), verify.Offsets{0: 3}); !errors.Is(err, kafka.ErrBehind) {
		t.Fatalf("settle beyond the end: got %v, want ErrBehind", err)
	}
}

// Where records were deleted, a span says when the first that is left was sent, unless it begins behind it.
func TestSpanOfACutTopic(t *testing.T) {
	cluster, cfg := fake(t)
	topic, at := cfg.Topics.Metrics.Name, time.UnixMilli(1_763_892_000_000)
	for i := range 4 {
		for p := range int32(2) {
			produceRecords(t, cfg, &kgo.Record{Topic: topic, Partition: p, Value: []byte("x"), Timestamp: at.Add(time.Duration(i) * time.Minute)})
		}
	}
	if err := cluster.DeleteRecords(topic, 0, 2); err != nil {
		t.Fatal(err)
	}
	f := func(since time.Time, from int64, want map[int32]time.Time) {
		t.Helper()
		span, err := kafka.NewSourceTopic(cfg, topic, time.Minute, quiet()).Span(t.Context(), since)
		if err != nil || span.From[0] != from || !maps.EqualFunc(span.Cut, want, time.Time.Equal) {
			t.Errorf("since %s: got %+v, %v, want partition 0 from %d, cut %v", since, span, err, from, want)
		}
	}
	cut := map[int32]time.Time{0: at.Add(2 * time.Minute)}
	f(time.Time{}, 2, cut)
	f(at.Add(time.Minute), 2, cut)
	f(at.Add(3*time.Minute), 3, map[int32]time.Time{})
}
