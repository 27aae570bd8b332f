package kafka

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
)

// revocations remember which partitions of a topic were taken from a consumer since it was last asked.
type revocations struct {
	topic string

	mu    sync.Mutex
	since map[int32]bool
}

func newRevocations(topic string) *revocations {
	return &revocations{topic: topic, since: map[int32]bool{}}
}

// options are what the consumer needs. It has to allow rebalances after each poll: what a poll returns and what take
// says must belong to the same moment.
func (r *revocations) options() []kgo.Opt {
	add := func(_ context.Context, _ *kgo.Client, partitions map[string][]int32) { r.add(partitions[r.topic]) }
	return []kgo.Opt{kgo.BlockRebalanceOnPoll(), kgo.OnPartitionsRevoked(add), kgo.OnPartitionsLost(add)}
}

func (r *revocations) add(partitions []int32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, partition := range partitions {
		r.since[partition] = true
	}
}

// take returns them, ascending, and forgets them.
func (r *revocations) take() []int32 {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := slices.Sorted(maps.Keys(r.since))
	clear(r.since)
	return list
}
