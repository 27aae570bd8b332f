package pipeline

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/rules"
	"github.com/vigie-io/vigie/pkg/series"
	"github.com/vigie-io/vigie/pkg/sketches"
)

var _ Operator = (*alerts)(nil)

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
	undo     Undo
	records  []alertRecord // of the last Changes
	fired    []alertEvent  // of the epoch
	now      int64         // processing time, Unix ms
	measures rules.Measures
	sketches [2]sketches.Sketch
	key      []byte
	value    []byte
}

type bookName struct {
	rule   uint64
	tenant string
}

// alertTenant are the books of a tenant, one for each rule.
type alertTenant struct {
	books []*alertBook
	next  int64 // least event time at which one has to judge, Unix ns
}

// alertBook is what a rule keeps of a tenant.
type alertBook struct {
	bookName
	of   *alertRule   // nil: configuration no longer has it
	who  *alertTenant // nil until it is heard of
	step int64        // judged last. While there are no keys it follows the tenant's clock, and is not kept
	keys map[string]*alertKey
	size int // slices

	stepLogged bool
	forgotten  map[string]*alertKey // since the last committed epoch, with something in the log
	touched    []*alertKey
	marked     bool // in alerts.touched
	noted      bool // step, in undo
}

// alertRecord is what Changes wrote of a book: of its step, or of the status (slot −1) or a slot of a key.
type alertRecord struct {
	book *alertBook
	key  *alertKey // nil: step
	slot int64
	name string
	in   bool // false: a tombstone
}

const (
	alertsVersion = 1
	alertStep     = 't'
	alertStatus   = 'a'
	alertSlot     = 's'
)

func newAlerts(list []*alertRule, limit func(tenant string) int) *alerts {
	return &alerts{rules: list, limit: limit, tenants: map[string]*alertTenant{}, books: map[bookName]*alertBook{}}
}

func (a *alerts) idle() bool { return len(a.rules) == 0 && len(a.books) == 0 }

// waits says whether a tenant has something that its clock will change.
func (a *alerts) waits(tenant string) bool {
	at := a.tenants[tenant]
	return at != nil && at.next < math.MaxInt64
}

func (a *alerts) tenant(name string) *alertTenant {
	at := a.tenants[name]
	if at == nil {
		at = &alertTenant{}
		a.tenants[strings.Clone(name)] = at
		for _, r := range a.rules {
			b := a.book(bookName{r.id, strings.Clone(name)})
			b.who = at
			at.books = append(at.books, b)
		}
	}
	return at
}

// rest forgets a tenant that has not been heard of and of whom nothing is kept.
func (a *alerts) rest(tenant string) {
	at := a.tenants[tenant]
	if at == nil || slices.ContainsFunc(at.books, func(b *alertBook) bool { return len(b.keys) > 0 || b.stepLogged || b.marked }) {
		return
	}
	delete(a.tenants, tenant)
	for _, b := range at.books {
		delete(a.books, b.bookName)
	}
}

// book finds a book, or makes it.
func (a *alerts) book(name bookName) *alertBook {
	b := a.books[name]
	if b == nil {
		b = &alertBook{bookName: name, keys: map[string]*alertKey{}, forgotten: map[string]*alertKey{}}
		if i := slices.IndexFunc(a.rules, func(r *alertRule) bool { return r.id == name.rule }); i >= 0 {
			b.of = a.rules[i]
		}
		a.books[name] = b
	}
	return b
}

// advance judges what a tenant's clock has passed.
func (a *alerts) advance(tenant string, clock int64) {
	at := a.tenant(tenant)
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

// follow moves the step of a book without keys to the tenant's clock.
func (b *alertBook) follow(clock int64) {
	if len(b.keys) == 0 {
		b.step = clock / b.of.every
	}
}

// expect notes when the book has to judge next.
func (b *alertBook) expect() {
	if len(b.keys) > 0 {
		b.who.next = min(b.who.next, (b.step+1)*b.of.every)
	}
}

// add puts an event into the slice of its time, under the key a.key.
func (a *alerts) add(b *alertBook, clock, time int64, m *measurement, hit bool) events.Reason {
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

// judgeKey judges a key at the steps behind the last up to to. Steps at which nothing can change are passed over.
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

func (a *alerts) touch(b *alertBook, k *alertKey) {
	if !b.marked {
		b.marked = true
		a.touched = append(a.touched, b)
	}
	if k != nil && !k.touched {
		k.touched = true
		b.touched = append(b.touched, k)
	}
}

func (a *alerts) noteStep(b *alertBook) {
	a.touch(b, nil)
	if b.noted {
		return
	}
	b.noted = true
	var old []byte
	if len(b.keys) > 0 {
		old = binary.LittleEndian.AppendUint64(a.value[:0], uint64(b.step))
	}
	a.undo.Note(appendRuleKey(nil, b.rule, alertStep, b.tenant), old)
}

func (a *alerts) noteStatus(b *alertBook, k *alertKey) {
	a.touch(b, k)
	if k.noted {
		return
	}
	k.noted = true
	a.undo.Note(statusKey(b, k), k.appendStatus(a.value[:0]))
}

// noteSlice is to be called before the first change of a slice in an epoch, made says that the change is to make it.
func (a *alerts) noteSlice(b *alertBook, k *alertKey, s *alertSlice, made bool) {
	a.touch(b, k)
	var old []byte
	if !made {
		old = s.append(a.value[:0])
	}
	a.undo.Note(slotKey(b, k, s.index%b.of.ring), old)
}

// appendStatus appends the status' form in state; nil is an inactive one.
func (k *alertKey) appendStatus(dst []byte) []byte {
	if k.status.State == rules.Inactive {
		return nil
	}
	dst = append(k.status.AppendBinary(dst), k.told)
	return binary.LittleEndian.AppendUint64(dst, uint64(k.quiet))
}

func statusKey(b *alertBook, k *alertKey) []byte {
	return append(appendRuleKey(nil, b.rule, alertStatus, b.tenant), k.name...)
}

func slotKey(b *alertBook, k *alertKey, slot int64) []byte {
	return append(binary.BigEndian.AppendUint16(appendRuleKey(nil, b.rule, alertSlot, b.tenant), uint16(slot)), k.name...)
}

// Changes implements Operator.
func (a *alerts) Changes(emit func(key, value []byte)) {
	a.records = a.records[:0]
	a.retire()
	for _, b := range a.touched {
		a.changes(b)
	}
	slices.SortFunc(a.records, func(x, y alertRecord) int { return strings.Compare(x.name, y.name) })
	for i := range a.records {
		r := &a.records[i]
		if r.in {
			emit([]byte(r.name), r.worth(a.value[:0]))
		} else {
			emit([]byte(r.name), nil)
		}
	}
}

// worth is what a record that is in the log is to hold.
func (r *alertRecord) worth(dst []byte) []byte {
	switch {
	case r.key == nil:
		return binary.LittleEndian.AppendUint64(dst, uint64(r.book.step))
	case r.slot < 0:
		return r.key.appendStatus(dst)
	}
	for _, s := range r.key.slices {
		if s.index%r.book.of.ring == r.slot {
			return s.append(dst)
		}
	}
	panic("BUG: a slice of an alert is gone that was to be written")
}

func (a *alerts) changes(b *alertBook) {
	if b.of == nil {
		return // retired
	}
	if in := len(b.keys) > 0; b.noted && (in || b.stepLogged) {
		a.record(b, nil, 0, appendRuleKey(nil, b.rule, alertStep, b.tenant), in)
	}
	for _, k := range b.touched {
		if b.keys[k.name] != k {
			a.remove(b, k)
			continue
		}
		if in := k.status.State != rules.Inactive; k.noted && (in || k.statusLogged) {
			a.record(b, k, -1, statusKey(b, k), in)
		}
		slices.Sort(k.changed)
		for _, index := range slices.Compact(k.changed) {
			if _, found := k.at(index); found {
				a.record(b, k, index%b.of.ring, slotKey(b, k, index%b.of.ring), true)
			}
		}
	}
}

// remove writes tombstones of all that the log holds of a key.
func (a *alerts) remove(b *alertBook, k *alertKey) {
	if k.statusLogged {
		a.record(b, k, -1, statusKey(b, k), false)
	}
	k.logged.each(func(slot int64) { a.record(b, k, slot, slotKey(b, k, slot), false) })
}

func (a *alerts) record(b *alertBook, k *alertKey, slot int64, name []byte, in bool) {
	a.records = append(a.records, alertRecord{b, k, slot, string(name), in})
}

// retire ends the alerts of rules that configuration no longer has, at the clock of the worker, and writes tombstones.
func (a *alerts) retire() {
	if !a.foreign {
		return
	}
	for _, b := range a.books {
		if b.of != nil {
			continue
		}
		a.touch(b, nil)
		for _, k := range b.keys {
			if k.status.State == rules.Firing {
				a.tell(nil, b.tenant, k, alertRemoved, k.status, a.now*int64(time.Millisecond))
			}
			a.remove(b, k)
		}
		if b.stepLogged {
			a.record(b, nil, 0, appendRuleKey(nil, b.rule, alertStep, b.tenant), false)
		}
	}
}

// Settle implements Operator.
func (a *alerts) Settle(committed bool) {
	if committed {
		a.undo.Clear()
		a.keep()
	} else {
		a.back()
	}
	for _, b := range a.touched {
		for _, k := range b.touched {
			k.touched, k.noted, k.changed = false, false, k.changed[:0]
			for _, s := range k.slices {
				s.noted = false
			}
		}
		clear(b.touched)
		b.touched, b.marked, b.noted = b.touched[:0], false, false
		clear(b.forgotten)
	}
	clear(a.touched)
	clear(a.records)
	clear(a.fired)
	a.touched, a.records, a.fired = a.touched[:0], a.records[:0], a.fired[:0]
}

// keep notes what the log holds now.
func (a *alerts) keep() {
	for i := range a.records {
		switch r := &a.records[i]; {
		case r.key == nil:
			r.book.stepLogged = r.in
		case r.slot < 0:
			r.key.statusLogged = r.in
		default:
			r.key.logged.set(r.slot, r.in)
		}
	}
	for _, b := range a.touched {
		if b.of == nil {
			delete(a.books, b.bookName)
		}
	}
	a.foreign = a.foreign && len(a.touched) == 0 // retire touched them
}

// back returns to the last committed epoch.
func (a *alerts) back() {
	for _, b := range a.touched {
		for name, k := range b.forgotten {
			b.keys[name] = k
		}
	}
	a.undo.Back(a.put)
	for _, b := range a.touched {
		for _, k := range b.touched {
			if k.empty() {
				delete(b.keys, k.name)
			}
		}
		if b.who != nil {
			b.who.next = 0
		}
	}
}

// Restore implements Operator.
func (a *alerts) Restore(key, value []byte) error {
	if err := a.put(key, value); err != nil {
		return err
	}
	kind, tenant, name := cutRuleKey(string(key))
	b := a.books[bookName{ruleOf(string(key)), tenant}]
	switch kind {
	case alertStep:
		b.stepLogged = value != nil
	case alertStatus:
		b.keys[name].statusLogged = value != nil
	default:
		b.keys[name[2:]].logged.set(int64(binary.BigEndian.Uint16([]byte(name))), value != nil)
		name = name[2:]
	}
	if k := b.keys[name]; k != nil && k.empty() && !k.statusLogged && !slices.ContainsFunc(k.logged, func(word uint64) bool { return word != 0 }) {
		delete(b.keys, name)
	}
	a.foreign = a.foreign || b.of == nil
	return nil
}

// put gives a key of state a value; nil is that it is gone.
func (a *alerts) put(key, value []byte) error {
	kind, tenant, name := cutRuleKey(string(key))
	slot := int64(-1)
	if kind == alertSlot && len(name) >= 2 {
		slot, name = int64(binary.BigEndian.Uint16([]byte(name))), name[2:]
	} else if kind != alertStatus && (kind != alertStep || name != "") {
		return fmt.Errorf("alert key %x: want a rule, what it is about, and a tenant", key)
	}
	if err := tenants.Validate(tenants.ID(tenant)); err != nil {
		return fmt.Errorf("alerts of rule %016x: %w", ruleOf(string(key)), err)
	}
	if err := a.putInto(bookName{ruleOf(string(key)), tenant}, kind, slot, name, value); err != nil {
		return fmt.Errorf("alerts of rule %016x, tenant %q: %w", ruleOf(string(key)), tenant, err)
	}
	return nil
}

func (a *alerts) putInto(name bookName, kind byte, slot int64, key string, value []byte) error {
	if kind == alertStep {
		if value != nil && len(value) != 8 {
			return fmt.Errorf("step: got %d bytes, want 8", len(value))
		}
		b := a.book(name)
		if b.step = 0; value != nil {
			b.step = int64(binary.LittleEndian.Uint64(value))
		}
		return nil
	}
	if _, _, _, err := series.ParseKey([]byte(key)); err != nil {
		return err
	}
	if kind == alertStatus {
		status, told, quiet, err := decodeStatus(value)
		if err != nil {
			return err
		}
		k := a.book(name).named(key)
		k.status, k.told, k.quiet = status, told, quiet
		return nil
	}
	var s *alertSlice
	if value != nil {
		var err error
		if s, err = decodeAlertSlice(value); err != nil {
			return err
		}
		if of := a.book(name).of; of != nil && s.index%of.ring != slot {
			return fmt.Errorf("slice %d lies in slot %d", s.index, slot)
		}
	}
	a.book(name).place(key, slot, s)
	return nil
}

func (b *alertBook) named(key string) *alertKey {
	k := b.keys[key]
	if k == nil {
		k = &alertKey{name: key}
		b.keys[key] = k
	}
	return k
}

// place puts a slice, or nil, into a slot of a key. A rule that is not configured keeps no slices, only that the log does.
func (b *alertBook) place(key string, slot int64, s *alertSlice) {
	k := b.named(key)
	if b.of == nil {
		return
	}
	before := len(k.slices)
	k.slices = slices.DeleteFunc(k.slices, func(old *alertSlice) bool { return old.index%b.of.ring == slot })
	if s != nil {
		pos, _ := k.at(s.index)
		k.slices = slices.Insert(k.slices, pos, s)
	}
	b.size += len(k.slices) - before
}

func decodeStatus(value []byte) (s rules.Status, told uint8, quiet int64, err error) {
	if value == nil {
		return rules.Status{}, 0, 0, nil
	}
	s, rest, err := rules.DecodeStatus(value)
	if err != nil {
		return rules.Status{}, 0, 0, err
	}
	if len(rest) != 9 || int(rest[0]) >= len(severities) {
		return rules.Status{}, 0, 0, fmt.Errorf("status of an alert: %d bytes follow it, want a severity and a step", len(rest))
	}
	return s, rest[0], int64(binary.LittleEndian.Uint64(rest[1:])), nil
}

// Len implements Operator.
func (a *alerts) Len() (n int) {
	a.each(func(b *alertBook, k *alertKey, slots int) { n += slots })
	return n
}

// Bytes implements Operator: what the keys take, and values without their sketches.
func (a *alerts) Bytes() (n int64) {
	a.each(func(b *alertBook, k *alertKey, slots int) {
		size := 10 + len(b.tenant) + alertValueBytes
		if k != nil {
			size += len(k.name)
		}
		n += int64(slots * size)
	})
	return n
}

const alertValueBytes = 2 + 48

// each calls fn with the number of records that the log holds of a key, and of a book itself.
func (a *alerts) each(fn func(b *alertBook, k *alertKey, records int)) {
	for _, b := range a.books {
		if b.stepLogged {
			fn(b, nil, 1)
		}
		for _, k := range b.keys {
			n := 0
			if k.statusLogged {
				n++
			}
			k.logged.each(func(int64) { n++ })
			fn(b, k, n)
		}
	}
}

// alert gives an event to the alerts whose condition it meets. m is its own measure.
func (t *Task) alert(tenant string, at int64, f rules.Fields, m *measurement) {
	if t.alerts.rules == nil {
		return
	}
	tn := t.named(tenant)
	if tn == nil {
		return
	}
	// Its series may have met a limit: alerts take it all the same.
	tn.seen, tn.newest = t.now, max(tn.newest, at)
	t.touch(tn)
	t.alerts.advance(tn.name, tn.newest)
	for i, r := range t.alerts.rules {
		if !r.takes(m) || len(r.tenants) > 0 && !slices.Contains(r.tenants, tenants.ID(tn.name)) || r.where != nil && !r.where.Match(f) {
			continue
		}
		measured := t.measured(r.rollup, m)
		if measured == nil || !t.labelled(&r.groupings[0], tn.name, f) {
			continue
		}
		t.alerts.key = series.AppendKey(t.alerts.key[:0], 0, r.Name, t.labels)
		hit := r.share != nil && r.share.Match(f)
		if reason := t.alerts.add(t.alerts.tenant(tn.name).books[i], tn.newest, at, measured, hit); reason != "" {
			t.tally.alertMissed(tn.name, reason)
		}
	}
}

// silentAlerts judges a silent tenant, whose clock is taken to have gone on.
func (t *Task) silentAlerts(tenant string, clock int64) {
	if t.alerts.rules != nil && clock > 0 && clock < maxPaneTime {
		t.alerts.advance(tenant, clock)
	}
}
