package kafka

import (
	"bytes"
	"hash/maphash"

	"github.com/twmb/franz-go/pkg/kgo"
)

// repeats finds the records of a fetch that a later one of the same key takes the place of.
type repeats struct {
	seed  maphash.Seed
	last  map[uint64]int // by the hash of the key: the index of the last record seen
	stale []bool
}

func newRepeats() repeats { return repeats{seed: maphash.MakeSeed(), last: map[uint64]int{}} }

// find says of each record whether another before end has its key and comes later. Of keys whose hashes collide it may
// miss some. The result is valid until the next call.
func (r *repeats) find(records []*kgo.Record, end int64) []bool {
	clear(r.last)
	r.stale = r.stale[:0]
	for i, record := range records {
		r.stale = append(r.stale, false)
		if record.Offset >= end {
			continue
		}
		hash := maphash.Bytes(r.seed, record.Key)
		if before, known := r.last[hash]; known && bytes.Equal(records[before].Key, record.Key) {
			r.stale[before] = true
		}
		r.last[hash] = i
	}
	return r.stale
}
