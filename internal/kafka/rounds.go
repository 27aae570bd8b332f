package kafka

import (
	"context"
	"sync"
)

// rounds asks for many what each of them wants to know, such as all restores of a start: a connection is served one
// request after the other, and theirs would wait for each other. Who asks while a question is under way is asked for
// with the next, so that an answer is never older than the question. It is safe for concurrent use.
type rounds[K, A any] struct {
	// ask is called by one goroutine at a time. What it asks must end it: nobody waits for it.
	ask func(keys []K) (A, error)

	mu   sync.Mutex
	next *round[K, A] // nil: nobody has asked since the last one began
	busy bool
}

type round[K, A any] struct {
	keys   []K
	done   chan struct{}
	answer A
	err    error
}

// get returns the answer of a round that asks for keys, and perhaps for others. It is shared: nobody may change it.
func (r *rounds[K, A]) get(ctx context.Context, keys ...K) (answer A, err error) {
	mine := r.join(keys)
	select {
	case <-mine.done:
		return mine.answer, mine.err
	case <-ctx.Done():
		return answer, ctx.Err()
	}
}

func (r *rounds[K, A]) join(keys []K) *round[K, A] {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.next == nil {
		r.next = &round[K, A]{done: make(chan struct{})}
	}
	r.next.keys = append(r.next.keys, keys...)
	if !r.busy {
		r.busy = true
		go r.run()
	}
	return r.next
}

// run asks until nobody waits.
func (r *rounds[K, A]) run() {
	for mine := r.begin(); mine != nil; mine = r.begin() {
		mine.answer, mine.err = r.ask(mine.keys)
		close(mine.done)
	}
}

func (r *rounds[K, A]) begin() *round[K, A] {
	r.mu.Lock()
	defer r.mu.Unlock()
	mine := r.next
	r.next, r.busy = nil, mine != nil
	return mine
}
