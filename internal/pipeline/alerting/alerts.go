// Package alerting judges the alerts of the stream: it counts the events that an alert is about in slices of event
// time, looks at every step which conditions hold, and tells of what fires and ends. Its main type is Alerts, the
// state.Operator of a task. What an event is, and which tenant's clock has gone how far, its caller says; who is
// notified of an alert is the business of internal/notify.
package alerting

import (
	"cmp"
	"math"
	"slices"

	"github.com/vigie-io/vigie/internal/pipeline/aggregate"
	"github.com/vigie-io/vigie/internal/pipeline/state"
	"github.com/vigie-io/vigie/internal/pipeline/windowed"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/rules"
	"github.com/vigie-io/vigie/pkg/series"
	"github.com/vigie-io/vigie/pkg/sketches"
)

var _ state.Operator = (*Alerts)(nil)

// Alerts judge the alerts of a task, as an Operator. Under a rule's id it keeps, for each tenant, up to which step it
// has judged, and for each combination of labels its slices and where the alert is in its life. One goroutine uses it.
//
// A rule judges a tenant at every step that the tenant's clock (its newest event time) passes, with what has come by
// then: so what fires depends on the records and their order only, not on epochs. Slices lie in the log as in a ring:
// one that is no longer needed is overwritten by the next in its place, without a tombstone.
type Alerts struct {
	Rules []*Rule // not to be changed

	limit   func(tenant string) int // slices of a tenant in a rule
	tenants map[string]*Tenant
	books   map[bookName]*book
	foreign bool // the log holds rules that are not configured

	touched  []*book // since the last committed epoch
	undo     state.Undo
	records  []record // of the last Changes
	fired    []event  // of the epoch
	now      int64    // processing time, Unix ms
	measures rules.Measures
	sketches [2]sketches.Sketch
	key      []byte
	value    []byte
}

// New returns Alerts that judge by the rules of list. limit is how many slices a tenant may have in a rule.
func New(list []*Rule, limit func(tenant string) int) *Alerts {
	return &Alerts{Rules: list, limit: limit, tenants: map[string]*Tenant{}, books: map[bookName]*book{}}
}

// At says what processing time it is when changes are written next, Unix milliseconds.
func (a *Alerts) At(now int64) { a.now = now }

// Any says whether there are rules.
func (a *Alerts) Any() bool { return len(a.Rules) > 0 }

// Idle says whether there are neither rules nor anything kept of such as are no more.
func (a *Alerts) Idle() bool { return len(a.Rules) == 0 && len(a.books) == 0 }

// Waits says whether a tenant has something that its clock will change.
func (a *Alerts) Waits(tenant string) bool {
	at := a.tenants[tenant]
	return at != nil && at.next < math.MaxInt64
}

// Advance judges what a tenant's clock has passed.
func (a *Alerts) Advance(at *Tenant, clock int64) {
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

// Sample is an event as an alert takes it.
type Sample struct {
	Time   int64         // event time, Unix ns
	Labels series.Labels // those of the rule's by
	Fields rules.Fields
	Of     *aggregate.Measurement
}

// Add gives a tenant's event to the rule with the index, whose condition it meets. The reason says why it was left out,
// if it was. Nothing of the event is retained.
func (a *Alerts) Add(at *Tenant, index int, clock int64, s *Sample) events.Reason {
	b := at.books[index]
	a.key = series.AppendKey(a.key[:0], 0, b.of.Name, s.Labels)
	return a.put(b, clock, s.Time, s.Of, b.of.share != nil && b.of.share.Match(s.Fields))
}

// put puts an event into the slice of its time, under the key a.key.
func (a *Alerts) put(b *book, clock, time int64, m *aggregate.Measurement, hit bool) events.Reason {
	b.follow(clock)
	index := time / b.of.every
	if index <= b.step-b.of.kept {
		return windowed.ReasonTooLate
	}
	k := b.keys[string(a.key)]
	pos, found := 0, false
	if k != nil {
		pos, found = k.at(index)
	}
	if !found && b.size >= a.limit(b.tenant) {
		return windowed.ReasonWindowLimit
	}
	if k == nil {
		k = a.open(b)
	}
	if !found {
		a.trim(b, k, b.step) // the log may have given back one whose slot this takes
		pos, _ = k.at(index)
		k.slices = slices.Insert(k.slices, pos, newSlice(index, b.of.needs.Quantiles))
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
func (a *Alerts) open(b *book) *instance {
	if len(b.keys) == 0 {
		a.noteStep(b)
	}
	k := b.forgotten[string(a.key)]
	if k == nil {
		k = &instance{name: string(a.key)}
	}
	delete(b.forgotten, k.name)
	b.keys[k.name] = k
	b.expect()
	return k
}

// judge judges all keys of a book at the steps up to to.
func (a *Alerts) judge(b *book, to int64) {
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
func (a *Alerts) judgeKey(b *book, k *instance, to int64) {
	for step := b.step + 1; step <= to; {
		a.judgeStep(b, k, step)
		switch {
		case k.quiet != 0:
			step = max(step+1, stepsUp(b.of.due(k), b.of.every))
		case k.silentSince(step - b.of.kept):
			return // inactive, and nothing is left
		default:
			step++
		}
	}
}

// judgeStep judges a key at a step, and tells of an alert that fires or ends there.
func (a *Alerts) judgeStep(b *book, k *instance, step int64) {
	r, at := b.of, step*b.of.every
	a.measure(r, k, step)
	before, holds := k.status, r.when.Match(&a.measures)
	after := r.life.Next(before, at, holds, r.until == nil || r.until.Match(&a.measures))
	quiet := int64(0)
	if after.State != rules.Inactive && k.silentSince(step-r.kept) {
		quiet = cmp.Or(k.quiet, step)
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
		a.tell(r, b.tenant, k, messageFiring, after, at)
	case forgotten:
		a.tell(r, b.tenant, k, messageForgotten, before, at)
	case before.State == rules.Firing && after.State == rules.Inactive:
		a.tell(r, b.tenant, k, messageResolved, before, at)
	}
}

// due is when the status of a quiet key changes next by time alone.
func (r *Rule) due(k *instance) int64 {
	due := r.life.Due(k.status)
	if k.status.State == rules.Firing {
		due = min(due, k.quiet*r.every+int64(r.ForgetAfter))
	}
	return due
}

// stepsUp is the first step at or after a time.
func stepsUp(time, every int64) int64 {
	if time > math.MaxInt64-every {
		return math.MaxInt64
	}
	return (time + every - 1) / every
}

// measure fills a.measures with what a key's windows hold at a step.
func (a *Alerts) measure(r *Rule, k *instance, step int64) {
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
func (a *Alerts) trim(b *book, k *instance, step int64) {
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
func (a *Alerts) forget(b *book, k *instance) {
	a.touch(b, k)
	delete(b.keys, k.name)
	b.forgotten[k.name] = k
}
