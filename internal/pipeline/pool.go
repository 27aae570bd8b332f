package pipeline

// pool gives out things that are all taken back at once, and keeps their memory for the next.
type pool[T any] struct {
	items []*T
	used  int
}

// take returns a thing as it was left.
func (p *pool[T]) take() *T {
	if p.used == len(p.items) {
		p.items = append(p.items, new(T))
	}
	p.used++
	return p.items[p.used-1]
}

// reset takes everything back. What was much more than is used now goes to the collector, step by step.
func (p *pool[T]) reset() {
	keep := max(p.used, len(p.items)/2)
	clear(p.items[keep:])
	p.items, p.used = p.items[:keep], 0
}

// paged is a pool of things that have numbers, many in one piece of memory.
type paged[T any] struct {
	pages pool[[pageSize]T]
	used  uint32
}

const pageSize = 256

// add returns a thing as it was left, and its number, which is not 0.
func (p *paged[T]) add() (number uint32, item *T) {
	if p.used == uint32(p.pages.used)*pageSize {
		p.pages.take()
	}
	p.used++
	return p.used, p.at(p.used)
}

// at returns the thing that add gave under the number since the last reset.
func (p *paged[T]) at(number uint32) *T {
	return &p.pages.items[(number-1)/pageSize][(number-1)%pageSize]
}

func (p *paged[T]) reset() {
	p.pages.reset()
	p.used = 0
}
