// Package windowed keeps the windows that configuration declares for rollups: which shapes there are and what each
// holds (Window, Keep), the open windows of a task (Windows, its state.Operator), and the rows of windows that have
// closed (Rows). How windows of one key open, close and take late events is the business of pkg/windows; what events
// are and how far watermarks are, that of package pipeline.
package windowed

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
	"unsafe"

	"github.com/vigie-io/vigie/internal/pipeline/aggregate"
	"github.com/vigie-io/vigie/internal/pipeline/state"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/series"
	"github.com/vigie-io/vigie/pkg/windows"
)

var _ state.Operator = (*Windows)(nil)

// Windows are the open windows of a task's windowed rollups, as an Operator. Under a rule's id the log has the rule's
// definition, how far the windows of each tenant are, and what is open of each tenant and series; so a rule that
// configuration no longer has finishes its windows all the same. It is forgotten when no event that is still taken
// could be in one that has closed: should the rule come back before, such an event would make the window anew and take
// its place.
//
// What the log has is in no memory but the stores themselves: they keep what an epoch changes as it was until it is
// settled. One goroutine uses it.
type Windows struct {
	stores  []*store          // ascending in id
	orphans map[string][]byte // records of rules whose definition has not come, or has gone
	touched bool              // since the last committed epoch

	changed []change // of the Changes at hand
	values  []byte   // of changed

	diverted diverted // of the epoch
	limits   *tenants.Config
	oldest   int64 // time of an event that is still taken

	at     *aggregate.Measurement // what update takes
	more   *Particular
	update func(*contents)
}

// store has the windows of one rule.
type store struct {
	openWindows
	id         uint64
	definition []byte
	shape      string // of its windows, for readers of results
	current    bool
	keep       *Keep // nil: nothing more than all windows hold

	tenants map[string]bool // that it knows
	fresh   []string        // of them, since the last committed epoch

	defined bool    // the log has its definition
	in      logSize // what the log has of it
	next    pending
	text    []byte // to measure what is encoded
}

// pending is what Changes has told, until it is settled.
type pending struct {
	defined, ended bool
	in             logSize
}

// logSize is a number of records, and the bytes of their keys and values.
type logSize struct {
	keys  int
	bytes int64
}

func (n *logSize) add(records, bytes int) {
	n.keys, n.bytes = n.keys+records, n.bytes+int64(records*bytes)
}

// change is a record of the log: a key, and its value, which is values[from:to], or none when the key is gone.
type change struct {
	key      string
	from, to int
	gone     bool
}

// Version is that of the values in state (docs/format/state.md).
const Version = 1

// maxSpare bounds the memory of changes that is kept for the next epoch, in bytes.
const maxSpare = 1 << 20

// New returns Windows of the rules, of which none is open, with the limits of tenants.
func New(list []*Rule, limits *tenants.Config) *Windows {
	w := &Windows{limits: limits, orphans: map[string][]byte{}}
	w.update = func(v *contents) { v.add(w.at, w.more) }
	for _, r := range list {
		definition, id := r.Definition()
		if w.store(id) == nil {
			if err := w.open(id, definition, true); err != nil {
				panic("BUG: " + err.Error())
			}
		}
	}
	return w
}

// Idle says whether there are neither rules nor windows of such as are no more.
func (w *Windows) Idle() bool { return len(w.stores) == 0 }

// open makes the store of a rule.
func (w *Windows) open(id uint64, definition []byte, current bool) error {
	s, err := openDefinition(definition)
	if err != nil {
		return err
	}
	s.id, s.current = id, current
	w.stores = append(w.stores, s)
	slices.SortFunc(w.stores, func(a, b *store) int { return cmp.Compare(a.id, b.id) })
	return nil
}

func (w *Windows) store(id uint64) *store {
	for _, s := range w.stores {
		if s.id == id {
			return s
		}
	}
	return nil
}

// Add puts an event into the windows of a rule. key is a series', as series.AppendKey writes it; it is not retained.
func (w *Windows) Add(id uint64, tenant string, key []byte, time int64, m *aggregate.Measurement, p *Particular) windows.Verdict {
	s := w.store(id)
	if !s.tenants[tenant] {
		tenant = strings.Clone(tenant)
		s.fresh = append(s.fresh, tenant)
		w.know(s, tenant)
	}
	w.touched, w.at, w.more = true, m, p
	return s.Add(tenant, unsafe.String(unsafe.SliceData(key), len(key)), time, w.update)
}

// know notes a tenant of a store.
func (w *Windows) know(s *store, tenant string) {
	s.tenants[tenant] = true
	limits := w.limits.For(tenants.ID(tenant))
	s.Bound(tenant, limits.OpenWindows, int64(limits.WindowBytes))
}

// TakesFrom says of which event time on events are still taken, Unix nanoseconds.
func (w *Windows) TakesFrom(oldest int64) { w.oldest = oldest }

// Bound puts limits in force.
func (w *Windows) Bound(limits *tenants.Config) {
	w.limits = limits
	for _, s := range w.stores {
		for tenant := range s.tenants {
			w.know(s, tenant)
		}
	}
}

// Divert puts an event, of which Add said verdict, beside the windows of a rule that it misses because they have been
// emitted. It says whether it missed any, and full when the tenant has as much beside its windows as it may. offset
// names the event's record.
func (w *Windows) Divert(id uint64, tenant, key string, time, offset int64, verdict windows.Verdict, m *aggregate.Measurement,
	p *Particular) (missed, full bool) {
	w.store(id).missed(tenant, time, verdict, func(window windows.Window, tooLate bool) {
		missed = true
		full = full || !w.diverted.add(divertedCell{id, tenant, key, window, tooLate}, offset, w.limits, m, p)
	})
	return missed, full
}

// Advance closes what a tenant's watermark has passed.
func (w *Windows) Advance(tenant string, watermark int64, emit func(Closed)) {
	for _, s := range w.stores {
		if s.tenants[tenant] {
			w.touched = true
			s.Advance(tenant, watermark, func(e *windows.Emission[contents]) { emit(s.closed(e)) })
		}
	}
}

// Close closes what a silent tenant's clock has passed, and nothing else: times at which no window is open stay as they
// are, for the clock is a guess.
func (w *Windows) Close(tenant string, watermark int64, emit func(Closed)) {
	for _, s := range w.stores {
		if !s.tenants[tenant] {
			continue
		}
		for next := s.Next(tenant); next <= watermark; next = s.Next(tenant) {
			w.touched = true
			s.Advance(tenant, next, func(e *windows.Emission[contents]) { emit(s.closed(e)) })
		}
	}
}

// Next is the least watermark at which something of a tenant's windows is to be emitted or dropped.
func (w *Windows) Next(tenant string) int64 {
	next := int64(math.MaxInt64)
	for _, s := range w.stores {
		if s.tenants[tenant] {
			next = min(next, s.Next(tenant))
		}
	}
	return next
}

// Used is what a tenant has open in the rollup that has most open of it.
func (w *Windows) Used(tenant string) (windows int, bytes int64) {
	for _, s := range w.stores {
		_, parts, size := s.Usage(tenant)
		windows, bytes = max(windows, parts), max(bytes, size)
	}
	return windows, bytes
}

// Changes implements Operator.
func (w *Windows) Changes(emit func(key, value []byte)) {
	if !w.touched && !slices.ContainsFunc(w.stores, w.ended) {
		return
	}
	w.touched = true
	for _, s := range w.stores {
		w.changes(s)
	}
	slices.SortFunc(w.changed, func(a, b change) int { return strings.Compare(a.key, b.key) })
	for _, c := range w.changed {
		value := w.values[c.from:c.to:c.to]
		if c.gone {
			value = nil
		}
		emit([]byte(c.key), value)
	}
	clear(w.changed)
	w.changed, w.values = w.changed[:0], w.values[:0]
	if cap(w.values) > maxSpare {
		w.changed, w.values = nil, nil
	}
}

func (w *Windows) write(key string, value func(dst []byte) []byte) {
	from := len(w.values)
	w.values = value(w.values)
	w.changed = append(w.changed, change{key: key, from: from, to: len(w.values)})
}

func (w *Windows) remove(key string) {
	w.changed = append(w.changed, change{key: key, gone: true})
}

func (w *Windows) changes(s *store) {
	s.next = pending{defined: s.defined, in: s.in, ended: w.ended(s)}
	before := len(w.changed)
	s.changes(func(tenant string, was, is windows.Progress) {
		if s.next.ended {
			return
		}
		if was.Fired == windows.None {
			s.next.in.add(1, s.progressBytes(tenant))
		}
		w.write(stateKey(s.id, kindProgress, tenant, ""), func(dst []byte) []byte {
			return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(dst, uint64(is.Fired)), uint64(is.Floor))
		})
	}, func(tenant, name string, was, is *keptWindows) {
		s.count(&s.next.in, -1, tenant, name, was) // before is has been written: they share values
		switch {
		case s.keep != nil:
			w.keepParts(s, tenant, name, was, is)
		case is.empty():
			w.remove(stateKey(s.id, s.contents(), tenant, name))
		default:
			w.write(stateKey(s.id, s.contents(), tenant, name), func(dst []byte) []byte { return s.encode(dst, is, true) })
		}
		s.count(&s.next.in, 1, tenant, name, is)
	})
	if s.next.ended {
		for tenant := range s.tenants {
			w.remove(stateKey(s.id, kindProgress, tenant, ""))
		}
		w.remove(stateKey(s.id, kindDefinition, "", ""))
	} else if !s.defined && len(w.changed) > before {
		s.define(&s.next.in, 1)
		s.next.defined = true
		w.write(stateKey(s.id, kindDefinition, "", ""), func(dst []byte) []byte { return append(dst, s.definition...) })
	}
}

// ended says whether a rule can be forgotten.
func (w *Windows) ended(s *store) bool {
	if s.current || !s.empty() {
		return false
	}
	for tenant := range s.tenants {
		if s.Progress(tenant).Fired > w.oldest {
			return false
		}
	}
	return true
}

// empty says whether nothing is open or can be corrected.
func (s *store) empty() bool {
	for tenant := range s.tenants {
		if keys, _, _ := s.Usage(tenant); keys > 0 {
			return false
		}
	}
	return true
}

// Lengths of keys without their names, and of the value of progress.
const (
	definitionBytes = 9
	tenantBytes     = 10
	progressBytes   = 16
)

func (s *store) progressBytes(tenant string) int {
	return tenantBytes + len(tenant) + progressBytes
}

func (s *store) define(in *logSize, records int) {
	in.add(records, definitionBytes+len(s.definition))
}

// count adds to in, or with -1 takes away, what the log has of a key.
func (s *store) count(in *logSize, sign int, tenant, name string, k *keptWindows) {
	if k.empty() {
		return
	}
	key := tenantBytes + len(tenant) + len(name)
	if s.keep == nil {
		n := s.measure(k)
		for i := range k.parts {
			n += k.parts[i].value.inLog()
		}
		in.add(sign, key+n)
		return
	}
	if len(k.emitted) > 0 {
		in.add(sign, key+s.measure(k.head()))
	}
	for i := range k.parts {
		in.add(sign, key+startBytes+k.parts[i].inLog())
	}
}

// measure is how many bytes a key takes in the log without its contents.
func (s *store) measure(k *keptWindows) int {
	s.text = s.encode(s.text[:0], k, false)
	return len(s.text)
}

// Settle implements Operator.
func (w *Windows) Settle(committed bool) {
	if w.touched {
		for _, s := range w.stores {
			s.settle(committed)
		}
		if committed {
			w.stores = slices.DeleteFunc(w.stores, func(s *store) bool { return s.next.ended })
		}
	}
	w.touched = false
	w.diverted.forget()
}

func (s *store) settle(committed bool) {
	if committed {
		s.Commit()
		s.defined, s.in = s.next.defined, s.next.in
	} else {
		s.Rollback()
		for _, tenant := range s.fresh {
			delete(s.tenants, tenant)
		}
	}
	clear(s.fresh)
	s.fresh = s.fresh[:0]
}

// Restore implements Operator.
func (w *Windows) Restore(key, value []byte) error {
	id, kind, tenant, name := cutKey(string(key))
	var err error
	switch kind {
	case 0:
		return fmt.Errorf("window key %x: want a rule, what it is about, and a tenant", key)
	case kindDefinition:
		err = w.restoreDefinition(id, value)
	default:
		var r record
		if r, err = decodeWindowRecord(kind, tenant, name, value); err != nil {
			break
		}
		if s := w.store(id); s != nil {
			if value != nil || s.tenants[tenant] {
				w.place(s, kind, tenant, name, &r)
			}
		} else if delete(w.orphans, string(key)); value != nil {
			w.orphans[string(key)] = bytes.Clone(value)
		}
	}
	if err != nil {
		return fmt.Errorf("windows of rule %016x, tenant %q: %w", id, tenant, err)
	}
	return nil
}

func (w *Windows) restoreDefinition(id uint64, value []byte) error {
	s := w.store(id)
	if value == nil {
		if s != nil && s.defined {
			s.define(&s.in, -1)
			s.defined = false
		}
		w.stores = slices.DeleteFunc(w.stores, func(s *store) bool { return s.id == id && !s.current })
		return nil
	}
	if s != nil {
		if _, err := openDefinition(value); err != nil {
			return err
		}
	} else {
		if err := w.open(id, bytes.Clone(value), false); err != nil {
			return err
		}
		s = w.store(id)
	}
	if !s.defined {
		s.define(&s.in, 1)
		s.defined = true
	}
	for key, value := range w.orphans {
		if state.RuleOf(key) != id {
			continue
		}
		delete(w.orphans, key)
		if err := w.Restore([]byte(key), value); err != nil {
			panic("BUG: " + err.Error())
		}
	}
	return nil
}

// record is the value of a record: of progress, or of anything else.
type record struct {
	progress windows.Progress
	kept     *keptWindows
}

// decodeWindowRecord reads a value that is not a definition; nil is nothing.
func decodeWindowRecord(kind byte, tenant, name string, value []byte) (r record, err error) {
	r = record{windows.Progress{Fired: windows.None, Floor: windows.None}, new(keptWindows)}
	if value == nil {
		return r, nil
	}
	if err := tenants.Validate(tenants.ID(tenant)); err != nil {
		return r, err
	}
	switch kind {
	case kindProgress:
		if len(value) != progressBytes {
			return r, fmt.Errorf("progress: got %d bytes, want %d", len(value), progressBytes)
		}
		r.progress.Fired = int64(binary.LittleEndian.Uint64(value))
		r.progress.Floor = int64(binary.LittleEndian.Uint64(value[8:]))
		return r, nil
	case kindSlices:
		r.kept, err = decodeWindows(value)
	case kindSessions:
		r.kept, err = decodeSessions(value)
	case kindKept:
		var p keptPart
		if p, err = decodeKept(value); err == nil && name[:startBytes] != keptName(p.window.Start, "") {
			err = errKept
		}
		r.kept.parts, name = []keptPart{p}, name[startBytes:]
	}
	if err == nil {
		_, _, _, err = series.ParseKey([]byte(name))
	}
	return r, err
}

// place puts a record in its place in a store; one of another kind than the rule's says nothing.
func (w *Windows) place(s *store, kind byte, tenant, name string, r *record) {
	w.know(s, tenant)
	if kind == kindProgress {
		before := s.Progress(tenant).Fired != windows.None
		if s.RestoreProgress(tenant, r.progress); before {
			s.in.add(-1, s.progressBytes(tenant))
		}
		if r.progress.Fired != windows.None {
			s.in.add(1, s.progressBytes(tenant))
		}
		return
	}
	part := kind == kindKept
	if !part && kind != s.contents() || part && s.keep == nil {
		return
	}
	start := int64(0)
	if part {
		start, name = int64(binary.BigEndian.Uint64([]byte(name))), name[startBytes:]
	}
	s.count(&s.in, -1, tenant, name, s.kept(tenant, name))
	if s.keep == nil {
		s.restore(tenant, name, r.kept)
	} else {
		s.placeKept(tenant, name, start, part, r.kept)
	}
	s.count(&s.in, 1, tenant, name, s.kept(tenant, name))
}

// Len implements Operator.
func (w *Windows) Len() int { return w.inLog().keys }

// Bytes implements Operator.
func (w *Windows) Bytes() int64 { return w.inLog().bytes }

func (w *Windows) inLog() (n logSize) {
	for _, s := range w.stores {
		n.keys, n.bytes = n.keys+s.in.keys, n.bytes+s.in.bytes
	}
	for key, value := range w.orphans {
		n.add(1, len(key)+len(value))
	}
	return n
}
