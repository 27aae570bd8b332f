package simulation

import "github.com/vigie-io/vigie/internal/coarse"

// mergedUpTo is how far results partitions are merged and stored, in offsets.
type mergedUpTo map[mergedKey]int64

type mergedKey struct {
	topic     string // its id
	partition int32
}

func (m mergedUpTo) raise(at coarse.Position) {
	key := mergedKey{at.Topic, at.Partition}
	m[key] = max(m[key], at.Next)
}

// of is how far the partitions of one topic are.
func (m mergedUpTo) of(topic string) map[int32]int64 {
	out := map[int32]int64{}
	for key, next := range m {
		if key.topic == topic {
			out[key.partition] = next
		}
	}
	return out
}
