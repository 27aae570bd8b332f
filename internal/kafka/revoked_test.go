package kafka

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/vigie-io/vigie/internal/pipeline"
)

// The balancer learns that a partition goes before the client calls back. Records that are polled in between belong to no
// task, so that the epoch must not commit their offsets.
func TestRecordsOfAPartitionThatGoesAreNotCommitted(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SleepOutOfOrder())
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cfg := DefaultConfig()
	cfg.Brokers, cfg.Instance = cluster.ListenAddrs(), "host"
	cfg.Topics.Metrics.Partitions, cfg.Topics.Spans.Partitions, cfg.Topics.Logs.Partitions = 1, 1, 1
	log := slog.New(slog.DiscardHandler)
	admin, err := NewAdmin(cfg, log)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	if _, err := admin.EnsureTopics(ctx); err != nil {
		t.Fatal(err)
	}
	s, err := NewSession(ctx, cfg, 0, nil, log)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	produce, err := kgo.NewClient(kgo.SeedBrokers(cfg.Brokers...), kgo.DefaultProduceTopic(cfg.Topics.Metrics.Name))
	if err != nil {
		t.Fatal(err)
	}
	defer produce.Close()
	poll := func() (records int) {
		waiting, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		defer cancel()
		fetch, err := s.Poll(waiting)
		if err != nil {
			t.Fatal(err)
		}
		s.Release(fetch.Assigned...)
		for _, c := range fetch.Chunks {
			records += len(c.Records)
		}
		return records
	}
	send := func() {
		if err := produce.ProduceSync(ctx, kgo.StringRecord("event")).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	send()
	for poll() == 0 && ctx.Err() == nil {
	}
	if committed, err := s.Commit(ctx, nil); err != nil || !committed {
		t.Fatalf("commit: got %v, %v, want it committed", committed, err)
	}

	source := pipeline.Partition{Topic: cfg.Topics.Metrics.Name, Partition: 0}
	s.assignment.mu.Lock()
	delete(s.assignment.current, source)
	s.assignment.mu.Unlock()
	send()
	for !s.pending && ctx.Err() == nil {
		if n := poll(); n > 0 {
			t.Fatalf("got %d records of a partition that goes, want none", n)
		}
	}
	if committed, err := s.Commit(ctx, nil); err != nil || committed {
		t.Fatalf("commit of an epoch with offsets of records that no task saw: got %v, %v, want it aborted", committed, err)
	}
}
