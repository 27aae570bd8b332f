package pipeline

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
