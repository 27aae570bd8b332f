package alerting

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vigie-io/vigie/internal/pipeline/state"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/rules"
	"github.com/vigie-io/vigie/pkg/series"
)

// record is what Changes wrote of a book: of its step, or of the status (slot −1) or a slot of a key.
type record struct {
	book *book
	key  *instance // nil: step
	slot int64
	name string
	in   bool // false: a tombstone
}

// What a key of state is about, after the rule's id, and the version of the values.
const (
	Version    = 1
	kindStep   = 't'
	kindStatus = 'a'
	kindSlot   = 's'
)

func (a *Alerts) touch(b *book, k *instance) {
	if !b.marked {
		b.marked = true
		a.touched = append(a.touched, b)
	}
	if k != nil && !k.touched {
		k.touched = true
		b.touched = append(b.touched, k)
	}
}

func (a *Alerts) noteStep(b *book) {
	a.touch(b, nil)
	if b.noted {
		return
	}
	b.noted = true
	var old []byte
	if len(b.keys) > 0 {
		old = binary.LittleEndian.AppendUint64(a.value[:0], uint64(b.step))
	}
	a.undo.Note(state.AppendRuleKey(nil, b.rule, kindStep, b.tenant), old)
}

func (a *Alerts) noteStatus(b *book, k *instance) {
	a.touch(b, k)
	if k.noted {
		return
	}
	k.noted = true
	a.undo.Note(statusKey(b, k), k.appendStatus(a.value[:0]))
}

// noteSlice is to be called before the first change of a slice in an epoch, made says that the change is to make it.
func (a *Alerts) noteSlice(b *book, k *instance, s *slice, made bool) {
	a.touch(b, k)
	var old []byte
	if !made {
		old = s.append(a.value[:0])
	}
	a.undo.Note(slotKey(b, k, s.index%b.of.ring), old)
}

// appendStatus appends the status' form in state; nil is an inactive one.
func (k *instance) appendStatus(dst []byte) []byte {
	if k.status.State == rules.Inactive {
		return nil
	}
	dst = append(k.status.AppendBinary(dst), k.told)
	return binary.LittleEndian.AppendUint64(dst, uint64(k.quiet))
}

func statusKey(b *book, k *instance) []byte {
	return append(state.AppendRuleKey(nil, b.rule, kindStatus, b.tenant), k.name...)
}

func slotKey(b *book, k *instance, slot int64) []byte {
	return append(binary.BigEndian.AppendUint16(state.AppendRuleKey(nil, b.rule, kindSlot, b.tenant), uint16(slot)), k.name...)
}

// Changes implements Operator.
func (a *Alerts) Changes(emit func(key, value []byte)) {
	a.records = a.records[:0]
	a.retire()
	for _, b := range a.touched {
		a.changes(b)
	}
	slices.SortFunc(a.records, func(x, y record) int { return strings.Compare(x.name, y.name) })
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
func (r *record) worth(dst []byte) []byte {
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

func (a *Alerts) changes(b *book) {
	if b.of == nil {
		return // retired
	}
	if in := len(b.keys) > 0; b.noted && (in || b.stepLogged) {
		a.record(b, nil, 0, state.AppendRuleKey(nil, b.rule, kindStep, b.tenant), in)
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
func (a *Alerts) remove(b *book, k *instance) {
	if k.statusLogged {
		a.record(b, k, -1, statusKey(b, k), false)
	}
	k.logged.each(func(slot int64) { a.record(b, k, slot, slotKey(b, k, slot), false) })
}

func (a *Alerts) record(b *book, k *instance, slot int64, name []byte, in bool) {
	a.records = append(a.records, record{b, k, slot, string(name), in})
}

// retire ends the alerts of rules that configuration no longer has, at the clock of the worker, and writes tombstones.
func (a *Alerts) retire() {
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
				a.tell(nil, b.tenant, k, messageRemoved, k.status, a.now*int64(time.Millisecond))
			}
			a.remove(b, k)
		}
		if b.stepLogged {
			a.record(b, nil, 0, state.AppendRuleKey(nil, b.rule, kindStep, b.tenant), false)
		}
	}
}

// Settle implements Operator.
func (a *Alerts) Settle(committed bool) {
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
func (a *Alerts) keep() {
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
func (a *Alerts) back() {
	for _, b := range a.touched {
		for name, k := range b.forgotten {
			b.keys[name] = k
		}
	}
	a.undo.Back(a.set)
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
func (a *Alerts) Restore(key, value []byte) error {
	if err := a.set(key, value); err != nil {
		return err
	}
	kind, tenant, name := state.CutRuleKey(string(key))
	b := a.books[bookName{state.RuleOf(string(key)), tenant}]
	switch kind {
	case kindStep:
		b.stepLogged = value != nil
	case kindStatus:
		b.keys[name].statusLogged = value != nil
	default:
		b.keys[name[2:]].logged.set(int64(binary.BigEndian.Uint16([]byte(name))), value != nil)
		name = name[2:]
	}
	if k := b.keys[name]; k != nil && k.empty() && !k.statusLogged &&
		!slices.ContainsFunc(k.logged, func(word uint64) bool { return word != 0 }) {
		delete(b.keys, name)
	}
	a.foreign = a.foreign || b.of == nil
	return nil
}

// set gives a key of state a value; nil is that it is gone.
func (a *Alerts) set(key, value []byte) error {
	kind, tenant, name := state.CutRuleKey(string(key))
	slot := int64(-1)
	if kind == kindSlot && len(name) >= 2 {
		slot, name = int64(binary.BigEndian.Uint16([]byte(name))), name[2:]
	} else if kind != kindStatus && (kind != kindStep || name != "") {
		return fmt.Errorf("alert key %x: want a rule, what it is about, and a tenant", key)
	}
	if err := tenants.Validate(tenants.ID(tenant)); err != nil {
		return fmt.Errorf("alerts of rule %016x: %w", state.RuleOf(string(key)), err)
	}
	if err := a.setIn(bookName{state.RuleOf(string(key)), tenant}, kind, slot, name, value); err != nil {
		return fmt.Errorf("alerts of rule %016x, tenant %q: %w", state.RuleOf(string(key)), tenant, err)
	}
	return nil
}

func (a *Alerts) setIn(name bookName, kind byte, slot int64, key string, value []byte) error {
	if kind == kindStep {
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
	if kind == kindStatus {
		status, told, quiet, err := decodeStatus(value)
		if err != nil {
			return err
		}
		k := a.book(name).named(key)
		k.status, k.told, k.quiet = status, told, quiet
		return nil
	}
	var s *slice
	if value != nil {
		var err error
		if s, err = decodeSlice(value); err != nil {
			return err
		}
		if of := a.book(name).of; of != nil && s.index%of.ring != slot {
			return fmt.Errorf("slice %d lies in slot %d", s.index, slot)
		}
	}
	a.book(name).place(key, slot, s)
	return nil
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
func (a *Alerts) Len() (n int) {
	a.each(func(b *book, k *instance, slots int) { n += slots })
	return n
}

// Bytes implements Operator: what the keys take, and values without their sketches.
func (a *Alerts) Bytes() (n int64) {
	a.each(func(b *book, k *instance, slots int) {
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
func (a *Alerts) each(fn func(b *book, k *instance, records int)) {
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
