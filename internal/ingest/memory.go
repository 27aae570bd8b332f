package ingest

import "sync/atomic"

// memory bounds the bytes that all requests hold together.
type memory struct {
	limit int64
	used  atomic.Int64
}

// lease is one request's part of the memory. One goroutine uses it.
type lease struct {
	memory *memory
	held   int64
}

// grow takes n more bytes; false when there are not so many left, and then nothing is taken.
func (l *lease) grow(n int) bool {
	if l.memory.used.Add(int64(n)) > l.memory.limit {
		l.memory.used.Add(-int64(n))
		return false
	}
	l.held += int64(n)
	return true
}

func (l *lease) release() {
	l.memory.used.Add(-l.held)
	l.held = 0
}
