package kafka_test

import (
	"crypto/rand"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/vigie-io/vigie/internal/pipeline"
)

// Looks at the ends of partitions look up no leaders, and find new ones when leaders move.
func TestReachKnowsTheLeaders(t *testing.T) {
	cluster, cfg := fake(t, kfake.NumBrokers(3))
	var metadata, offsets atomic.Int64
	cluster.ControlKey(int16(kmsg.Metadata), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		metadata.Add(1)
		return nil, nil, false
	})
	cluster.ControlKey(int16(kmsg.ListOffsets), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		offsets.Add(1)
		return nil, nil, false
	})
	topic := cfg.Topics.Metrics.Name
	s := newSession(t, cfg, 0)
	defer s.Close()
	reached := func(millis int64) func() bool {
		return func() bool {
			fetch := poll(t, s)
			return len(fetch.Assigned) == 8 &&
				!slices.ContainsFunc(fetch.Assigned, func(r pipeline.Reach) bool { return r.Through < millis })
		}
	}
	await(t, "reach of all partitions", reached(time.Now().UnixMilli()))
	before, asked := metadata.Load(), offsets.Load()
	await(t, "600 questions", func() bool { poll(t, s); return offsets.Load() >= asked+600 })
	if got := metadata.Load() - before; got > 2 {
		t.Errorf("got %d look-ups of metadata for 600 questions about offsets, want next to none", got)
	}
	for partition := range int32(4) {
		leader := cluster.LeaderFor(topic, partition)
		if err := cluster.MoveTopicPartition(topic, partition, (leader+1)%3); err != nil {
			t.Fatal(err)
		}
	}
	await(t, "reach after the leaders have moved", reached(time.Now().Add(100*time.Millisecond).UnixMilli()))
}

// How far a partition goes on beyond what was polled is known from the answer that brought it, without a look.
func TestLagFromFetches(t *testing.T) {
	_, cfg := fake(t)
	cfg.ReachInterval, cfg.FetchBuffer = 10*time.Second, 1<<20
	topic := cfg.Topics.Metrics.Name
	const n = 8
	value := make([]byte, 900_000) // does not get smaller when it is compressed
	for range n {
		_, _ = rand.Read(value)
		produce(t, cfg, topic, 0, string(value))
	}
	s := newSession(t, cfg, 0)
	defer s.Close()
	polls := 0
	await(t, "all records", func() bool {
		fetch := poll(t, s)
		for _, r := range fetch.Assigned {
			if r.Partition.Partition == 0 && r.Next > 0 && r.Next+r.Lag != n {
				t.Fatalf("at offset %d: got a lag of %d, want %d", r.Next, r.Lag, n-r.Next)
			}
		}
		if len(fetch.Chunks) > 0 {
			polls++
		}
		return slices.ContainsFunc(fetch.Assigned, func(r pipeline.Reach) bool { return r.Next == n })
	})
	if polls < 2 {
		t.Error("got all records at once, want them in several polls")
	}
}
