package kafka

import (
	"context"
	"slices"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
)

// losses remember which partitions of a topic were taken from a consumer since it was last asked.
type losses struct {
	topic string

	mu   sync.Mutex
	lost map[int32]bool
}

func newLosses(topic string) *losses { return &losses{topic: topic, lost: map[int32]bool{}} }

// options are what the consumer needs. It has to allow rebalances after each poll: what a poll returns and what take
// says must belong to the same moment.
func (l *losses) options() []kgo.Opt {
	lose := func(_ context.Context, _ *kgo.Client, partitions map[string][]int32) { l.lose(partitions[l.topic]) }
	return []kgo.Opt{kgo.BlockRebalanceOnPoll(), kgo.OnPartitionsRevoked(lose), kgo.OnPartitionsLost(lose)}
}

func (l *losses) lose(partitions []int32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, partition := range partitions {
		l.lost[partition] = true
	}
}

func (l *losses) take() (lost []int32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for partition := range l.lost {
		lost = append(lost, partition)
	}
	clear(l.lost)
	slices.Sort(lost)
	return lost
}
