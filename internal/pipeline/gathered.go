package pipeline

import "unsafe"

// gathered counts what a task has gathered since the last drain, as far as its pools do not know.
type gathered struct {
	panes      int // of series: each is a row
	values     int // and buckets of histograms
	services   int // groups with service rows
	names      int // bytes of what groups are called
	announced  int // bytes of announcements
	histograms int // bytes of samples
}

// group counts a group that has its first change.
func (a *gathered) group(tn *tenant, g *group) {
	names := len(tn.name) + len(g.metric) + len(g.service)
	a.names += names
	if g.distribution() {
		a.services++
		a.names += names
	}
}

// What parts of an epoch take in memory until it is committed.
const (
	cellBytes   = int(unsafe.Sizeof(cell{})) + 32 // with its place among many of a series
	listBytes   = int(unsafe.Sizeof(further{}))
	rowBytes    = rollupRowBytes + 33 // with the state of an empty sketch
	bucketBytes = 10                  // of a state: a count, and mostly a byte or two of distance from the bucket before

	// sampledSketches are about how many are looked at to know what all take.
	sampledSketches = 1 << 10
)

// Pending is what the task has gathered since the last drain: about the bytes that it takes until it is committed,
// beside what series take in any case, and bytes of dead letters.
func (t *Task) Pending() (bytes, letterBytes int64) {
	a := &t.epoch
	further, lists := int(t.cells.used), int(t.lists.used)
	sketches, buckets := t.weighSketches()
	held := further*cellBytes + lists*listBytes + sketches + a.histograms
	results := a.panes*rowBytes + a.histograms + bucketBytes*min(a.values, a.panes*fewValues+lists*(manyValues-fewValues)+buckets)
	// A service row holds no more than the rows of its series: as much as they do when there is one, next to nothing
	// when there are many.
	if series := a.panes - further; series > 0 {
		results += results * a.services / series
	}
	diverted := t.windows.Weight()
	return int64(held + results + a.names + a.announced + diverted), t.letterBytes
}

// weighSketches is what sketches take, and how many buckets they have at most, by some of them.
func (t *Task) weighSketches() (bytes, buckets int) {
	used, seen := t.sketches.used, 0
	for number := uint32(1); number <= used; number += used/sampledSketches + 1 {
		s := t.sketches.at(number)
		bytes, buckets, seen = bytes+s.Bytes(), buckets+s.Buckets(), seen+1
	}
	if seen == 0 {
		return 0, 0
	}
	return bytes * int(used) / seen, buckets * int(used) / seen
}
