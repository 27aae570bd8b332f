package sink

import (
	"cmp"
	"slices"
	"time"
)

// LaneTopology is one results partition of a sink: what /topology shows, at most about a second old.
type LaneTopology struct {
	Topic      string    `json:"-"` // id, as in tokens
	Resumed    bool      `json:"-"` // it was let insert: see Sink.BeforeResuming
	Partition  int32     `json:"partition"`
	Next       int64     `json:"next_offset"` // every record before it is stored or parked
	Lag        int64     `json:"lag_records"` // readable and not yet stored
	Buffered   int64     `json:"buffered_bytes"`
	Waiting    float64   `json:"waiting_seconds"` // for how long the oldest record has been here, stored by nobody
	Storing    float64   `json:"storing_seconds"` // what it takes to store the results of an epoch
	Blocks     uint64    `json:"blocks"`          // stored since the partition was taken
	Tried      uint64    `json:"tried_again"`     // inserts that did not succeed since then
	Parked     uint64    `json:"parked"`          // since then
	LastInsert time.Time `json:"last_insert"`     // zero before the first
	LastTable  string    `json:"last_table,omitempty"`
	Error      string    `json:"error,omitempty"` // why the first record waits; empty when none does
}

// progress is what a lane's goroutine tells of itself. The lane's mu guards it.
type progress struct {
	blocks, tried, parked uint64
	inserted              time.Time
	table                 string
	waits                 error
	storing               recent
}

// recent are the last few epochs, by what it took to store them.
type recent struct {
	took [5]time.Duration
	n    int
}

func (r *recent) add(took time.Duration) {
	r.took[r.n%len(r.took)] = took
	r.n++
}

// median is not moved by one epoch that a pause of the server has delayed.
func (r *recent) median() time.Duration {
	sorted := slices.Sorted(slices.Values(r.took[:min(r.n, len(r.took))]))
	if len(sorted) == 0 {
		return 0
	}
	return sorted[len(sorted)/2]
}

// endEpoch follows the last record of a transaction. One of another source partition's owner, or of no results, has
// nothing to store.
func (l *lane) endEpoch() {
	if l.spent > 0 {
		l.note(func(p *progress) { p.storing.add(l.spent) })
	}
	l.spent = 0
}

// Topology is what the lanes looked like when they were last polled, by partition. Safe for concurrent use; the result
// is shared and not to be changed.
func (s *Sink) Topology() []LaneTopology {
	if lanes := s.topology.Load(); lanes != nil {
		return *lanes
	}
	return nil
}

// Waiting is for how long the oldest record of all lanes had been here when they were last polled, stored by nobody. It
// is how far ClickHouse is behind. Safe for concurrent use.
func (s *Sink) Waiting() time.Duration {
	return s.most(func(lane *LaneTopology) float64 { return lane.Waiting })
}

// Storing is what it takes to store the results of an epoch, of the lane that takes longest; 0 before the first. Safe for
// concurrent use.
func (s *Sink) Storing() time.Duration {
	return s.most(func(lane *LaneTopology) float64 { return lane.Storing })
}

func (s *Sink) most(seconds func(*LaneTopology) float64) time.Duration {
	most, lanes := 0.0, s.Topology()
	for i := range lanes {
		most = max(most, seconds(&lanes[i]))
	}
	return time.Duration(most * float64(time.Second))
}

func (s *Sink) publish() {
	lanes := make([]LaneTopology, 0, len(s.lanes))
	for _, l := range s.lanes {
		lanes = append(lanes, l.topology())
	}
	slices.SortFunc(lanes, func(a, b LaneTopology) int { return cmp.Compare(a.Partition, b.Partition) })
	s.topology.Store(&lanes)
}

func (l *lane) topology() LaneTopology {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := LaneTopology{
		Topic: l.topic, Resumed: l.resumed.Load(), Partition: l.partition, Next: l.done.Load(), Lag: l.lag(),
		Buffered: l.bytes, Waiting: l.waiting().Seconds(), Storing: l.progress.storing.median().Seconds(),
		Blocks: l.progress.blocks, Tried: l.progress.tried, Parked: l.progress.parked,
		LastInsert: l.progress.inserted, LastTable: l.progress.table,
	}
	if l.progress.waits != nil {
		t.Error = l.progress.waits.Error()
	}
	return t
}

// note changes what the lane tells of itself.
func (l *lane) note(change func(*progress)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(&l.progress)
}
