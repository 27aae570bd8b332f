package coarse

import (
	"iter"
	"unsafe"
)

// keptStates are states of sketches as they came, each knowing the one of its row before it. The zero value is empty
// and ready.
type keptStates struct {
	list  []keptState
	pages [][]byte // of pageBytes each, but those of a state that is longer
	used  int      // pages
	held  int      // bytes of pages that are used
}

type keptState struct {
	before   int32 // none for the first
	page     uint32
	from, to uint32
}

const (
	pageBytes = 64 << 10
	keptBytes = int(unsafe.Sizeof(keptState{}))
)

// add copies a state, and returns its number.
func (k *keptStates) add(state []byte, before int32) int32 {
	page := k.page(len(state))
	from := len(*page)
	*page = append(*page, state...)
	k.list = append(k.list, keptState{before, uint32(k.used - 1), uint32(from), uint32(len(*page))})
	return int32(len(k.list) - 1)
}

// page has room for n bytes.
func (k *keptStates) page(n int) *[]byte {
	if k.used > 0 {
		if page := &k.pages[k.used-1]; cap(*page)-len(*page) >= n {
			return page
		}
	}
	if k.used == len(k.pages) {
		k.pages = append(k.pages, nil)
	}
	page := &k.pages[k.used]
	if cap(*page) < n {
		*page = make([]byte, 0, max(n, pageBytes))
	}
	k.used++
	k.held += cap(*page)
	return page
}

func (k *keptStates) get(number int32) []byte {
	s := &k.list[number]
	return k.pages[s.page][s.from:s.to]
}

// all are a state and those of its row before it, the last first.
func (k *keptStates) all(number int32) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for number != none && yield(k.get(number)) {
			number = k.list[number].before
		}
	}
}

func (k *keptStates) bytes() int { return k.held + keptBytes*len(k.list) }

// reset forgets all states, and keeps the memory of as many as there were.
func (k *keptStates) reset() {
	clear(k.pages[k.used:])
	k.pages = k.pages[:k.used]
	for i := range k.pages {
		k.pages[i] = k.pages[i][:0]
	}
	k.list, k.used, k.held = k.list[:0], 0, 0
}
