package verify

import (
	"maps"
	"slices"
)

// maxSteps bounds the search for the missing blocks. One or two that were lost in a crash take a handful.
const maxSteps = 2000

// solver looks for sets of candidates that add up to exactly what is missing. Two solutions are enough to know that
// none can be told to be the right one.
type solver struct {
	candidates []candidate
	left       map[Key]amount
	taken      []int
	steps      int
	solutions  [][]int
}

// only returns the one solution; none when there are more, or when the search was cut off before it could tell.
func (s *solver) only() (taken []int, ok bool) {
	s.solve()
	if s.steps < 0 || len(s.solutions) != 1 {
		return nil, false
	}
	return s.solutions[0], true
}

func (s *solver) solve() {
	if s.steps--; s.steps < 0 || len(s.solutions) > 1 {
		return
	}
	key, ok := s.next()
	if !ok {
		s.note()
		return
	}
	for i := range s.candidates {
		c := &s.candidates[i]
		if _, brings := c.rows[key]; !brings || slices.Contains(s.taken, i) || !s.fits(c) {
			continue
		}
		before := s.take(c)
		s.taken = append(s.taken, i)
		s.solve()
		s.taken = s.taken[:len(s.taken)-1]
		maps.Copy(s.left, before)
	}
}

// next is the least key that is not accounted for.
func (s *solver) next() (least Key, ok bool) {
	for key, of := range s.left {
		if of.count > 0 && (!ok || key.compare(least) < 0) {
			least, ok = key, true
		}
	}
	return least, ok
}

func (s *solver) fits(c *candidate) bool {
	for key, of := range c.rows {
		if s.left[key].count < of.count {
			return false
		}
	}
	return true
}

// take subtracts a candidate and returns what was there before.
func (s *solver) take(c *candidate) (before map[Key]amount) {
	before = make(map[Key]amount, len(c.rows))
	for key, of := range c.rows {
		was := s.left[key]
		before[key] = was
		s.left[key] = amount{was.count - of.count, was.sum - of.sum, was.magnitude}
	}
	return before
}

// note keeps what was taken if the sums agree too, and if it is not a known solution in another order.
func (s *solver) note() {
	for _, of := range s.left {
		if !near(of.sum, 0, of.magnitude) {
			return
		}
	}
	found := slices.Sorted(slices.Values(s.taken))
	for _, known := range s.solutions {
		if slices.Equal(known, found) {
			return
		}
	}
	s.solutions = append(s.solutions, found)
}
