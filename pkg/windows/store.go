package windows

import (
	"cmp"
	"container/heap"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// StoreConfig bounds a Store.
type StoreConfig struct {
	// AllowedLateness is how long after its end, in event time, a window is corrected. At least 0. Watermarks trail
	// events by a delay of their own, which is apart from this.
	AllowedLateness time.Duration
	// Late says what becomes of late events.
	Late LatePolicy
	// MaxSlices and MaxBytes bound what one tenant keeps, unless it has bounds of its own (Bound). Both above 0.
	MaxSlices int
	MaxBytes  int64
}

// Validate says what is wrong with values that came from outside.
func (c StoreConfig) Validate() error {
	switch {
	case c.AllowedLateness < 0:
		return fmt.Errorf("allowed lateness %s: want at least 0", c.AllowedLateness)
	case int(c.Late) >= len(policyNames):
		return fmt.Errorf("late policy %d: want merge, recompute or divert", c.Late)
	case c.MaxSlices <= 0:
		return fmt.Errorf("max slices %d: want more than 0", c.MaxSlices)
	case c.MaxBytes <= 0:
		return fmt.Errorf("max bytes %d: want more than 0", c.MaxBytes)
	}
	return nil
}

// Accumulator says how to work with the contents of windows, whose zero value is empty.
type Accumulator[A any] struct {
	// Merge adds from to into and keeps nothing of from. Any order of merges must mean the same, and a merge into an
	// empty one make an equal copy.
	Merge func(into, from *A)
	// Bytes is about what a takes in memory, beside the struct itself.
	Bytes func(a *A) int
}

// Emission is one result: the contents of a window of a key.
type Emission[A any] struct {
	Tenant, Key string
	Window      Window
	// Version counts the emissions of this key and window from 1.
	Version uint32
	// Delta says that Value adds to the earlier versions instead of replacing them.
	Delta bool
	// Value is valid until the callback returns.
	Value *A
}

// Stats count what a tenant's events and windows came to, since the tenant turned up.
type Stats struct {
	Verdicts [verdicts]uint64 // by Verdict
	Emitted  uint64           // first emissions of windows
	Late     uint64           // corrections of emitted windows
	Cut      uint64           // times that lateness was given up for room
}

// Store holds the open windows of keys, by tenant: events are added, watermarks advance, windows are emitted when the
// watermark reaches their end and corrected until AllowedLateness has passed. Watermarks and bounds are a tenant's own,
// so none closes the windows or takes the room of another.
//
// At its bounds a tenant's events are refused (Full) when they would need a new slice, so that what is open stays
// exact. The next Advance then makes room: it drops what is kept for corrections only, all of it, and windows emitted
// before count as past lateness (Stats.Cut).
//
// The same calls give the same emissions in the same order. What has changed can be written to a log (Changes) and be
// filled in again (Restore); and until it is said to be safe there (Commit), it can be taken back (Rollback). Not safe
// for concurrent use.
type Store[A any] struct {
	windows Aligned
	config  StoreConfig
	ops     Accumulator[A]
	tenants map[string]*storeTenant[A]
	due     []firing[A]
	total   A
}

type storeTenant[A any] struct {
	Progress
	name  string
	full  bool // a slice was refused since the last Advance
	moved bool // Progress was set; turns of keys are of another

	maxSlices int
	maxBytes  int64

	slice      Window // of the last event, and its standing; empty when that is not known
	open, late bool

	keys   map[string]*storeKey[A]
	order  keyHeap[*storeKey[A]] // keys by what comes next of them
	slices int
	bytes  int64
	stats  Stats
	fixes  map[*storeKey[A]]bool // keys with late events since the last Advance

	committed committed
	former    map[string]*Entry[A] // what keys with changes were then
	nothing   Entry[A]             // of keys that were not there
}

type storeKey[A any] struct {
	turn
	name string
	Entry[A]
	bytes  int64
	former *Entry[A] // at the last Commit; nil when nothing has changed
}

// Emitted remembers how often a window was emitted.
type Emitted struct {
	Window  Window
	Version uint32
}

type firing[A any] struct {
	key    *storeKey[A]
	window Window
	late   bool
}

const (
	never    = math.MaxInt64
	keyBytes = 160 // of a key without its name
	partOf   = 64  // of a slice or an emitted window
)

// NewStore takes valid windows and config.
func NewStore[A any](windows Aligned, config StoreConfig, ops Accumulator[A]) *Store[A] {
	return &Store[A]{windows: windows, config: config, ops: ops, tenants: map[string]*storeTenant[A]{}}
}

func (s *Store[A]) tenant(name string) *storeTenant[A] {
	t := s.tenants[name]
	if t == nil {
		name = strings.Clone(name)
		t = &storeTenant[A]{
			name: name, Progress: noProgress, maxSlices: s.config.MaxSlices, maxBytes: s.config.MaxBytes,
			keys: map[string]*storeKey[A]{}, fixes: map[*storeKey[A]]bool{},
			committed: committed{Progress: noProgress}, former: map[string]*Entry[A]{},
		}
		s.tenants[name] = t
	}
	return t
}

// Add puts an event of a key into its windows: update is called with each accumulator that has to take it, at most two.
// tenant and key are copied when they are kept. Cost: one look-up, and a slice's insertion when it is new; it does not
// grow with the number of windows that overlap.
func (s *Store[A]) Add(tenant, key string, t int64, update func(*A)) Verdict {
	tn := s.tenant(tenant)
	if t < tn.slice.Start || t >= tn.slice.End { // nearly all events are of the slice before
		tn.slice = s.windows.Slice(t)
		tn.open, tn.late = s.standing(tn, tn.slice)
	}
	slice, open, late := tn.slice, tn.open, tn.late
	verdict := s.add(tn, key, slice, open, late, update)
	tn.stats.Verdicts[verdict]++
	return verdict
}

// Missed calls each for the windows of t that have been emitted, in order, and says which of them have passed lateness:
// those that an event at t is not in, for a caller that puts diverted events beside them.
func (s *Store[A]) Missed(tenant string, t int64, each func(w Window, tooLate bool)) {
	tn := s.tenants[tenant]
	if tn == nil {
		return
	}
	for w, last := s.windows.Span(s.windows.Slice(t)); w.End <= tn.Fired; w = s.windows.Next(w) {
		each(w, w.End <= tn.Floor)
		if w == last {
			return
		}
	}
}

// standing says whether a slice has windows that are open, and some that were emitted and can be corrected.
func (s *Store[A]) standing(tn *storeTenant[A], slice Window) (open, late bool) {
	w, last := s.windows.Span(slice)
	for open = last.End > tn.Fired; w.End <= tn.Fired; w = s.windows.Next(w) {
		if w.End > tn.Floor {
			return open, true
		}
		if w == last {
			break
		}
	}
	return open, false
}

func (s *Store[A]) add(tn *storeTenant[A], name string, slice Window, open, late bool, update func(*A)) Verdict {
	switch {
	case !open && !late:
		return TooLate
	case !open && s.config.Late == Divert:
		return Diverted
	}
	k := tn.keys[name]
	at, found := 0, false
	if k != nil {
		at, found = k.find(slice)
	}
	if !found {
		if tn.slices >= tn.maxSlices || tn.bytes >= tn.maxBytes {
			tn.full = true
			return Full
		}
		if k == nil {
			k = tn.newKey(name)
		}
		tn.touch(k)
		k.Slices = slices.Insert(k.Slices, at, EntrySlice[A]{Window: slice})
		tn.slices++
		tn.grow(k, partOf)
		s.schedule(tn, k)
	}
	tn.touch(k)
	part := &k.Slices[at]
	if open || s.config.Late == Recompute {
		s.update(tn, k, slice, &part.Value, update)
	}
	if !late {
		return OnTime
	}
	switch s.config.Late {
	case Divert:
		return Diverted
	case MergeDelta:
		s.update(tn, k, slice, &part.Late, update)
	case Recompute:
		if part.Late == nil {
			part.Late = new(A) // marks the slice; what is emitted is the whole
		}
	}
	tn.fixes[k] = true
	return Late
}

func (s *Store[A]) update(tn *storeTenant[A], k *storeKey[A], slice Window, value **A, update func(*A)) {
	if *value == nil {
		*value = new(A)
		update(*value)
		tn.grow(k, s.ops.Bytes(*value))
		return
	}
	s.own(k, slice, value)
	before := s.ops.Bytes(*value)
	update(*value)
	tn.grow(k, s.ops.Bytes(*value)-before)
}

func (tn *storeTenant[A]) newKey(name string) *storeKey[A] {
	k := &storeKey[A]{name: strings.Clone(name), turn: turn{next: never}}
	tn.keys[k.name] = k
	heap.Push(&tn.order, k)
	tn.grow(k, keyBytes+len(name))
	return k
}

func (tn *storeTenant[A]) grow(k *storeKey[A], bytes int) {
	k.bytes += int64(bytes)
	tn.bytes += int64(bytes)
}

// Advance moves the tenant's watermark forward and calls emit for what has to be emitted, ascending in window end,
// start and key: corrections of windows emitted before, then windows that the watermark has reached. A watermark that
// is not ahead of the last one brings corrections only. emit must not call the store.
func (s *Store[A]) Advance(tenant string, watermark int64, emit func(*Emission[A])) {
	tn := s.tenants[tenant]
	if tn == nil {
		if watermark == None {
			return
		}
		tn = s.tenant(tenant)
	}
	s.reschedule(tn)
	s.correct(tn, emit)
	s.fire(tn, watermark, emit)
	if tn.full {
		s.cut(tn)
	}
}

func (s *Store[A]) fire(tn *storeTenant[A], watermark int64, emit func(*Emission[A])) {
	before := tn.Fired
	if !tn.advance(watermark, s.config.AllowedLateness) {
		return
	}
	tn.slice = Window{}
	reached := tn.order.reached(watermark)
	s.due = s.due[:0]
	for _, k := range reached {
		s.ending(k, before, watermark)
	}
	s.emit(tn, emit)
	for _, k := range reached {
		s.expire(tn, k)
	}
}

// cut gives up corrections of what has been emitted.
func (s *Store[A]) cut(tn *storeTenant[A]) {
	tn.full, tn.slice = false, Window{}
	tn.cut()
	tn.stats.Cut++
	for _, k := range tn.keys {
		s.expire(tn, k)
	}
}

// ending notes the windows of a key whose end lies in (after, until] and which hold something.
func (s *Store[A]) ending(k *storeKey[A], after, until int64) {
	begun := len(s.due)
	for i := range k.Slices {
		if k.Slices[i].Value == nil {
			continue
		}
		for w, last := s.windows.Span(k.Slices[i].Window); w.Start <= last.Start; w = s.windows.Next(w) {
			// Windows of later slices ascend, so one noted already is among the last.
			if w.End > after && w.End <= until &&
				!slices.ContainsFunc(s.due[begun:], func(f firing[A]) bool { return f.window == w }) {
				s.due = append(s.due, firing[A]{key: k, window: w})
			}
		}
	}
}

// correct emits what came late since the last Advance.
func (s *Store[A]) correct(tn *storeTenant[A], emit func(*Emission[A])) {
	if len(tn.fixes) == 0 {
		return
	}
	s.due = s.due[:0]
	for k := range tn.fixes {
		begun := len(s.due)
		for i := range k.Slices {
			if k.Slices[i].Late == nil {
				continue
			}
			for w, last := s.windows.Span(k.Slices[i].Window); w.Start <= last.Start; w = s.windows.Next(w) {
				if w.End <= tn.Fired && w.End > tn.Floor &&
					!slices.ContainsFunc(s.due[begun:], func(f firing[A]) bool { return f.window == w }) {
					s.due = append(s.due, firing[A]{key: k, window: w, late: true})
				}
			}
		}
	}
	s.emit(tn, emit)
	for k := range tn.fixes {
		tn.touch(k)
		for i := range k.Slices {
			if late := k.Slices[i].Late; late != nil {
				if s.config.Late == MergeDelta {
					tn.grow(k, -s.ops.Bytes(late))
				}
				k.Slices[i].Late = nil
			}
		}
		s.expire(tn, k)
	}
	clear(tn.fixes)
}

func (s *Store[A]) emit(tn *storeTenant[A], emit func(*Emission[A])) {
	slices.SortFunc(s.due, func(a, b firing[A]) int {
		return cmp.Or(cmp.Compare(a.window.End, b.window.End), cmp.Compare(a.window.Start, b.window.Start),
			cmp.Compare(a.key.name, b.key.name))
	})
	for _, f := range s.due {
		tn.touch(f.key)
		e := Emission[A]{Tenant: tn.name, Key: f.key.name, Window: f.window, Version: s.version(tn, f.key, f.window)}
		e.Delta = f.late && s.config.Late == MergeDelta
		s.total = *new(A)
		for i := range f.key.Slices {
			part := &f.key.Slices[i]
			if part.Window.Start < f.window.Start || part.Window.End > f.window.End {
				continue
			}
			value := part.Value
			if e.Delta {
				value = part.Late
			}
			if value != nil {
				s.ops.Merge(&s.total, value)
			}
		}
		e.Value = &s.total
		if f.late {
			tn.stats.Late++
		} else {
			tn.stats.Emitted++
		}
		emit(&e)
	}
	clear(s.due)
}

// version counts one more emission of a window.
func (s *Store[A]) version(tn *storeTenant[A], k *storeKey[A], w Window) uint32 {
	if s.config.Late == Divert || w.End <= tn.Floor {
		return 1 // never corrected: nothing to remember
	}
	at, found := slices.BinarySearchFunc(k.Emitted, w.Start,
		func(e Emitted, start int64) int { return cmp.Compare(e.Window.Start, start) })
	if !found {
		k.Emitted = slices.Insert(k.Emitted, at, Emitted{Window: w})
		tn.grow(k, partOf)
	}
	k.Emitted[at].Version++
	return k.Emitted[at].Version
}

// expire drops what no window needs any more, and the key when nothing is left.
func (s *Store[A]) expire(tn *storeTenant[A], k *storeKey[A]) {
	parts, emitted := len(k.Slices), len(k.Emitted)
	spent := func(p EntrySlice[A]) bool { return s.spent(tn, &p) }
	past := func(e Emitted) bool { return e.Window.End <= tn.Floor }
	if slices.ContainsFunc(k.Slices, spent) || slices.ContainsFunc(k.Emitted, past) {
		tn.touch(k)
		k.Slices = slices.DeleteFunc(k.Slices, func(p EntrySlice[A]) bool {
			if !spent(p) {
				return false
			}
			for _, value := range []*A{p.Value, p.Late} {
				if value != nil {
					tn.grow(k, -s.ops.Bytes(value))
				}
			}
			return true
		})
		k.Emitted = slices.DeleteFunc(k.Emitted, past)
		tn.slices -= parts - len(k.Slices)
		tn.grow(k, -partOf*(parts-len(k.Slices)+emitted-len(k.Emitted)))
	}
	if !k.empty() {
		s.schedule(tn, k)
		return
	}
	tn.drop(k)
}

// spent says whether no window needs a slice any more.
func (s *Store[A]) spent(tn *storeTenant[A], p *EntrySlice[A]) bool {
	open, late := s.standing(tn, p.Window)
	return !open && (p.Late == nil || !late) && (!late || s.config.Late != Recompute)
}

// schedule finds the least watermark at which one of the key's windows is to be emitted or dropped.
func (s *Store[A]) schedule(tn *storeTenant[A], k *storeKey[A]) {
	next := int64(never)
	lateness := int64(s.config.AllowedLateness)
	for i := range k.Slices {
		w, last := s.windows.Span(k.Slices[i].Window)
		for w.End <= tn.Fired && w != last {
			w = s.windows.Next(w)
		}
		if w.End > tn.Fired {
			next = min(next, w.End)
		}
		next = min(next, max(last.End+lateness, tn.Fired+1))
	}
	if len(k.Emitted) > 0 {
		first := k.Emitted[0].Window.End // of one size, so the first start has the first end
		next = min(next, max(first+lateness, tn.Fired+1))
	}
	tn.order.set(k, next)
}

// Next is the least watermark at which a window of the tenant is to be emitted, or something of it dropped. It is
// math.MaxInt64 when nothing is kept. Events that come change it.
func (s *Store[A]) Next(tenant string) int64 {
	tn := s.tenants[tenant]
	if tn == nil || len(tn.order) == 0 {
		return never
	}
	s.reschedule(tn)
	return tn.order[0].next
}

// Bound gives a tenant bounds of its own, both above 0, in place of those of the config. What it has beyond them stays.
func (s *Store[A]) Bound(tenant string, maxSlices int, maxBytes int64) {
	tn := s.tenant(tenant)
	tn.maxSlices, tn.maxBytes = maxSlices, maxBytes
}

// Stats are the tenant's counts; zero for a tenant without windows.
func (s *Store[A]) Stats(tenant string) Stats {
	if tn := s.tenants[tenant]; tn != nil {
		return tn.stats
	}
	return Stats{}
}

// Usage is what the tenant keeps: keys, slices, and about how many bytes.
func (s *Store[A]) Usage(tenant string) (keys, parts int, bytes int64) {
	if tn := s.tenants[tenant]; tn != nil {
		return len(tn.keys), tn.slices, tn.bytes
	}
	return 0, 0, 0
}
