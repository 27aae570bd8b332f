package series

import "math"

// Table maps keys to values by open addressing. The caller brings the hash with the key, and every hit is
// confirmed by comparing the whole key, so equal hashes cost time and never merge two keys.
//
// Values live in pages that do not move: a *V stays valid until its key is deleted. Iteration order depends
// only on the sequence of calls, not on hashes: the same calls give the same order on every machine.
// The zero Table is empty and ready. Not safe for concurrent use.
type Table[V any] struct {
	slots []slot // power of two, at most 3/4 used
	pages [][]entry[V]
	used  uint32   // entries ever handed out; those in free are among them
	free  []uint32 // entries to use again, last freed first
}

// slot is one place of the index: an entry's number plus one (0 = vacant) and the upper half of its hash,
// which spares nearly all looks at entries of other keys.
type slot struct {
	tag uint32
	ref uint32
}

type entry[V any] struct {
	hash  uint64
	key   string
	live  bool
	value V
}

const (
	pageShift = 7 // entries in a page, as a power of two
	pageSize  = 1 << pageShift
	minSlots  = 16
)

// Len is the number of keys.
func (t *Table[V]) Len() int { return int(t.used) - len(t.free) }

// Get returns the value of key, or nil. hash must be the one that key was inserted with.
func (t *Table[V]) Get(hash uint64, key []byte) *V {
	if i, ok := t.find(hash, key); ok {
		return &t.at(t.slots[i].ref).value
	}
	return nil
}

// Ref returns the number of key, by which At finds its value until the key is deleted.
func (t *Table[V]) Ref(hash uint64, key []byte) (ref uint32, ok bool) {
	i, ok := t.find(hash, key)
	if !ok {
		return 0, false
	}
	return t.slots[i].ref - 1, true
}

// At returns the value of the key that Ref gave this number.
func (t *Table[V]) At(ref uint32) *V { return &t.at(ref + 1).value }

// Insert returns the value of key and whether it is new; a new value is zero. It copies key when it is new.
// Amortised O(1); no allocation for a key that is there.
func (t *Table[V]) Insert(hash uint64, key []byte) (value *V, fresh bool) {
	if len(t.slots) > 0 {
		if i, ok := t.find(hash, key); ok {
			return &t.at(t.slots[i].ref).value, false
		}
	}
	if (t.Len()+1)*4 > len(t.slots)*3 {
		t.grow()
	}
	ref := t.allocate()
	e := t.at(ref)
	e.hash, e.key, e.live = hash, string(key), true
	t.place(hash, ref)
	return &e.value, true
}

// Delete removes key and says whether it was there. Its value is zeroed and may be handed out again.
func (t *Table[V]) Delete(hash uint64, key []byte) bool {
	i, ok := t.find(hash, key)
	if !ok {
		return false
	}
	ref := t.slots[i].ref
	*t.at(ref) = entry[V]{}
	t.free = append(t.free, ref-1)
	t.closeGap(i)
	return true
}

// Range calls yield for every key until it returns false. yield may delete the key it was given, and no
// other; it must not insert.
func (t *Table[V]) Range(yield func(hash uint64, key string, value *V) bool) {
	for n := range t.used {
		if e := t.at(n + 1); e.live && !yield(e.hash, e.key, &e.value) {
			return
		}
	}
}

// find returns the slot of key. The index always has a vacant slot, so the loop ends.
func (t *Table[V]) find(hash uint64, key []byte) (at uint64, ok bool) {
	if len(t.slots) == 0 {
		return 0, false
	}
	mask, tag := uint64(len(t.slots)-1), uint32(hash>>32)
	for i := hash & mask; ; i = (i + 1) & mask {
		s := t.slots[i]
		if s.ref == 0 {
			return 0, false
		}
		if s.tag != tag {
			continue
		}
		if e := t.at(s.ref); e.hash == hash && e.key == string(key) {
			return i, true
		}
	}
}

// place puts a key that is not in the index into the first vacant slot from its home on.
func (t *Table[V]) place(hash uint64, ref uint32) {
	mask := uint64(len(t.slots) - 1)
	i := hash & mask
	for t.slots[i].ref != 0 {
		i = (i + 1) & mask
	}
	t.slots[i] = slot{tag: uint32(hash >> 32), ref: ref}
}

// closeGap vacates slot gap and moves later slots of the same run back, so that no search ends early and no
// tombstones pile up (Knuth, TAOCP 3, 6.4, algorithm R).
func (t *Table[V]) closeGap(gap uint64) {
	mask := uint64(len(t.slots) - 1)
	for i := (gap + 1) & mask; t.slots[i].ref != 0; i = (i + 1) & mask {
		home := t.at(t.slots[i].ref).hash & mask
		// The slot may move unless its home lies cyclically in (gap, i].
		if (i-home)&mask >= (i-gap)&mask {
			t.slots[gap] = t.slots[i]
			gap = i
		}
	}
	t.slots[gap] = slot{}
}

func (t *Table[V]) grow() {
	t.slots = make([]slot, max(minSlots, 2*len(t.slots)))
	for n := range t.used {
		if e := t.at(n + 1); e.live {
			t.place(e.hash, n+1)
		}
	}
}

func (t *Table[V]) allocate() (ref uint32) {
	if n := len(t.free); n > 0 {
		ref = t.free[n-1] + 1
		t.free = t.free[:n-1]
		return ref
	}
	if t.used == math.MaxUint32 {
		panic("BUG: series table of 2^32 entries: limit active series")
	}
	if int(t.used)>>pageShift == len(t.pages) {
		t.pages = append(t.pages, make([]entry[V], pageSize))
	}
	t.used++
	return t.used
}

func (t *Table[V]) at(ref uint32) *entry[V] {
	n := ref - 1
	return &t.pages[n>>pageShift][n&(pageSize-1)]
}
