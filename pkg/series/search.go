package series

// Search is a search for one key in a Table, by itself (Table.Search) or as one of several (Table.Sought, FindAll).
type Search[V any] struct {
	Table *Table[V]
	Key   []byte
	Ref   uint32 // the key's number, if it is Found
	Found bool

	near bool // Ref is of a key that may be the one
	hash uint32
	keys int // in Table when it was searched
}

// Search searches for key, which the result retains.
func (t *Table[V]) Search(key []byte) Search[V] {
	s := t.Sought(key)
	s.find()
	return s
}

// Sought is a search for key that is yet to be made. It retains key.
func (t *Table[V]) Sought(key []byte) Search[V] {
	return Search[V]{Table: t, Key: key, hash: t.hash(key)}
}

// FindAll makes all the searches of list, each in its own Table. Where one after the other would wait for memory at each of
// its steps, these make each step together. What it returns has no meaning: what is read ahead has to go somewhere.
func FindAll[V any](list []*Search[V]) (fetched uint64) {
	for _, s := range list {
		fetched += s.Table.touchSlot(s.hash)
	}
	for _, s := range list {
		if s.Ref, s.near = s.Table.near(s.hash); s.near {
			fetched += s.Table.head(s.Ref).note
		}
	}
	for _, s := range list {
		if s.near {
			fetched += s.Table.keys.texts.touch(s.Table.head(s.Ref).key)
		}
	}
	for _, s := range list {
		s.find()
	}
	return fetched
}

// Again says whether the key is there now: it searches once more for one that was not, if others have come since. None may
// have been deleted meanwhile.
func (s *Search[V]) Again() (found bool) {
	if !s.Found && s.Table.Len() != s.keys {
		s.find()
	}
	return s.Found
}

func (s *Search[V]) find() {
	var at uint32
	if at, s.Found = s.Table.find(s.hash, s.Key); s.Found {
		s.Ref = s.Table.ref(at)
	}
	s.keys = s.Table.Len()
}

// Insert is that of Table, for a key that is not there.
func (s *Search[V]) Insert(note uint64) (ref uint32) { return s.Table.insert(s.hash, s.Key, note) }

// touchSlot reads the place where a search begins.
func (t *Table[V]) touchSlot(hash uint32) uint64 {
	if len(t.slots) == 0 {
		return 0
	}
	return uint64(t.slots[hash&t.mask()])
}

// near returns the number of the first key that find would look at.
func (t *Table[V]) near(hash uint32) (ref uint32, ok bool) {
	if len(t.slots) == 0 {
		return 0, false
	}
	mask, refs := t.mask(), t.refs()
	for i := hash & mask; ; i = (i + 1) & mask {
		switch s := t.slots[i]; {
		case s == 0:
			return 0, false
		case (s^slot(hash))&^refs == 0:
			return uint32(s&refs) - 1, true
		}
	}
}
