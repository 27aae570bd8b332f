package windows

import (
	"container/heap"
	"time"
)

// Entry is all that a Store keeps of one key. Its values are the store's own.
type Entry[A any] struct {
	Slices  []EntrySlice[A] // ascending
	Emitted []Emitted       // ascending
}

// EntrySlice is what a key has in one slice. Late is nil once Advance has been called.
type EntrySlice[A any] struct {
	Window      Window
	Value, Late *A // nil for none
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

// Changes calls progress for every tenant that is further than when Changes was called last, and key for every key that is not
// as it was then: entry is nil when the key is gone. Written to a log that keeps the last value of each, and read back
// with RestoreProgress and Restore, they make an equal store. Tenants and keys come in no order. Call it right after
// Advance.
func (s *Store[A]) Changes(progress func(tenant string, p Progress), key func(tenant, key string, entry *Entry[A])) {
	for _, tn := range s.tenants {
		if tn.changed {
			tn.changed = false
			progress(tn.name, tn.Progress)
		}
		for name := range tn.dirty {
			k := tn.keys[name]
			if k == nil {
				key(tn.name, name, nil)
				continue
			}
			key(tn.name, name, k.entry())
		}
		clear(tn.dirty)
	}
}

func (k *storeKey[A]) entry() *Entry[A] {
	e := &Entry[A]{Emitted: k.emitted, Slices: make([]EntrySlice[A], len(k.slices))}
	for i := range k.slices {
		e.Slices[i] = EntrySlice[A]{Window: k.slices[i].window, Value: k.slices[i].value, Late: k.slices[i].late}
	}
	return e
}

// RestoreProgress sets how far a tenant is, in a store that has taken no event of it.
func (s *Store[A]) RestoreProgress(tenant string, p Progress) {
	tn := s.tenant(tenant)
	tn.Progress, tn.slice = p, Window{}
	for _, k := range tn.keys {
		s.schedule(tn, k)
	}
}

// Restore sets what is kept of a key, in a store that has taken no event of it. The entry's values belong to the store
// afterwards. Bounds do not apply.
func (s *Store[A]) Restore(tenant, key string, e Entry[A]) {
	tn := s.tenant(tenant)
	if k := tn.keys[key]; k != nil {
		tn.drop(k)
	}
	k := tn.newKey(key)
	k.emitted = e.Emitted
	for _, part := range e.Slices {
		k.slices = append(k.slices, storeSlice[A]{window: part.Window, value: part.Value, late: part.Late})
		for _, value := range []*A{part.Value, part.Late} {
			if value != nil {
				tn.grow(k, s.ops.Bytes(value))
			}
		}
		if part.Late != nil {
			tn.fixes[k] = true
		}
	}
	tn.slices += len(e.Slices)
	tn.grow(k, partOf*(len(e.Slices)+len(e.Emitted)))
	s.schedule(tn, k)
}

// Forget drops a key that a log says is gone.
func (s *Store[A]) Forget(tenant, key string) {
	if tn := s.tenants[tenant]; tn != nil && tn.keys[key] != nil {
		tn.drop(tn.keys[key])
	}
}

// Reset drops everything.
func (s *Store[A]) Reset() { clear(s.tenants) }

func (tn *storeTenant[A]) drop(k *storeKey[A]) {
	tn.slices -= len(k.slices)
	tn.bytes -= k.bytes
	delete(tn.keys, k.name)
	delete(tn.fixes, k)
	heap.Remove(&tn.order, k.at)
}
