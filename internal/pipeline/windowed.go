package pipeline

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"unsafe"

	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/windows"
)

var _ Operator = (*windowed)(nil)

// windowed are the open windows of a task's windowed rollups, as an Operator. Under a rule's id it keeps the rule's
// definition, how far the windows of each tenant are, and what is open of each tenant and series; so a rule that
// configuration no longer has finishes its windows all the same, and is then forgotten.
//
// committed is what the log holds. Stores are made from it when they are first needed, and again after an aborted epoch.
type windowed struct {
	current   []windowRule
	committed map[string][]byte
	size      int64             // bytes of committed
	pending   map[string][]byte // of the last Changes; nil values are gone
	stores    []*windowStore    // ascending in id
	loaded    bool
	touched   bool // since the last committed epoch

	diverted diverted // of the epoch
	limits   *tenants.Config

	at     *measurement // what update takes
	more   *particular
	update func(*windowValue)
}

type windowStore struct {
	openWindows
	id         uint64
	definition []byte
	shape      string // of its windows, for readers of results
	current    bool
	tenants    map[string]bool // that it knows
	keep       *Keep           // nil: nothing more than all windows hold
	// kept are where the slices and sessions begin that have records of their own in the log: those of rules with a Keep,
	// whose contents are too large to be written all together whenever one changes.
	kept map[keptKey][]int64
}

type keptKey struct{ tenant, name string }

const windowedVersion = 1

func newWindowed(rollups []*rollup, limits *tenants.Config) *windowed {
	w := &windowed{limits: limits, committed: map[string][]byte{}, pending: map[string][]byte{}}
	w.update = func(v *windowValue) { v.add(w.at, w.more) }
	for _, r := range rollups {
		if r.window != nil {
			w.current = append(w.current, *r.window)
		}
	}
	return w
}

func (w *windowed) idle() bool { return len(w.current) == 0 && len(w.committed) == 0 }

// load makes the stores from what the log holds.
func (w *windowed) load() {
	if w.loaded {
		return
	}
	w.loaded, w.stores = true, nil
	for i := range w.current {
		definition, id := w.current[i].definition()
		w.open(id, definition, true)
	}
	for _, kind := range []byte{windowDefinition, windowProgress, windowContents, windowSessions} {
		for key, value := range w.committed {
			if key[8] == kind {
				w.take(key, value)
			}
		}
	}
	w.loadKept()
}

// open makes the store of a rule, unless there is one.
func (w *windowed) open(id uint64, definition []byte, current bool) {
	if w.store(id) != nil {
		return
	}
	s, err := openDefinition(definition)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	s.id, s.current = id, current
	w.stores = append(w.stores, s)
	slices.SortFunc(w.stores, func(a, b *windowStore) int { return cmp.Compare(a.id, b.id) })
}

func (w *windowed) store(id uint64) *windowStore {
	for _, s := range w.stores {
		if s.id == id {
			return s
		}
	}
	return nil
}

// take fills a record of the log into its store. Restore has checked it.
func (w *windowed) take(key string, value []byte) {
	id, kind, tenant, name := cutWindowKey(key)
	if kind == windowDefinition {
		w.open(id, value, false)
		return
	}
	s := w.store(id)
	if s == nil {
		return // its definition is gone: nothing says how long its windows are
	}
	w.know(s, tenant)
	if kind == windowProgress {
		s.RestoreProgress(tenant, windows.Progress{
			Fired: int64(binary.LittleEndian.Uint64(value)), Floor: int64(binary.LittleEndian.Uint64(value[8:])),
		})
		return
	}
	if kind == s.contents() && s.keep == nil {
		s.restore(tenant, name, s.decode(value))
	}
}

// add puts an event into the windows of a rule. key is a series', as series.AppendKey writes it; it is not retained.
func (w *windowed) add(id uint64, tenant string, key []byte, time int64, m *measurement, p *particular) windows.Verdict {
	w.load()
	s := w.store(id)
	if !s.tenants[tenant] {
		w.know(s, strings.Clone(tenant))
	}
	w.touched, w.at, w.more = true, m, p
	return s.Add(tenant, unsafe.String(unsafe.SliceData(key), len(key)), time, w.update)
}

// know notes a tenant of a store.
func (w *windowed) know(s *windowStore, tenant string) {
	s.tenants[tenant] = true
	limits := w.limits.For(tenants.ID(tenant))
	s.Bound(tenant, limits.OpenWindows, int64(limits.WindowBytes))
}

// bound puts limits in force.
func (w *windowed) bound(limits *tenants.Config) {
	w.limits = limits
	for _, s := range w.stores {
		for tenant := range s.tenants {
			w.know(s, tenant)
		}
	}
}

// missed calls each for the windows that an event of a rule misses because they have been emitted.
func (w *windowed) missed(id uint64, tenant string, time int64, verdict windows.Verdict, each func(w windows.Window, tooLate bool)) {
	w.store(id).missed(tenant, time, verdict, each)
}

// advance closes what a tenant's watermark has passed.
func (w *windowed) advance(tenant string, watermark int64, emit func(s *windowStore, e *windows.Emission[windowValue])) {
	w.load()
	for _, s := range w.stores {
		if s.tenants[tenant] {
			w.touched = true
			s.Advance(tenant, watermark, func(e *windows.Emission[windowValue]) { emit(s, e) })
		}
	}
}

// close closes what a silent tenant's clock has passed, and nothing else: times at which no window is open stay as they are, for
// the clock is a guess.
func (w *windowed) close(tenant string, watermark int64, emit func(s *windowStore, e *windows.Emission[windowValue])) {
	w.load()
	for _, s := range w.stores {
		if !s.tenants[tenant] {
			continue
		}
		for next := s.Next(tenant); next <= watermark; next = s.Next(tenant) {
			w.touched = true
			s.Advance(tenant, next, func(e *windows.Emission[windowValue]) { emit(s, e) })
		}
	}
}

// next is the least watermark at which something of a tenant's windows is to be emitted or dropped.
func (w *windowed) next(tenant string) int64 {
	w.load()
	next := int64(math.MaxInt64)
	for _, s := range w.stores {
		if s.tenants[tenant] {
			next = min(next, s.Next(tenant))
		}
	}
	return next
}

// Changes implements Operator.
func (w *windowed) Changes(emit func(key, value []byte)) {
	if !w.touched {
		return
	}
	clear(w.pending)
	for _, s := range w.stores {
		w.changes(s)
	}
	for _, key := range slices.Sorted(maps.Keys(w.pending)) {
		value := w.pending[key]
		if _, known := w.committed[key]; value == nil && !known {
			delete(w.pending, key)
			continue
		}
		emit([]byte(key), value)
	}
}

func (w *windowed) changes(s *windowStore) {
	if definition := windowKey(s.id, windowDefinition, "", ""); w.committed[definition] == nil && len(s.tenants) > 0 {
		w.pending[definition] = s.definition
	}
	s.changes(func(tenant string, p windows.Progress) {
		value := binary.LittleEndian.AppendUint64(nil, uint64(p.Fired))
		w.pending[windowKey(s.id, windowProgress, tenant, "")] = binary.LittleEndian.AppendUint64(value, uint64(p.Floor))
	}, func(tenant, name string, k *keptWindows) {
		key := windowKey(s.id, s.contents(), tenant, name)
		switch {
		case s.keep != nil:
			w.keepParts(s, key, tenant, name, k)
		case k == nil:
			w.pending[key] = nil
		default:
			w.pending[key] = s.encode(k)
		}
	})
	if s.current {
		return
	}
	for tenant := range s.tenants {
		if keys, _, _ := s.Usage(tenant); keys > 0 {
			return
		}
	}
	for tenant := range s.tenants {
		w.pending[windowKey(s.id, windowProgress, tenant, "")] = nil
	}
	w.pending[windowKey(s.id, windowDefinition, "", "")] = nil
}

// Settle implements Operator.
func (w *windowed) Settle(committed bool) {
	if !committed && w.touched {
		w.loaded, w.stores = false, nil
	}
	if committed {
		for key, value := range w.pending {
			w.keep(key, value)
			if value != nil {
				continue
			}
			if key[8] == windowDefinition {
				id := ruleOf(key)
				w.stores = slices.DeleteFunc(w.stores, func(s *windowStore) bool { return s.id == id })
			}
		}
	}
	clear(w.pending)
	w.touched = false
	w.diverted.forget()
}

// Restore implements Operator.
func (w *windowed) Restore(key, value []byte) error {
	id, kind, tenant, name := cutWindowKey(string(key))
	if kind == 0 {
		return fmt.Errorf("window key %x: want a rule, what it is about, and a tenant", key)
	}
	w.loaded, w.stores = false, nil
	if value == nil {
		w.keep(string(key), nil)
		return nil
	}
	if kind != windowDefinition {
		if err := tenants.Validate(tenants.ID(tenant)); err != nil {
			return fmt.Errorf("windows of rule %016x: %w", id, err)
		}
	}
	var err error
	switch kind {
	case windowDefinition:
		_, err = openDefinition(value)
	case windowProgress:
		if len(value) != 16 {
			err = fmt.Errorf("progress: got %d bytes, want 16", len(value))
		}
	default:
		err = checkContents(kind, name, value)
	}
	if err != nil {
		return fmt.Errorf("windows of rule %016x, tenant %q: %w", id, tenant, err)
	}
	w.keep(string(key), bytes.Clone(value))
	return nil
}

// keep notes what the log holds of a key now; nil is nothing.
func (w *windowed) keep(key string, value []byte) {
	if old, known := w.committed[key]; known {
		w.size -= int64(len(key) + len(old))
	}
	if value == nil {
		delete(w.committed, key)
		return
	}
	w.size += int64(len(key) + len(value))
	w.committed[key] = value
}

// Len implements Operator.
func (w *windowed) Len() int { return len(w.committed) }

// Bytes implements Operator.
func (w *windowed) Bytes() int64 { return w.size }
