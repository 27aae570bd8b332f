package kafka

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/vigie-io/vigie/internal/pipeline"
)

// A client that is moved beyond records ends the session, in the middle of it and behind an abort. Offsets of aborted
// transactions are no such records.
func TestSkippedRecordsEndTheSession(t *testing.T) {
	ctx, _, cfg := onFake(t)
	log := slog.New(slog.DiscardHandler)
	producer, err := kgo.NewClient(kgo.SeedBrokers(cfg.Brokers...), kgo.DefaultProduceTopic(cfg.Topics.Metrics.Name), kgo.TransactionalID("outside"))
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	send := func(n int, end kgo.TransactionEndTry) {
		t.Helper()
		if err := producer.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		for range n {
			if err := producer.ProduceSync(ctx, kgo.StringRecord("event")).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		if err := producer.EndTransaction(ctx, end); err != nil {
			t.Fatal(err)
		}
	}
	var s *Session
	open := func() {
		t.Helper()
		if s, err = NewSession(ctx, cfg, 0, nil, log); err != nil {
			t.Fatal(err)
		}
	}
	// take polls n records, or until an error.
	take := func(n int) error {
		for ctx.Err() == nil && n > 0 {
			waiting, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
			fetch, err := s.Poll(waiting)
			cancel()
			if err != nil {
				return err
			}
			s.Release(fetch.Assigned...)
			for _, c := range fetch.Chunks {
				n -= c.Len()
			}
		}
		return ctx.Err()
	}
	commit := func() {
		t.Helper()
		if committed, err := s.Commit(ctx, nil); err != nil || !committed {
			t.Fatalf("commit: got %v, %v, want it committed", committed, err)
		}
	}
	// jump moves the client's place, but not what it believes to be committed.
	jump := func(offset int64) {
		source, client := map[string]map[int32]kgo.EpochOffset{}, s.group.Client()
		committed := client.CommittedOffsets()
		source[cfg.Topics.Metrics.Name] = map[int32]kgo.EpochOffset{0: {Epoch: -1, Offset: offset}}
		client.SetOffsets(source)
		s.assigned() // forgets places behind an abort
		at := pipeline.Partition{Topic: cfg.Topics.Metrics.Name}
		if _, known := s.places[at]; !known {
			s.places[at] = committed[at.Topic][at.Partition].Offset
		}
	}

	open()
	send(3, kgo.TryCommit) // offsets 0 to 2, and a marker
	if err := take(3); err != nil {
		t.Fatal(err)
	}
	commit()
	send(2, kgo.TryAbort)  // 4, 5, and a marker
	send(1, kgo.TryCommit) // 7, and a marker
	if err := take(1); err != nil {
		t.Fatalf("behind an aborted transaction: got %v, want the next record", err)
	}
	commit()
	send(3, kgo.TryCommit) // 9 to 11
	jump(10)
	if err := take(3); !errors.Is(err, ErrSkipped) {
		t.Fatalf("moved beyond a record: got %v, want ErrSkipped", err)
	}
	s.Close()
	open()
	if err := take(3); err != nil {
		t.Fatalf("the next session: got %v, want what was skipped", err)
	}
	s.revoked.Add(1) // the epoch aborts
	if committed, err := s.Commit(ctx, nil); err != nil || committed {
		t.Fatalf("commit: got %v, %v, want it aborted", committed, err)
	}
	jump(11)
	if err := take(3); !errors.Is(err, ErrSkipped) {
		t.Fatalf("moved beyond records after an abort: got %v, want ErrSkipped", err)
	}
	s.Close()
}
