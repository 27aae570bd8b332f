package windows

import (
	"cmp"
	"container/heap"
	"slices"
	"time"
)

// Entry is all that a Store keeps of one key. Its values are the store's own.
type Entry[A any] struct {
	Slices  []EntrySlice[A] // ascending
	Emitted []Emitted       // ascending
}

// EntrySlice is what a key has in one slice. Late is nil once Advance has been called.
type EntrySlice[A any] struct {
	Window Window
	Value  *A // nil when no window needs the whole any more
	Late   *A // what came since the last Advance, for windows emitted before
}

// Progress is how far the windows of a tenant are: those that end at or before Fired have been emitted, and those at or
// before Floor have passed lateness.
type Progress struct {
	Fired, Floor int64
}

// noProgress is that of a tenant whose watermark has not been told.
var noProgress = Progress{Fired: None, Floor: None}

// advance moves on to a watermark, and says whether it is ahead.
func (p *Progress) advance(watermark int64, lateness time.Duration) (ahead bool) {
	if watermark <= p.Fired {
		return false
	}
	p.Fired = watermark
	if watermark >= None+int64(lateness) {
		p.Floor = max(p.Floor, watermark-int64(lateness))
	}
	return true
}

// cut gives up corrections.
func (p *Progress) cut() { p.Floor = p.Fired }

// committed is what of a tenant is as it was at the last Commit, beside its keys.
type committed struct {
	Progress
	stats Stats
	known bool // the tenant was there
}

// find returns where a slice is, or would be.
func (e *Entry[A]) find(slice Window) (int, bool) {
	// Nearly always the last one.
	if n := len(e.Slices); n > 0 && e.Slices[n-1].Window.Start <= slice.Start {
		if e.Slices[n-1].Window.Start == slice.Start {
			return n - 1, true
		}
		return n, false
	}
	return slices.BinarySearchFunc(e.Slices, slice.Start,
		func(p EntrySlice[A], start int64) int { return cmp.Compare(p.Window.Start, start) })
}

func (e *Entry[A]) empty() bool { return len(e.Slices)+len(e.Emitted) == 0 }

// touch notes what a key was at the last Commit, before its first change since.
func (tn *storeTenant[A]) touch(k *storeKey[A]) {
	if k.former != nil {
		return
	}
	was := tn.former[k.name]
	if was == nil {
		if was = &tn.nothing; !k.empty() {
			was = &Entry[A]{Slices: slices.Clone(k.Slices), Emitted: slices.Clone(k.Emitted)}
		}
		tn.former[k.name] = was
	}
	k.former = was
}

// own makes a value the store's to change: one that was there at the last Commit is copied first, for Rollback.
func (s *Store[A]) own(k *storeKey[A], slice Window, value **A) {
	if at, found := k.former.find(slice); found && (*value == k.former.Slices[at].Value || *value == k.former.Slices[at].Late) {
		copied := new(A)
		s.ops.Merge(copied, *value)
		*value = copied
	}
}

// Changes calls progress for every tenant that is further than at the last Commit, and key for every key that was
// changed since: what it was then, and what it is now; nil, and None, is nothing. A value that is not changed is the
// same pointer in both. Written to a log that keeps the last value of each, and read back with RestoreProgress and
// Restore, they make an equal store. Tenants and keys come in no order. Call it right after Advance.
func (s *Store[A]) Changes(progress func(tenant string, was, is Progress), key func(tenant, key string, was, is *Entry[A])) {
	for _, tn := range s.tenants {
		if tn.Progress != tn.committed.Progress {
			progress(tn.name, tn.committed.Progress, tn.Progress)
		}
		for name, was := range tn.former {
			var is *Entry[A]
			if k := tn.keys[name]; k != nil {
				is = &k.Entry
			}
			if was.empty() {
				was = nil
			}
			if was != nil || is != nil {
				key(tn.name, name, was, is)
			}
		}
	}
}

// Commit says that what Changes told is safe, and frees what is kept for Rollback: former values of what has changed.
// Call it right after Changes.
func (s *Store[A]) Commit() {
	for _, tn := range s.tenants {
		tn.committed = committed{tn.Progress, tn.stats, true}
		for name := range tn.former {
			if k := tn.keys[name]; k != nil {
				k.former = nil
			}
		}
		tn.former = forget(tn.former)
	}
}

// keptFormer is for how many changed keys the map of them is kept.
const keptFormer = 1024

// forget empties a map, which never gives memory back by itself.
func forget[V any](m map[string]V) map[string]V {
	if len(m) > keptFormer {
		return map[string]V{}
	}
	clear(m)
	return m
}

// Rollback makes the store what it was at the last Commit, or restored. Its cost is that of what has changed since.
func (s *Store[A]) Rollback() {
	for name, tn := range s.tenants {
		if !tn.committed.known {
			delete(s.tenants, name)
			continue
		}
		former := tn.former
		tn.former = map[string]*Entry[A]{}
		tn.Progress, tn.stats, tn.full, tn.slice = tn.committed.Progress, tn.committed.stats, false, Window{}
		for name, was := range former {
			s.put(tn, name, *was)
		}
	}
}

// reschedule finds the turns of a tenant's keys after its progress was set.
func (s *Store[A]) reschedule(tn *storeTenant[A]) {
	if !tn.moved {
		return
	}
	tn.moved = false
	for _, k := range tn.keys {
		s.schedule(tn, k)
	}
}

// RestoreProgress sets how far a tenant is, in a store that has taken no event of it.
func (s *Store[A]) RestoreProgress(tenant string, p Progress) {
	tn := s.tenant(tenant)
	tn.Progress, tn.slice, tn.moved = p, Window{}, true
	tn.committed = committed{p, tn.stats, true}
}

// Restore sets what is kept of a key, in place of what was, in a store that has taken no event of its tenant; an empty
// entry says that the key is gone. The entry's values belong to the store afterwards. Bounds do not apply.
func (s *Store[A]) Restore(tenant, key string, e Entry[A]) {
	tn := s.tenant(tenant)
	tn.committed.known = true
	s.put(tn, key, e)
}

// Progress is how far a tenant is; None twice for one whose watermark has not been told.
func (s *Store[A]) Progress(tenant string) Progress {
	if tn := s.tenants[tenant]; tn != nil {
		return tn.Progress
	}
	return noProgress
}

// Entry is what is kept of a key, nil when nothing is. It is only to be read, until the next call.
func (s *Store[A]) Entry(tenant, key string) *Entry[A] {
	if tn := s.tenants[tenant]; tn != nil && tn.keys[key] != nil {
		return &tn.keys[key].Entry
	}
	return nil
}

// Reset drops everything.
func (s *Store[A]) Reset() { clear(s.tenants) }

func (s *Store[A]) put(tn *storeTenant[A], name string, e Entry[A]) {
	if k := tn.keys[name]; k != nil {
		tn.drop(k)
	}
	if e.empty() {
		return
	}
	k := tn.newKey(name)
	k.Entry = e
	for _, part := range e.Slices {
		if part.Value != nil {
			tn.grow(k, s.ops.Bytes(part.Value))
		}
		if part.Late != nil {
			tn.fixes[k] = true
			if s.config.Late == MergeDelta {
				tn.grow(k, s.ops.Bytes(part.Late))
			}
		}
	}
	tn.slices += len(e.Slices)
	tn.grow(k, partOf*(len(e.Slices)+len(e.Emitted)))
	s.schedule(tn, k)
}

// drop forgets a key.
func (tn *storeTenant[A]) drop(k *storeKey[A]) {
	tn.slices -= len(k.Slices)
	tn.bytes -= k.bytes
	delete(tn.keys, k.name)
	delete(tn.fixes, k)
	heap.Remove(&tn.order, k.at)
}
