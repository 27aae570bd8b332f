package pipeline

import (
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/sketches"
)

// ahead is an event whose series is known, of which is read what it will change: first a field of its series, then of its
// list or sketch, if it has one, or of its class when the series has no changes yet, then of the sketch's counts or the
// class's group. One after the other of all events of a run, so that the processor waits for all at once, and not for each
// in turn as it would while it accumulates. With more series than the caches hold that is most of the time of
// accumulating.
type ahead struct {
	tenant *tenant
	entry  *entry
	sketch *sketches.Sketch // nil for none
	group  *group           // nil for one that will not change
	value  float64
}

// readAhead reads for the records of a run that are one event.
func (t *Task) readAhead(run []Record) {
	scratch := t.cfg.Scratch
	list := t.searchRun(run, scratch.ahead[:0])
	for i := range run {
		if l := &scratch.looks[i]; l.Known() && l.Ref != events.Beyond {
			tn := scratch.headers[i].known
			list = append(list, ahead{tenant: tn, entry: tn.table.At(l.Ref), value: l.Value})
		}
	}
	t.read(list)
	scratch.ahead = list
}

// readAheadOf reads for known events of a record, of which there may be many.
func (t *Task) readAheadOf(tn *tenant, known []events.Repeat) {
	list := t.cfg.Scratch.ahead[:0]
	for i := range known {
		if r := &known[i]; r.Ref != events.Beyond {
			list = append(list, ahead{tenant: tn, entry: tn.table.At(r.Ref), value: r.Value})
		}
	}
	t.read(list)
	t.cfg.Scratch.ahead = list
}

func (t *Task) read(list []ahead) {
	for i := range list {
		e := list[i].entry
		t.fetched += e.cell.Count + e.high // one of each of its cache lines
	}
	for i := range list {
		switch c := &list[i].entry.cell; c.form {
		case unused:
			list[i].group = list[i].tenant.class(list[i].entry).group
		case many:
			t.fetched += uint64(t.lists.at(c.number)[min(c.Count, manyValues-1)-fewValues])
		case dense:
			list[i].sketch = t.sketches.at(c.number)
			t.fetched += list[i].sketch.Touch()
		}
	}
	for i := range list {
		if s := list[i].sketch; s != nil {
			t.fetched += s.TouchCount(list[i].value)
		}
		if g := list[i].group; g != nil {
			t.fetched += uint64(g.kind) + uint64(cap(g.dirty))
		}
	}
}
