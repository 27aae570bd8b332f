package windows

import (
	"cmp"
	"container/heap"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// SessionConfig says when sessions end, and bounds them.
type SessionConfig struct {
	// Gap is how long a key is silent before its session ends: events closer than Gap belong together. Above 0. A
	// session is [first event, last event + Gap).
	Gap time.Duration
	// StoreConfig bounds what a tenant keeps, a session counting as a slice. Late is Recompute or Divert: what a late
	// event adds to a session cannot be told apart from its new bounds.
	StoreConfig
}

// Validate says what is wrong with values that came from outside.
func (c SessionConfig) Validate() error {
	if c.Gap <= 0 {
		return fmt.Errorf("session gap %s: want more than 0", c.Gap)
	}
	if c.Late == MergeDelta {
		return errors.New("late policy merge: sessions take recompute or divert")
	}
	return c.StoreConfig.Validate()
}

// Sessions holds the sessions of keys, by tenant. Events join sessions, and sessions grow together when an event closes
// the gap between them, also when it is late: then those emitted are retracted and the joined one is emitted in their
// place (Recompute). A session is emitted when the watermark reaches its end. Bounds, order of emissions, Changes and
// Restore are as with Store. Not safe for concurrent use.
type Sessions[A any] struct {
	config  SessionConfig
	ops     Accumulator[A]
	tenants map[string]*sessionTenant[A]
	due     []sessionDue[A]
}

type sessionTenant[A any] struct {
	Progress
	name     string
	full     bool
	moved    bool
	maxCount int
	maxBytes int64
	keys     map[string]*sessionKey[A]
	order    keyHeap[*sessionKey[A]] // by a bound of what comes next of them: events make sessions longer
	count    int
	bytes    int64
	stats    Stats
	retract  []sessionDue[A]         // emitted sessions that are no more
	fixes    map[*sessionKey[A]]bool // keys with late events since the last Advance

	committed committed
	former    map[string][]EntrySession[A] // what keys with changes were then; none for nothing
}

type sessionKey[A any] struct {
	turn
	name     string
	sessions []EntrySession[A] // ascending, apart by Gap at least
	former   []EntrySession[A] // at the last Commit, when touched
	touched  bool
}

// EntrySession is one session of a key. Version is how often it was emitted.
type EntrySession[A any] struct {
	Window  Window
	Version uint32
	Late    bool // changed since it was emitted; false right after Advance
	Value   *A
}

type sessionDue[A any] struct {
	key     string
	session *EntrySession[A]
	window  Window
	version uint32
	retract bool
}

// NewSessions takes a valid config.
func NewSessions[A any](config SessionConfig, ops Accumulator[A]) *Sessions[A] {
	return &Sessions[A]{config: config, ops: ops, tenants: map[string]*sessionTenant[A]{}}
}

func (s *Sessions[A]) tenant(name string) *sessionTenant[A] {
	t := s.tenants[name]
	if t == nil {
		t = &sessionTenant[A]{
			name: strings.Clone(name), Progress: noProgress, maxCount: s.config.MaxSlices, maxBytes: s.config.MaxBytes,
			keys: map[string]*sessionKey[A]{}, fixes: map[*sessionKey[A]]bool{},
			committed: committed{Progress: noProgress}, former: map[string][]EntrySession[A]{},
		}
		s.tenants[t.name] = t
	}
	return t
}

// Add puts an event of a key at t into its session: update is called with its accumulator. tenant and key are copied
// when they are kept. Cost: a look-up and a search among the key's sessions.
func (s *Sessions[A]) Add(tenant, key string, t int64, update func(*A)) Verdict {
	tn := s.tenant(tenant)
	verdict := s.add(tn, key, t, update)
	tn.stats.Verdicts[verdict]++
	return verdict
}

func (s *Sessions[A]) add(tn *sessionTenant[A], name string, t int64, update func(*A)) Verdict {
	event := Window{Start: t, End: t + int64(s.config.Gap)}
	k := tn.keys[name]
	from, to, late := 0, 0, event.End <= tn.Fired
	if k != nil {
		from, to = k.joined(event)
		for i := from; i < to; i++ {
			late = late || k.sessions[i].Version > 0
		}
	}
	switch {
	case from == to && event.End <= tn.Floor:
		return TooLate
	case late && s.config.Late == Divert:
		return Diverted
	case from == to && (tn.count >= tn.maxCount || tn.bytes >= tn.maxBytes):
		tn.full = true
		return Full
	}
	if k == nil {
		k = tn.newKey(name)
	}
	tn.touch(k)
	session := s.join(tn, k, from, to, event)
	tn.bytes -= int64(s.ops.Bytes(session.Value))
	update(session.Value)
	tn.bytes += int64(s.ops.Bytes(session.Value))
	if session.Window.End < k.next {
		tn.order.set(k, session.Window.End)
	}
	if late {
		session.Late = true
		tn.fixes[k] = true
		return Late
	}
	return OnTime
}

func (tn *sessionTenant[A]) newKey(name string) *sessionKey[A] {
	k := &sessionKey[A]{name: strings.Clone(name), turn: turn{next: never}}
	tn.keys[k.name] = k
	heap.Push(&tn.order, k)
	tn.bytes += int64(keyBytes + len(name))
	return k
}

func (tn *sessionTenant[A]) drop(k *sessionKey[A]) {
	tn.bytes -= int64(keyBytes + len(k.name))
	delete(tn.keys, k.name)
	delete(tn.fixes, k)
	heap.Remove(&tn.order, k.at)
}

// joined are the sessions that an event touches: sessions[from:to].
func (k *sessionKey[A]) joined(event Window) (from, to int) {
	from, _ = slices.BinarySearchFunc(k.sessions, event.Start, func(e EntrySession[A], start int64) int {
		if e.Window.End > start {
			return 1
		}
		return -1
	})
	for to = from; to < len(k.sessions) && k.sessions[to].Window.Start < event.End; to++ {
	}
	return from, to
}

// join makes one session of sessions[from:to] and the event. Of those that were emitted, what has other bounds is
// retracted.
func (s *Sessions[A]) join(tn *sessionTenant[A], k *sessionKey[A], from, to int, event Window) *EntrySession[A] {
	if from == to {
		k.sessions = slices.Insert(k.sessions, from, EntrySession[A]{Window: event, Value: new(A)})
		tn.count++
		tn.bytes += int64(partOf + s.ops.Bytes(k.sessions[from].Value))
		return &k.sessions[from]
	}
	all := Window{Start: min(event.Start, k.sessions[from].Window.Start), End: max(event.End, k.sessions[to-1].Window.End)}
	for i := from; i < to; i++ {
		if e := &k.sessions[i]; e.Version > 0 && e.Window != all {
			tn.retract = append(tn.retract, sessionDue[A]{key: k.name, window: e.Window, version: e.Version + 1, retract: true})
			e.Version = 0
		}
	}
	first := &k.sessions[from]
	s.own(k, first)
	for i := from + 1; i < to; i++ {
		other := &k.sessions[i]
		tn.bytes -= int64(s.ops.Bytes(first.Value) + s.ops.Bytes(other.Value) + partOf)
		s.ops.Merge(first.Value, other.Value)
		tn.bytes += int64(s.ops.Bytes(first.Value))
		tn.count--
	}
	first.Window = all
	k.sessions = slices.Delete(k.sessions, from+1, to)
	return &k.sessions[from]
}

// Advance moves the tenant's watermark forward and calls emit for retractions and corrections of sessions emitted
// before, then for sessions that the watermark has reached; both ascending in end, start and key. A retraction has a
// nil Value and the version after the last of its window. emit must not call the store. Cost: that of what is emitted
// or dropped, and once a Gap at most a look at each key.
func (s *Sessions[A]) Advance(tenant string, watermark int64, emit func(*Emission[A])) {
	tn := s.tenants[tenant]
	if tn == nil {
		if watermark == None {
			return
		}
		tn = s.tenant(tenant)
	}
	s.reschedule(tn)
	before := tn.Fired
	tn.advance(watermark, s.config.AllowedLateness)
	s.due = append(s.due[:0], tn.retract...)
	clear(tn.retract)
	tn.retract = tn.retract[:0]
	for k := range tn.fixes {
		s.gather(tn, k, func(e *EntrySession[A]) bool { return e.Late && e.Window.End <= before })
	}
	s.emit(tn, true, emit)
	reached := tn.order.reached(tn.Fired)
	for _, k := range reached {
		s.gather(tn, k, func(e *EntrySession[A]) bool { return e.Version == 0 && e.Window.End <= tn.Fired })
	}
	s.emit(tn, false, emit)
	if tn.full {
		tn.full = false
		tn.cut()
		tn.stats.Cut++
		reached = slices.Clone(tn.order)
	}
	for k := range tn.fixes {
		s.expire(tn, k)
	}
	clear(tn.fixes)
	for _, k := range reached {
		s.expire(tn, k)
	}
}

func (s *Sessions[A]) gather(tn *sessionTenant[A], k *sessionKey[A], want func(*EntrySession[A]) bool) {
	for i := range k.sessions {
		if e := &k.sessions[i]; want(e) {
			tn.touch(k)
			s.due = append(s.due, sessionDue[A]{key: k.name, session: e, window: e.Window})
		}
	}
}

func (s *Sessions[A]) emit(tn *sessionTenant[A], late bool, emit func(*Emission[A])) {
	slices.SortFunc(s.due, func(a, b sessionDue[A]) int {
		return cmp.Or(cmp.Compare(a.window.End, b.window.End),
			cmp.Compare(a.window.Start, b.window.Start), cmp.Compare(a.key, b.key))
	})
	for _, d := range s.due {
		e := Emission[A]{Tenant: tn.name, Key: d.key, Window: d.window, Version: d.version}
		if !d.retract {
			d.session.Version++
			d.session.Late = false
			e.Version, e.Value = d.session.Version, d.session.Value
		}
		if late {
			tn.stats.Late++
		} else {
			tn.stats.Emitted++
		}
		emit(&e)
	}
	clear(s.due)
	s.due = s.due[:0]
}

// expire drops the key's sessions that have passed lateness, and the key when none is left. It may be gone already.
func (s *Sessions[A]) expire(tn *sessionTenant[A], k *sessionKey[A]) {
	if tn.keys[k.name] != k {
		return
	}
	past := func(e EntrySession[A]) bool { return e.Version > 0 && e.Window.End <= tn.Floor }
	if slices.ContainsFunc(k.sessions, past) {
		tn.touch(k)
		before := len(k.sessions)
		k.sessions = slices.DeleteFunc(k.sessions, func(e EntrySession[A]) bool {
			if !past(e) {
				return false
			}
			tn.bytes -= int64(partOf + s.ops.Bytes(e.Value))
			return true
		})
		tn.count -= before - len(k.sessions)
	}
	if len(k.sessions) == 0 {
		tn.drop(k)
		return
	}
	tn.order.set(k, s.next(tn, k))
}

// next is the least watermark at which one of the key's sessions is to be emitted or dropped.
func (s *Sessions[A]) next(tn *sessionTenant[A], k *sessionKey[A]) int64 {
	next := int64(never)
	for i := range k.sessions {
		if e := &k.sessions[i]; e.Version == 0 {
			next = min(next, e.Window.End)
		} else {
			next = min(next, max(e.Window.End+int64(s.config.AllowedLateness), tn.Fired+1))
		}
	}
	return next
}

// Next is Store.Next.
func (s *Sessions[A]) Next(tenant string) int64 {
	tn := s.tenants[tenant]
	if tn == nil {
		return never
	}
	s.reschedule(tn)
	for len(tn.order) > 0 {
		k := tn.order[0]
		next := s.next(tn, k)
		if next == k.next {
			return next
		}
		tn.order.set(k, next)
	}
	return never
}

// Bound is Store.Bound, of sessions.
func (s *Sessions[A]) Bound(tenant string, maxSessions int, maxBytes int64) {
	tn := s.tenant(tenant)
	tn.maxCount, tn.maxBytes = maxSessions, maxBytes
}

// Stats are the tenant's counts.
func (s *Sessions[A]) Stats(tenant string) Stats {
	if tn := s.tenants[tenant]; tn != nil {
		return tn.stats
	}
	return Stats{}
}

// Usage is what the tenant keeps: keys, sessions, and about how many bytes.
func (s *Sessions[A]) Usage(tenant string) (keys, sessions int, bytes int64) {
	if tn := s.tenants[tenant]; tn != nil {
		return len(tn.keys), tn.count, tn.bytes
	}
	return 0, 0, 0
}

// touch notes what a key was at the last Commit, before its first change since.
func (tn *sessionTenant[A]) touch(k *sessionKey[A]) {
	if k.touched {
		return
	}
	was, noted := tn.former[k.name]
	if !noted {
		was = slices.Clone(k.sessions)
		tn.former[k.name] = was
	}
	k.touched, k.former = true, was
}

// own makes the value of a session, whose bounds have not changed yet, the store's to change: one that was there at the
// last Commit is copied first, for Rollback.
func (s *Sessions[A]) own(k *sessionKey[A], e *EntrySession[A]) {
	at, found := slices.BinarySearchFunc(k.former, e.Window.Start,
		func(f EntrySession[A], start int64) int { return cmp.Compare(f.Window.Start, start) })
	if found && k.former[at].Value == e.Value {
		copied := new(A)
		s.ops.Merge(copied, e.Value)
		e.Value = copied
	}
}

// Changes is Store.Changes; what is nothing has no sessions.
func (s *Sessions[A]) Changes(progress func(tenant string, was, is Progress),
	key func(tenant, key string, was, is []EntrySession[A])) {
	for _, tn := range s.tenants {
		if tn.Progress != tn.committed.Progress {
			progress(tn.name, tn.committed.Progress, tn.Progress)
		}
		for name, was := range tn.former {
			var is []EntrySession[A]
			if k := tn.keys[name]; k != nil {
				is = k.sessions
			}
			if len(was)+len(is) > 0 {
				key(tn.name, name, was, is)
			}
		}
	}
}

// Commit is Store.Commit.
func (s *Sessions[A]) Commit() {
	for _, tn := range s.tenants {
		tn.committed = committed{tn.Progress, tn.stats, true}
		for name := range tn.former {
			if k := tn.keys[name]; k != nil {
				k.touched, k.former = false, nil
			}
		}
		tn.former = forget(tn.former)
	}
}

// Rollback is Store.Rollback.
func (s *Sessions[A]) Rollback() {
	for name, tn := range s.tenants {
		if !tn.committed.known {
			delete(s.tenants, name)
			continue
		}
		former := tn.former
		tn.former = map[string][]EntrySession[A]{}
		tn.Progress, tn.stats, tn.full, tn.retract = tn.committed.Progress, tn.committed.stats, false, nil
		for name, was := range former {
			s.put(tn, name, was)
		}
	}
}

// reschedule finds the turns of a tenant's keys after its progress was set.
func (s *Sessions[A]) reschedule(tn *sessionTenant[A]) {
	if !tn.moved {
		return
	}
	tn.moved = false
	for _, k := range tn.keys {
		tn.order.set(k, s.next(tn, k))
	}
}

// RestoreProgress sets how far a tenant is, in a store that has taken no event of it.
func (s *Sessions[A]) RestoreProgress(tenant string, p Progress) {
	tn := s.tenant(tenant)
	tn.Progress, tn.moved = p, true
	tn.committed = committed{p, tn.stats, true}
}

// Restore sets the sessions of a key, in place of what it had, in a store that has taken no event of its tenant; none
// says that the key is gone. They belong to the store afterwards.
func (s *Sessions[A]) Restore(tenant, key string, sessions []EntrySession[A]) {
	tn := s.tenant(tenant)
	tn.committed.known = true
	s.put(tn, key, sessions)
}

// Progress is Store.Progress.
func (s *Sessions[A]) Progress(tenant string) Progress {
	if tn := s.tenants[tenant]; tn != nil {
		return tn.Progress
	}
	return noProgress
}

// Entry is what is kept of a key, only to be read, until the next call.
func (s *Sessions[A]) Entry(tenant, key string) []EntrySession[A] {
	if tn := s.tenants[tenant]; tn != nil && tn.keys[key] != nil {
		return tn.keys[key].sessions
	}
	return nil
}

// Reset drops everything.
func (s *Sessions[A]) Reset() { clear(s.tenants) }

func (s *Sessions[A]) put(tn *sessionTenant[A], name string, sessions []EntrySession[A]) {
	if k := tn.keys[name]; k != nil {
		for i := range k.sessions {
			tn.bytes -= int64(partOf + s.ops.Bytes(k.sessions[i].Value))
		}
		tn.count -= len(k.sessions)
		tn.drop(k)
	}
	if len(sessions) == 0 {
		return
	}
	k := tn.newKey(name)
	k.sessions = sessions
	tn.count += len(sessions)
	for i := range sessions {
		tn.bytes += int64(partOf + s.ops.Bytes(sessions[i].Value))
		if sessions[i].Late {
			tn.fixes[k] = true
		}
	}
	tn.order.set(k, s.next(tn, k))
}
