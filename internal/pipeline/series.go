package pipeline

import (
	"strings"

	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
)

// identity is a series as an event names it; its strings may be a Batch's.
type identity struct {
	kind       events.Kind
	metric     string
	labels     series.Labels
	unit, help string
}

// series finds the tenant and series of an event, or makes them. The entry is nil when a limit forbids it; that is
// counted.
func (t *Task) series(name string, s identity) (tn *tenant, ref uint32, e *entry) {
	tn = t.named(name)
	if tn == nil {
		return nil, 0, nil
	}
	t.key = series.AppendKey(t.key[:0], byte(s.kind), s.metric, s.labels)
	search := search{series: tn.table.Search(t.key)}
	if search.series.Found {
		return tn, search.series.Ref, tn.table.At(search.series.Ref)
	}
	ref, e = t.newSeries(tn, &search, &s)
	return tn, ref, e
}

// searched is series for an event of tn whose series was searched for before the events in front of it were taken.
func (t *Task) searched(tn *tenant, search *search, s identity) (ref uint32, e *entry) {
	t.current = tn
	if search.series.Again() {
		return search.series.Ref, tn.table.At(search.series.Ref)
	}
	return t.newSeries(tn, search, &s)
}

// named finds the tenant of an event, or makes it. It is nil when there are too many; that is counted.
func (t *Task) named(name string) *tenant {
	if tn := t.current; tn != nil && tn.name == name {
		return tn
	}
	tn := t.tenant(name)
	if tn != nil {
		t.current = tn
	}
	return tn
}

func (t *Task) tenant(name string) *tenant {
	if tn := t.find(name); tn != nil {
		return tn
	}
	if len(t.tenants) >= t.cfg.Config.MaxTenants {
		t.tally.drop("", ReasonTenantLimit)
		return nil
	}
	name = strings.Clone(name)
	tn := &tenant{name: name, groups: make(map[groupKey]*group), seen: t.now}
	tn.bound(t.limits, &t.decoders)
	(*watermarks)(t).wake(tn)
	t.tenants[name] = tn
	return tn
}

// newSeries makes the entry of a new series, which was searched for in vain.
func (t *Task) newSeries(tn *tenant, search *search, s *identity) (ref uint32, e *entry) {
	key := search.series.Key
	size := namesBytes(key, about{s.unit, s.help})
	if tn.full() || tn.bytes+size > tn.limitBytes {
		t.exceed(tn)
		t.dropDecoded(tn)
		return 0, nil
	}
	tn.bytes += size
	if tn.filter != nil {
		tn.filter.Add(s.kind, s.metric, s.labels)
	}
	tn.repeats.Expect()
	id := series.Hash(key)
	ref = search.series.Insert(id.Lo)
	e = tn.table.At(ref)
	e.high, e.class = id.Hi, t.join(tn, &search.class, s)+1
	return ref, e
}

// join returns the number of the class of a new series, which is made when it has none yet.
func (t *Task) join(tn *tenant, search *series.Search[class], s *identity) (number uint32) {
	if search.Table == nil {
		t.key = appendClassKey(t.key[:0], s)
		*search = tn.classes.Search(t.key)
	}
	if search.Again() {
		number = search.Ref
	} else {
		number = search.Insert(0)
		of := about{strings.Clone(s.unit), strings.Clone(s.help)}
		*tn.classes.At(number) = class{group: t.groupOf(tn, s), about: of}
	}
	c := tn.classes.At(number)
	c.size++
	c.group.size++
	return number
}

// groupOf finds the group of a series, or makes it.
func (t *Task) groupOf(tn *tenant, s *identity) *group {
	key := groupKey{metric: s.metric, service: s.labels.Get("service"), kind: s.kind}
	g := tn.groups[key]
	if g == nil {
		key.metric, key.service = t.words.copy(key.metric), t.words.copy(key.service)
		g = t.groups.take()
		g.groupKey, g.dirty = key, g.few[:0]
		tn.groups[key] = g
	}
	return g
}

// leave is the opposite of join, for a series that is forgotten.
func (t *Task) leave(tn *tenant, number uint32) {
	c := tn.classes.At(number)
	if c.group.size--; c.group.size == 0 {
		delete(tn.groups, c.group.groupKey)
	}
	if c.size--; c.size == 0 {
		t.key = tn.classes.AppendKey(t.key[:0], number)
		tn.classes.Delete(t.key)
	}
}

// exceed counts an event beyond the tenant's limits of series.
func (t *Task) exceed(tn *tenant) {
	tn.seen = t.now
	if tn.beyond == (beyond{}) {
		t.exceeding = append(t.exceeding, tn)
	}
	if tn.full() {
		tn.beyond.number++
	} else {
		tn.beyond.bytes++
	}
}

// take notes an event of a series and returns the cell to put it in.
func (t *Task) take(tn *tenant, ref uint32, e *entry, time int64) *cell {
	t.tally.Events++
	if time < t.watermark(tn) {
		tn.late++
	}
	return t.into(tn, ref, e, time)
}

// into is take for what is derived from an event that has been counted.
func (t *Task) into(tn *tenant, ref uint32, e *entry, time int64) *cell {
	t.epoch.values++
	tn.seen, e.touched = t.now, t.now
	before, second := paneOf(e.seen), uint32(time/1e9)
	e.seen = max(e.seen, second)
	tn.newest = max(tn.newest, time)
	t.tally.Newest = max(t.tally.Newest, time)
	return t.open(tn, ref, e, paneOf(second), before)
}

func (t *Task) mark(tn *tenant, ref uint32, e *entry) {
	g := tn.class(e).group
	if len(g.dirty) == 0 {
		tn.dirty = append(tn.dirty, g)
		t.epoch.group(tn, g)
	}
	g.dirty = append(g.dirty, ref)
	if t.stale(e, t.now) {
		t.epoch.announced += seriesRowBytes + tn.table.KeySize(ref)
	}
	t.touch(tn)
}

// touch marks the tenant as changed.
func (t *Task) touch(tn *tenant) {
	if !tn.marked {
		tn.marked = true
		t.dirty = append(t.dirty, tn)
	}
}
