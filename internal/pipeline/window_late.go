package pipeline

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/vigie-io/vigie/internal/pipeline/aggregate"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/windows"
)

// What became of closed windows, as metrics say it.
const (
	windowClosed    events.Reason = "closed"
	windowCorrected events.Reason = "corrected" // written again whole
	windowMerged    events.Reason = "merged"    // what came late, to be added
	windowRetracted events.Reason = "retracted" // a session that has become part of another
	windowDiverted  events.Reason = "diverted"  // what came late, beside the window
)

// outcome says what an emission is.
func outcome(e *windows.Emission[windowValue]) (events.Reason, WindowKind, uint64) {
	switch {
	case e.Value == nil:
		return windowRetracted, WindowRetracted, 0
	case e.Delta:
		return windowMerged, WindowDelta, uint64(e.Version)
	case e.Version > 1:
		return windowCorrected, WindowWhole, 0
	}
	return windowClosed, WindowWhole, 0
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

type divertedValue struct {
	windowValue
	offset int64 // of the first record: with the partition it names the row, in every replay that is committed
}

// divert puts an event beside a window that it misses. It returns false when the tenant has as many, or as much, as it may.
func (d *diverted) divert(cell divertedCell, offset int64, tn *tenant, m *aggregate.Measurement, p *particular) bool {
	v := d.cells[cell]
	if v == nil {
		if d.counts[cell.tenant] >= tn.openWindows || d.bytes[cell.tenant] >= tn.windowBytes {
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

// weight is about what the cells take, and their rows.
func (d *diverted) weight() int {
	n := len(d.cells) * divertedBytes
	for _, bytes := range d.bytes {
		n += 2 * int(bytes)
	}
	return n
}

// each calls emit for the rows, ascending in tenant, rule, key, window and reason.
func (d *diverted) each(emit func(rule uint64, e *windows.Emission[windowValue], kind WindowKind, delta uint64)) {
	cells := slices.SortedFunc(maps.Keys(d.cells), func(a, b divertedCell) int {
		return cmp.Or(strings.Compare(a.tenant, b.tenant), cmp.Compare(a.rule, b.rule), strings.Compare(a.key, b.key),
			cmp.Compare(a.window.Start, b.window.Start), cmp.Compare(a.window.End, b.window.End))
	})
	for _, c := range cells {
		v, kind := d.cells[c], WindowLate
		if c.tooLate {
			kind = WindowTooLate
		}
		emit(c.rule, &windows.Emission[windowValue]{Tenant: c.tenant, Key: c.key, Window: c.window, Version: 1, Value: &v.windowValue}, kind, uint64(v.offset)+1)
	}
}

// forget ends an epoch.
func (d *diverted) forget() {
	if d.cells != nil {
		*d = diverted{}
	}
}

// late counts an event by what its windows said, and puts it beside those that it missed when the rule wants that. key is the
// series'.
func (t *Task) late(r *rollup, tn *tenant, key string, time int64, m *aggregate.Measurement, verdict windows.Verdict) {
	switch {
	case verdict == windows.Full:
		t.tally.drop(tn.name, ReasonWindowLimit)
	case r.late == windows.Divert:
		t.divert(r, tn, key, time, m, verdict)
	case verdict == windows.Late:
		t.tally.missed(tn.name, r.late.String())
	case verdict == windows.TooLate:
		t.tally.drop(tn.name, ReasonTooLate)
		t.tally.missed(tn.name, "too_late")
	}
}

func (t *Task) divert(r *rollup, tn *tenant, key string, time int64, m *aggregate.Measurement, verdict windows.Verdict) {
	missed, full := false, false
	t.windows.missed(r.windowID, tn.name, time, verdict, func(w windows.Window, tooLate bool) {
		missed = true
		full = full || !t.windows.diverted.divert(divertedCell{r.windowID, tn.name, key, w, tooLate}, t.offset, tn, m, &t.particular)
	})
	if full {
		t.tally.drop(tn.name, ReasonWindowLimit)
	} else if missed {
		t.tally.missed(tn.name, r.late.String())
	}
}
