package kafka_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/vigie-io/vigie/internal/kafka"
	"github.com/vigie-io/vigie/internal/pipeline"
)

// storedCall is a call of Stored that is under way.
type storedCall struct {
	mu    sync.Mutex
	freed []int32
	done  chan error
}

func callStored(ctx context.Context, cfg kafka.Config, s *kafka.Session, partitions ...int32) *storedCall {
	var sources []pipeline.Partition
	for _, p := range partitions {
		sources = append(sources, pipeline.Partition{Topic: cfg.Topics.Metrics.Name, Partition: p})
	}
	c := &storedCall{done: make(chan error, 1)}
	go func() {
		c.done <- s.Stored(ctx, sources, func(p pipeline.Partition) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.freed = append(c.freed, p.Partition)
		})
	}()
	return c
}

func (c *storedCall) partitions() []int32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.freed)
}

// The owner of a partition is told that what others wrote of it is stored when the sink's group says so, and not
// before; and of partitions that nobody has had, at once. A sink that has inserted everything says so of markers too.
func testStored(t *testing.T, cfg kafka.Config) {
	produce(t, cfg, cfg.Topics.Metrics.Name, 0, "a")
	first := worker{cfg: cfg, session: newSession(t, cfg, 0)}
	commit(t, first.session, first.message(take(t, first.session, 1)))
	lane := first.session.ResultPartition()
	first.session.Close()

	second := newSession(t, cfg, 1)
	defer second.Close()
	ctx, cancel := context.WithCancel(deadline(t))
	defer cancel()
	call := callStored(ctx, cfg, second, 0, 1)
	await(t, "word of a partition without owner", func() bool { return slices.Equal(call.partitions(), []int32{1}) })

	admin := kadmOf(t, cfg)
	say := func(at int64) {
		t.Helper()
		if err := admin.CommitAllOffsets(deadline(t), cfg.Group+"-sink",
			kadm.OffsetsFromRecords(kgo.Record{Topic: cfg.Topics.Results.Name, Partition: lane, Offset: at - 1})); err != nil {
			t.Fatalf("commit for the sink: %v", err)
		}
	}
	say(1) // the record, and not its marker: for all the group says there may be more
	time.Sleep(600 * time.Millisecond)
	if got := call.partitions(); len(got) != 1 {
		t.Fatalf("got word of %v, want of partition 1 only: results are not stored", got)
	}
	cancel()
	if err := <-call.done; err == nil {
		t.Fatal("got no error, want one that says what is missing")
	}

	// A real sink passes the marker.
	into := &store{blocks: map[string]string{}, order: map[string][]int{}}
	stop := sinkOn(t, cfg, 0, into, newProducer(t, cfg))
	again := callStored(deadline(t), cfg, second, 0)
	if err := <-again.done; err != nil || !slices.Equal(again.partitions(), []int32{0}) {
		t.Fatalf("got word of %v, %v, want of partition 0", again.partitions(), err)
	}

	// What a session writes itself comes in order: it does not wait for its own results partition.
	stop(false)
	heir := newSession(t, cfg, 0)
	defer heir.Close()
	produce(t, cfg, cfg.Topics.Metrics.Name, 0, "b")
	heirs := worker{cfg: cfg, session: heir}
	if got := heir.ResultPartition(); got != lane {
		t.Fatalf("results partition of slot 0: got %d, want %d again", got, lane)
	}
	commit(t, heir, heirs.message([]string{"b"}))
	own := callStored(deadline(t), cfg, heir, 0)
	if err := <-own.done; err != nil || !slices.Equal(own.partitions(), []int32{0}) {
		t.Fatalf("got word of %v, %v, want of partition 0 at once", own.partitions(), err)
	}
}
