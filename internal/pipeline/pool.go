package pipeline

// pool gives out things that are all taken back at once, and keeps their memory for the next.
type pool[T any] struct {
	items []*T
	used  int
}

// take returns a thing as it was left, and its number.
func (p *pool[T]) take() (number uint64, item *T) {
	if p.used == len(p.items) {
		p.items = append(p.items, new(T))
	}
	p.used++
	return uint64(p.used - 1), p.items[p.used-1]
}

// at returns what take gave under the number since the last reset.
func (p *pool[T]) at(number uint64) *T { return p.items[number] }

// reset takes everything back. What was much more than is used now goes to the collector, step by step.
func (p *pool[T]) reset() {
	keep := max(p.used, len(p.items)/2)
	clear(p.items[keep:])
	p.items, p.used = p.items[:keep], 0
}

// cells is a pool of cells, many in one piece of memory.
type cells struct {
	pages pool[[cellPage]cell]
	used  uint32
}

const cellPage = 256

// add returns a cell as it was left, and its number, which is not 0.
func (s *cells) add() (number uint32, c *cell) {
	if s.used == uint32(s.pages.used)*cellPage {
		s.pages.take()
	}
	s.used++
	return s.used, s.at(s.used)
}

// at returns the cell that add gave under the number since the last reset.
func (s *cells) at(number uint32) *cell {
	return &s.pages.at(uint64((number - 1) / cellPage))[(number-1)%cellPage]
}

func (s *cells) reset() {
	s.pages.reset()
	s.used = 0
}
