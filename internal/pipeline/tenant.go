package pipeline

import (
	"cmp"
	"math/rand/v2"
	"slices"

	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
)

// tenant is what a task keeps of one tenant. Its name and all strings below are copies, never a Batch's.
type tenant struct {
	name        string
	limit       int // active series
	openWindows int // its limit of them
	windowBytes int64
	decoder     *events.Decoder
	table       series.Table[entry]
	// repeats knows events of series in table by their bytes; its numbers are the table's.
	repeats *events.Repeats
	groups  map[groupKey]*group
	dirty   []*group // with changes since the last drain
	marked  bool     // in Task.dirty
	limited int64    // processing time at which its use of limits was told last, Unix ms; 0 = tell
	seen    int64    // processing time of the last event, Unix ms
	late    uint64   // events older than the watermark, since the last drain

	// Event times in Unix ns: the newest taken, the newest of committed epochs, the newest that readers were told of.
	newest, committed, told int64
}

// bound puts limits in force. Events that were known under other limits of labels are not known any more: what is known is
// not looked at.
func (tn *tenant) bound(limits *tenants.Config, decoders *decoders) {
	of := limits.For(tenants.ID(tn.name))
	tn.limit, tn.openWindows, tn.windowBytes = of.ActiveSeries, of.OpenWindows, int64(of.WindowBytes)
	if decoder := decoders.with(&of); decoder != tn.decoder {
		tn.decoder = decoder
		tn.repeats = events.NewRepeats(rand.Uint64(), 2*min(tn.limit, maxKnown))
	}
}

// groupKey names the series that merge into one service row.
type groupKey struct {
	metric, service string
	kind            events.Kind
}

type group struct {
	groupKey
	size  int      // series
	dirty []*entry // with changes since the last drain
}

// distribution says whether series of the kind merge across series.
func (k *groupKey) distribution() bool {
	return k.kind == events.Observation || k.kind == events.Delta
}

func (k *groupKey) compare(other *groupKey) int {
	return cmp.Or(cmp.Compare(k.metric, other.metric), cmp.Compare(k.service, other.service), cmp.Compare(k.kind, other.kind))
}

// entry is one active series. Nearly all events of an epoch fall into one pane, so the first lives in place
// and keeps its memory with the series; others are borrowed from the task. Fields that every event touches come
// first: with many series each cache line costs more than the arithmetic.
type entry struct {
	touched int64 // processing time of the last event, Unix ms
	seen    int64 // newest event time, Unix ns
	dirty   bool
	native  bool  // has brought a histogram as a sample
	told    bool  // the value of native that was announced
	last    *pane // of others, that was used last; nil for none
	pane    pane

	others     []*pane // ascending in start, none equal to pane.start
	announced  int64   // processing time of the last committed announcement, Unix ms; 0 = never
	id         series.ID
	group      *group
	labels     series.Labels
	unit, help string
}

// open returns the pane that begins at start, and marks the series as changed.
func (t *Task) open(tn *tenant, e *entry, start uint32) *pane {
	if e.dirty && e.pane.start == start {
		return &e.pane
	}
	if e.dirty {
		if e.last == nil || e.last.start != start {
			e.last = t.openOther(e, start)
		}
		return e.last
	}
	t.mark(tn, e)
	t.panes++
	e.pane.reset(start)
	return &e.pane
}

func (t *Task) openOther(e *entry, start uint32) *pane {
	at, found := len(e.others), false
	if at > 0 && e.others[at-1].start == start {
		return e.others[at-1] // events come mostly in the order of time
	}
	if at > 0 && e.others[at-1].start > start {
		at, found = slices.BinarySearchFunc(e.others, start, func(p *pane, start uint32) int { return cmp.Compare(p.start, start) })
	}
	if found {
		return e.others[at]
	}
	t.panes++
	p := t.borrow(start)
	e.others = slices.Insert(e.others, at, p)
	return p
}

func (t *Task) mark(tn *tenant, e *entry) {
	e.dirty = true
	if len(e.group.dirty) == 0 {
		tn.dirty = append(tn.dirty, e.group)
	}
	e.group.dirty = append(e.group.dirty, e)
	t.touch(tn)
}

// touch marks the tenant as changed.
func (t *Task) touch(tn *tenant) {
	if !tn.marked {
		tn.marked = true
		t.dirty = append(t.dirty, tn)
	}
}

// clean ends the series' changes. A few borrowed panes go back for the next; many are left to the collector.
func (t *Task) clean(e *entry) {
	e.dirty, e.last = false, nil
	for _, p := range e.others {
		t.giveBack(p)
	}
	e.others = e.others[:0]
	if cap(e.others) > 16 {
		e.others = nil
	}
}

// borrow returns an empty pane.
func (t *Task) borrow(start uint32) *pane {
	var p *pane
	if n := len(t.pool); n > 0 {
		p, t.pool = t.pool[n-1], t.pool[:n-1]
	} else {
		p = new(pane)
	}
	p.reset(start)
	return p
}

// maxPool bounds the panes kept for use by any series, in memory of the order of MiB.
const maxPool = 4096

func (t *Task) giveBack(p *pane) {
	if len(t.pool) < maxPool {
		t.pool = append(t.pool, p)
	}
}
