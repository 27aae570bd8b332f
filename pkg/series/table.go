package series

import (
	"hash/maphash"
	"math"
)

// Table maps keys to values by open addressing. Every hit is confirmed by comparing the whole key, so equal hashes cost
// time and never merge two keys. The hash is another one in each process: who chooses keys cannot choose such as lie
// one behind the other, which Hash would let him do.
//
// A key has a number for as long as it is there. Values live in pages that do not move: a *V stays valid until its key
// is deleted. Beside what V points to, nothing in a Table is of interest to the garbage collector: a page is one
// object, and keys lie in a few large ones. Of canonical keys (AppendKey) that differ in values of labels only, all
// else is kept once. Iteration order depends only on the sequence of calls, not on hashes: the same calls give the same
// order on every machine. The zero Table is empty and ready. Not safe for concurrent use.
type Table[V any] struct {
	slots []slot // power of two, at most 3/4 used
	pages []*page[V]
	used  uint32   // numbers ever handed out; those in free are among them
	free  []uint32 // numbers to use again, last freed first
	keys  keys
	weak  func(key []byte) uint64 // a test's hash
}

// tableSeed is one for all tables.
var tableSeed = maphash.MakeSeed()

// hash is kept beside the key: to grow would else be to put all keys together and hash them again.
func (t *Table[V]) hash(key []byte) uint32 {
	if t.weak != nil {
		return uint32(t.weak(key))
	}
	return uint32(maphash.Bytes(tableSeed, key))
}

// slot is one place of the index, 0 when it is vacant. Its lower bits, as many as number the slots, are a key's number
// plus one: there are fewer numbers than slots. The bits above are those of the key's hash, which spares nearly all looks
// at other keys; those below say where its search begins.
type slot uint32

// refs are the bits of slots that hold numbers.
func (t *Table[V]) refs() slot { return slot(len(t.slots) - 1) }

// mask is of the bits of a hash that say where its search begins.
func (t *Table[V]) mask() uint32 { return uint32(len(t.slots) - 1) }

// slotOf is that of a key.
func (t *Table[V]) slotOf(hash, ref uint32) slot {
	return slot(hash)&^t.refs() | slot(ref+1)
}

// ref is the number of the key in slot i.
func (t *Table[V]) ref(i uint32) uint32 { return uint32(t.slots[i]&t.refs()) - 1 }

type page[V any] struct {
	heads  [pageSize]head
	hashes [pageSize]uint32
	values [pageSize]V
}

// head is what the table itself keeps of a key.
type head struct {
	note uint64   // the caller's
	key  slabText // zero: the number is free
}

const (
	pageShift = 7 // keys in a page, as a power of two
	pageSize  = 1 << pageShift
	minSlots  = 16
)

// Len is the number of keys.
func (t *Table[V]) Len() int { return int(t.used) - len(t.free) }

// Find returns the number of key.
func (t *Table[V]) Find(key []byte) (ref uint32, ok bool) {
	i, ok := t.find(t.hash(key), key)
	if !ok {
		return 0, false
	}
	return t.ref(i), true
}

// At returns the value of the key that has this number. It is zero when none has it any more.
func (t *Table[V]) At(ref uint32) *V { return &t.pages[ref>>pageShift].values[ref&(pageSize-1)] }

// AppendKey appends the key that has this number to dst.
func (t *Table[V]) AppendKey(dst []byte, ref uint32) []byte {
	return t.keys.appendKey(dst, t.head(ref).key)
}

// AppendLabels appends the labels of the key that has this number, which has to be canonical, to dst. Their strings
// stay as they are for as long as they are held.
func (t *Table[V]) AppendLabels(dst Labels, ref uint32) Labels {
	return t.keys.appendLabels(dst, t.head(ref).key)
}

// KeySize is about how many bytes AppendKey appends: not less, but for how the lengths of strings are written.
func (t *Table[V]) KeySize(ref uint32) int { return t.keys.size(t.head(ref).key) }

// Note returns what Insert was given for the key that has this number.
func (t *Table[V]) Note(ref uint32) uint64 { return t.head(ref).note }

// Insert returns the number of key and whether it is new; a new value is zero. It copies key when it is new, and keeps
// note beside it. Amortised O(1); no allocation for a key that is there.
func (t *Table[V]) Insert(key []byte, note uint64) (ref uint32, fresh bool) {
	hash := t.hash(key)
	if i, ok := t.find(hash, key); ok {
		return t.ref(i), false
	}
	return t.insert(hash, key, note), true
}

// insert is Insert of a key that is not there.
func (t *Table[V]) insert(hash uint32, key []byte, note uint64) (ref uint32) {
	if (t.Len()+1)*4 > len(t.slots)*3 {
		t.grow()
	}
	ref = t.allocate()
	*t.head(ref) = head{note, t.keys.add(key)}
	*t.hashOf(ref) = hash
	t.place(hash, ref)
	return ref
}

// Delete removes key and says whether it was there. Its value is zeroed and its number may be handed out again.
func (t *Table[V]) Delete(key []byte) bool {
	i, ok := t.find(t.hash(key), key)
	if !ok {
		return false
	}
	ref := t.ref(i)
	t.closeGap(i)
	t.keys.texts.remove(t.head(ref).key)
	*t.head(ref), *t.At(ref) = head{}, *new(V)
	t.free = append(t.free, ref)
	if t.keys.texts.wasteful() {
		t.pack()
	}
	return true
}

// pack copies the keys together, so that the memory of deleted ones is free.
func (t *Table[V]) pack() {
	var packed keys
	var key []byte
	for n := range t.used {
		if h := t.head(n); h.key != (slabText{}) {
			key = t.keys.appendKey(key[:0], h.key)
			h.key = packed.add(key)
		}
	}
	t.keys = packed
}

// Range calls yield for the number of every key until it returns false. yield may delete the key it was given, and no
// other; it must not insert.
func (t *Table[V]) Range(yield func(ref uint32) bool) {
	for n := range t.used {
		if t.head(n).key != (slabText{}) && !yield(n) {
			return
		}
	}
}

// find returns the slot of key. The index always has a vacant slot, so the loop ends.
func (t *Table[V]) find(hash uint32, key []byte) (at uint32, ok bool) {
	if len(t.slots) == 0 {
		return 0, false
	}
	mask, refs := t.mask(), t.refs()
	for i := hash & mask; ; i = (i + 1) & mask {
		s := t.slots[i]
		if s == 0 {
			return 0, false
		}
		if (s^slot(hash))&^refs != 0 {
			continue
		}
		if t.keys.equal(t.head(uint32(s&refs)-1).key, key) {
			return i, true
		}
	}
}

// place puts a key that is not in the index into the first vacant slot from its home on.
func (t *Table[V]) place(hash, ref uint32) {
	mask := t.mask()
	i := hash & mask
	for t.slots[i] != 0 {
		i = (i + 1) & mask
	}
	t.slots[i] = t.slotOf(hash, ref)
}

// closeGap vacates slot gap and moves later slots of the same run back, so that no search ends early and no
// tombstones pile up (Knuth, TAOCP 3, 6.4, algorithm R).
func (t *Table[V]) closeGap(gap uint32) {
	mask := t.mask()
	for i := (gap + 1) & mask; t.slots[i] != 0; i = (i + 1) & mask {
		home := *t.hashOf(t.ref(i)) & mask
		// The slot may move unless its home lies cyclically in (gap, i].
		if (i-home)&mask >= (i-gap)&mask {
			t.slots[gap] = t.slots[i]
			gap = i
		}
	}
	t.slots[gap] = 0
}

func (t *Table[V]) grow() {
	t.slots = make([]slot, max(minSlots, 2*len(t.slots)))
	for n := range t.used {
		if t.head(n).key != (slabText{}) {
			t.place(*t.hashOf(n), n)
		}
	}
}

func (t *Table[V]) allocate() (ref uint32) {
	if n := len(t.free); n > 0 {
		ref = t.free[n-1]
		t.free = t.free[:n-1]
		return ref
	}
	if t.used == math.MaxUint32 {
		panic("BUG: series table of 2^32 keys: limit active series")
	}
	if int(t.used)>>pageShift == len(t.pages) {
		t.pages = append(t.pages, new(page[V]))
	}
	t.used++
	return t.used - 1
}

func (t *Table[V]) hashOf(ref uint32) *uint32 {
	return &t.pages[ref>>pageShift].hashes[ref&(pageSize-1)]
}

func (t *Table[V]) head(ref uint32) *head { return &t.pages[ref>>pageShift].heads[ref&(pageSize-1)] }
