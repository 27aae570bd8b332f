package pipeline

import (
	"math"
	"slices"

	"github.com/vigie-io/vigie/internal/pipeline/aggregate"
	"github.com/vigie-io/vigie/internal/pipeline/state"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/rules"
	"github.com/vigie-io/vigie/pkg/series"
	"github.com/vigie-io/vigie/pkg/sketches"
)

var _ state.Operator = (*alerts)(nil)

// alerts judge the alerts of a task, as an Operator. Under a rule's id it keeps, for each tenant, up to which step it has judged,
// and for each combination of labels its slices and where the alert is in its life.
//
// A rule judges a tenant at every step that the tenant's clock (its newest event time) passes, with what has come by then: so
// what fires depends on the records and their order only, not on epochs. Slices lie in the log as in a ring: one that is no longer
// needed is overwritten by the next in its place, without a tombstone.
type alerts struct {
	rules   []*alertRule
	limit   func(tenant string) int // slices of a tenant in a rule
	tenants map[string]*alertTenant
	books   map[bookName]*alertBook
	foreign bool // the log holds rules that are not configured

	touched  []*alertBook // since the last committed epoch
	undo     state.Undo
	records  []alertRecord // of the last Changes
	fired    []alertEvent  // of the epoch
	now      int64         // processing time, Unix ms
	measures rules.Measures
	sketches [2]sketches.Sketch
	key      []byte
	value    []byte
}

func newAlerts(list []*alertRule, limit func(tenant string) int) *alerts {
	return &alerts{rules: list, limit: limit, tenants: map[string]*alertTenant{}, books: map[bookName]*alertBook{}}
}

// at says what processing time it is when changes are written next, Unix milliseconds.
func (a *alerts) at(now int64) { a.now = now }

// any says whether there are rules.
func (a *alerts) any() bool { return len(a.rules) > 0 }

// idle says whether there are neither rules nor anything kept of such as are no more.
func (a *alerts) idle() bool { return len(a.rules) == 0 && len(a.books) == 0 }

// waits says whether a tenant has something that its clock will change.
func (a *alerts) waits(tenant string) bool {
	at := a.tenants[tenant]
	return at != nil && at.next < math.MaxInt64
}

// advance judges what a tenant's clock has passed.
func (a *alerts) advance(at *alertTenant, clock int64) {
	if clock < at.next {
		return
	}
	at.next = math.MaxInt64
	for _, b := range at.books {
		to := clock / b.of.every
		if len(b.keys) > 0 && to > b.step {
			a.judge(b, to)
		}
		b.follow(clock)
		b.expect()
	}
}

// alertSample is an event as an alert takes it.
type alertSample struct {
	time   int64
	labels series.Labels // those of the rule's by
	fields rules.Fields
	of     *aggregate.Measurement
}

// add gives a tenant's event to the rule with the index, whose condition it meets. The reason says why it was left out, if it was. Nothing
// of the event is retained.
func (a *alerts) add(at *alertTenant, index int, clock int64, s *alertSample) events.Reason {
	b := at.books[index]
	a.key = series.AppendKey(a.key[:0], 0, b.of.Name, s.labels)
	return a.put(b, clock, s.time, s.of, b.of.share != nil && b.of.share.Match(s.fields))
}

// put puts an event into the slice of its time, under the key a.key.
func (a *alerts) put(b *alertBook, clock, time int64, m *aggregate.Measurement, hit bool) events.Reason {
	b.follow(clock)
	index := time / b.of.every
	if index <= b.step-b.of.kept {
		return ReasonTooLate
	}
	k := b.keys[string(a.key)]
	pos, found := 0, false
	if k != nil {
		pos, found = k.at(index)
	}
	if !found && b.size >= a.limit(b.tenant) {
		return ReasonWindowLimit
	}
	if k == nil {
		k = a.open(b)
	}
	if !found {
		a.trim(b, k, b.step) // the log may have given back one whose slot this takes
		pos, _ = k.at(index)
		k.slices = slices.Insert(k.slices, pos, newAlertSlice(index, b.of.needs.Quantiles))
		b.size++
	}
	s := k.slices[pos]
	if !s.noted {
		s.noted = true
		a.noteSlice(b, k, s, !found)
		k.changed = append(k.changed, index)
	}
	if k.quiet != 0 {
		a.noteStatus(b, k)
		k.quiet = 0
	}
	s.add(time, m, hit)
	return ""
}

// open makes the key a.key, or takes it back when it was forgotten in this epoch.
func (a *alerts) open(b *alertBook) *alertKey {
	if len(b.keys) == 0 {
		a.noteStep(b)
	}
	k := b.forgotten[string(a.key)]
	if k == nil {
		k = &alertKey{name: string(a.key)}
	}
	delete(b.forgotten, k.name)
	b.keys[k.name] = k
	b.expect()
	return k
}

// judge judges all keys of a book at the steps up to to.
func (a *alerts) judge(b *alertBook, to int64) {
	a.noteStep(b)
	for _, k := range b.keys {
		a.judgeKey(b, k, to)
		a.trim(b, k, to)
		if k.empty() {
			a.forget(b, k)
		}
	}
	b.step = to
}

// judgeKey judges a key at the steps behind the last up to to. Steps at which nothing can change are skipped.
func (a *alerts) judgeKey(b *alertBook, k *alertKey, to int64) {
	r := b.of
	for step := b.step + 1; step <= to; {
		a.measure(r, k, step)
		at := step * r.every
		holds := r.when.Match(&a.measures)
		before, after := k.status, r.life.Next(k.status, at, holds, r.until == nil || r.until.Match(&a.measures))
		quiet := int64(0)
		if n := len(k.slices); after.State != rules.Inactive && (n == 0 || k.slices[n-1].index < step-r.kept) {
			quiet = k.quiet
			if quiet == 0 {
				quiet = step
			}
		}
		forgotten := after.State == rules.Firing && quiet != 0 && at-quiet*r.every >= int64(r.ForgetAfter)
		if forgotten {
			after = rules.Status{}
		}
		if after != before || quiet != k.quiet {
			a.noteStatus(b, k)
			k.status, k.quiet = after, quiet
		}
		switch {
		case before.State != rules.Firing && after.State == rules.Firing:
			k.told = r.severity
			a.tell(r, b.tenant, k, alertFiring, after, at)
		case forgotten:
			a.tell(r, b.tenant, k, alertForgotten, before, at)
		case before.State == rules.Firing && after.State == rules.Inactive:
			a.tell(r, b.tenant, k, alertResolved, before, at)
		}
		next := step + 1
		if quiet != 0 {
			due := r.life.Due(after)
			if after.State == rules.Firing {
				due = min(due, quiet*r.every+int64(r.ForgetAfter))
			}
			next = max(next, stepsUp(due, r.every))
		} else if n := len(k.slices); n == 0 || k.slices[n-1].index < step-r.kept {
			return // inactive, and nothing is left
		}
		step = next
	}
}

// stepsUp is the first step at or after a time.
func stepsUp(time, every int64) int64 {
	if time > math.MaxInt64-every {
		return math.MaxInt64
	}
	return (time + every - 1) / every
}

// measure fills a.measures with what a key's windows hold at a step.
func (a *alerts) measure(r *alertRule, k *alertKey, step int64) {
	a.measures.Seconds = r.Over.Seconds()
	if r.needs.Quantiles {
		a.measures.Now.Sketch, a.measures.Before.Sketch = &a.sketches[0], &a.sketches[1]
	} else {
		a.measures.Now.Sketch, a.measures.Before.Sketch = nil, nil
	}
	k.totals(&a.measures.Now, step-r.steps, step)
	if r.needs.Before {
		k.totals(&a.measures.Before, step-2*r.steps, step-r.steps)
	}
}

// trim drops the slices that the last step did not look at. So a key is judged once more when it has become empty.
func (a *alerts) trim(b *alertBook, k *alertKey, step int64) {
	n := 0
	for n < len(k.slices) && k.slices[n].index < step-b.of.kept {
		if s := k.slices[n]; !s.noted {
			a.noteSlice(b, k, s, false)
		}
		n++
	}
	k.slices = slices.Delete(k.slices, 0, n)
	b.size -= n
}

// forget drops a key of which nothing is to be remembered.
func (a *alerts) forget(b *alertBook, k *alertKey) {
	a.touch(b, k)
	delete(b.keys, k.name)
	b.forgotten[k.name] = k
}
