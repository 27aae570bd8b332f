package kafka_test

import (
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
			return len(fetch.Assigned) == 8 && !slices.ContainsFunc(fetch.Assigned, func(r pipeline.Reach) bool { return r.Through < millis })
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
