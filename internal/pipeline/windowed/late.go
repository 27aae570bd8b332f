package windowed

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/vigie-io/vigie/internal/pipeline/aggregate"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/windows"
)

// Reasons for which an event is not in a window of a declared rollup.
const (
	// ReasonTooLate: the window has closed and its allowed lateness has passed.
	ReasonTooLate events.Reason = "too_late"
	// ReasonWindowLimit: the tenant has as many windows open in the rollup as it may.
	ReasonWindowLimit events.Reason = "window_limit"
)

// What became of closed windows, as metrics say it.
const (
	outcomeClosed    events.Reason = "closed"
	outcomeCorrected events.Reason = "corrected" // written again whole
	outcomeMerged    events.Reason = "merged"    // what came late, to be added
	outcomeRetracted events.Reason = "retracted" // a session that has become part of another
	outcomeDiverted  events.Reason = "diverted"  // what came late, beside the window
)

// Closed is what a window that has closed gives: a row for Blocks. It is valid during the call that it is given to.
type Closed struct {
	Tenant  string
	Outcome events.Reason // for counters

	store    *store
	emission *windows.Emission[contents]
	kind     Kind
	delta    uint64
}

// closed says what an emission is.
func (s *store) closed(e *windows.Emission[contents]) Closed {
	c := Closed{Tenant: e.Tenant, Outcome: outcomeClosed, store: s, emission: e, kind: Whole}
	switch {
	case e.Value == nil:
		c.Outcome, c.kind = outcomeRetracted, Retracted
	case e.Delta:
		c.Outcome, c.kind, c.delta = outcomeMerged, Delta, uint64(e.Version)
	case e.Version > 1:
		c.Outcome = outcomeCorrected
	}
	return c
}

// diverted are the late events of an epoch whose windows stay as they are, by window.
type diverted struct {
	cells  map[divertedCell]*divertedValue
	counts map[string]int   // cells by tenant
	bytes  map[string]int64 // and about what their contents take
}

type divertedCell struct {
	rule        uint64
	tenant, key string
	window      windows.Window
	tooLate     bool
}

// kind is that of the rows.
func (c divertedCell) kind() Kind {
	if c.tooLate {
		return TooLate
	}
	return Late
}

type divertedValue struct {
	contents
	offset int64 // of the first record: with the partition it names the row, in every replay that is committed
}

// add puts an event beside a window that it misses. It returns false when the tenant has as many, or as much, as it
// may.
func (d *diverted) add(cell divertedCell, offset int64, limits *tenants.Config, m *aggregate.Measurement, p *Particular) bool {
	v := d.cells[cell]
	if v == nil {
		if most := limits.For(tenants.ID(cell.tenant)); d.counts[cell.tenant] >= most.OpenWindows ||
			d.bytes[cell.tenant] >= int64(most.WindowBytes) {
			return false
		}
		if d.cells == nil {
			d.cells, d.counts, d.bytes = map[divertedCell]*divertedValue{}, map[string]int{}, map[string]int64{}
		}
		cell.key = strings.Clone(cell.key)
		v = &divertedValue{offset: offset}
		d.cells[cell] = v
		d.counts[cell.tenant]++
		d.bytes[cell.tenant] += int64(v.bytes())
	}
	before := v.bytes()
	v.add(m, p)
	d.bytes[cell.tenant] += int64(v.bytes() - before)
	return true
}

// divertedBytes is about what an event takes that is beside a window, without its contents.
const divertedBytes = 512

// Weight is about how many bytes the events take that are beside windows, and their rows.
func (w *Windows) Weight() int {
	n := len(w.diverted.cells) * divertedBytes
	for _, bytes := range w.diverted.bytes {
		n += 2 * int(bytes)
	}
	return n
}

// Diverted calls emit for the events of the epoch that windows have missed, ascending in tenant, rule, key, window and
// reason.
func (w *Windows) Diverted(emit func(Closed)) {
	cells := slices.SortedFunc(maps.Keys(w.diverted.cells), func(a, b divertedCell) int {
		return cmp.Or(strings.Compare(a.tenant, b.tenant), cmp.Compare(a.rule, b.rule), strings.Compare(a.key, b.key),
			cmp.Compare(a.window.Start, b.window.Start), cmp.Compare(a.window.End, b.window.End), cmp.Compare(a.kind(), b.kind()))
	})
	for _, at := range cells {
		v := w.diverted.cells[at]
		e := windows.Emission[contents]{Tenant: at.tenant, Key: at.key, Window: at.window, Version: 1, Value: &v.contents}
		emit(Closed{Tenant: at.tenant, Outcome: outcomeDiverted, store: w.store(at.rule), emission: &e, kind: at.kind(),
			delta: uint64(v.offset) + 1})
	}
}

// forget ends an epoch.
func (d *diverted) forget() {
	if d.cells != nil {
		*d = diverted{}
	}
}
