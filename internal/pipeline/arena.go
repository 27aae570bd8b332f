package pipeline

import "strings"

// arena gives out copies of small byte strings with few allocations. Blocks are not used again: the client may hold
// what an aborted epoch did not send.
type arena []byte

const arenaBlock = 64 << 10

// join returns head and tail in one string of their own.
func (a *arena) join(head []byte, tail []byte) []byte {
	n := len(head) + len(tail)
	if cap(*a)-len(*a) < n {
		*a = make([]byte, 0, max(arenaBlock, n))
	}
	from := len(*a)
	*a = append(append(*a, head...), tail...)
	return (*a)[from:len(*a):len(*a)]
}

// copy returns a copy of b; that of nil is nil.
func (a *arena) copy(b []byte) []byte {
	if b == nil {
		return nil
	}
	return a.join(b, nil)
}

// slab gives out things that are used for long, a few in one piece of memory, which stays while one of them does.
type slab[T any] []T

const slabSize = 16

func (s *slab[T]) take() *T {
	if len(*s) == 0 {
		*s = make([]T, slabSize)
	}
	item := &(*s)[0]
	*s = (*s)[1:]
	return item
}

// words gives one copy of each text: names of metrics and services are few, and many groups have the same.
type words map[string]string

const maxWords = 4096 // then it begins anew

func (w *words) copy(text string) string {
	if kept, ok := (*w)[text]; ok {
		return kept
	}
	if *w == nil || len(*w) >= maxWords {
		*w = make(words)
	}
	text = strings.Clone(text)
	(*w)[text] = text
	return text
}
