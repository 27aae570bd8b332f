package coarse

import (
	"cmp"
	"maps"
	"slices"

	"github.com/vigie-io/vigie/internal/pipeline"
)

// progress is how far the results of partitions of events reach, by what records have said. Of tenants nothing is kept:
// readers go by the partitions alone, and there are many tenants.
type progress map[progressKey]reach

type progressKey struct {
	topic     string
	partition int32
}

func (k progressKey) compare(other progressKey) int {
	return cmp.Or(cmp.Compare(k.topic, other.topic), cmp.Compare(k.partition, other.partition))
}

// reach are times of pipeline.ProgressRows.
type reach struct{ time, updated int64 }

func (p progress) add(rows *pipeline.ProgressRows) {
	for i, tenant := range rows.Tenant {
		if tenant == "" {
			p.raise(progressKey{rows.Topic[i], rows.Partition[i]}, reach{rows.Time[i], rows.Updated[i]})
		}
	}
}

func (p progress) merge(other progress) {
	for key, at := range other {
		p.raise(key, at)
	}
}

func (p progress) raise(key progressKey, at reach) {
	if was, known := p[key]; known {
		at = reach{max(at.time, was.time), max(at.updated, was.updated)}
	}
	p[key] = at
}

// rows are sorted.
func (p progress) rows() *pipeline.ProgressRows {
	rows := &pipeline.ProgressRows{}
	for _, key := range slices.SortedFunc(maps.Keys(p), progressKey.compare) {
		rows.Tenant, rows.Topic = append(rows.Tenant, ""), append(rows.Topic, key.topic)
		rows.Partition = append(rows.Partition, key.partition)
		rows.Time, rows.Updated = append(rows.Time, p[key].time), append(rows.Updated, p[key].updated)
	}
	return rows
}

// held is progress that is not true of the wider tiers yet: they have to hold every results partition up to ends.
type held struct {
	progress progress
	ends     map[int32]int64
}

// mostHeld bounds how many wait. What comes beyond waits with the last.
const mostHeld = 16

// waiting is the progress that waits, oldest first: ends only grow, so one that may be published lets go all before it.
type waiting struct{ list []held }

func (w *waiting) add(of progress, ends map[int32]int64) {
	if n := len(w.list); n == mostHeld {
		of.merge(w.list[n-1].progress)
		w.list = w.list[:n-1]
	}
	w.list = append(w.list, held{of, ends})
}

// ready is how many may be published, where every partition has been merged and stored up to reached.
func (w *waiting) ready(reached map[int32]int64) int {
	for n, h := range slices.Backward(w.list) {
		if within(h.ends, reached) {
			return n + 1
		}
	}
	return 0
}

func within(ends, reached map[int32]int64) bool {
	for partition, end := range ends {
		if reached[partition] < end {
			return false
		}
	}
	return true
}

// first is what the first n say together.
func (w *waiting) first(n int) progress {
	all := progress{}
	for _, h := range w.list[:n] {
		all.merge(h.progress)
	}
	return all
}

// drop forgets the first n.
func (w *waiting) drop(n int) { w.list = slices.Delete(w.list, 0, n) }
