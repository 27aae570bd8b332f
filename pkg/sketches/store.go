package sketches

import (
	"iter"
	"math"
	"slices"
)

const (
	listSize  = 24
	chunkMask = 31 // dense windows begin and end at multiples of 32 buckets
)

// store counts values of one sign by bucket. It is in one of three states, told apart by which array is not
// empty: list (unsorted indexes, one count each), narrow (a window of uint32 counts, the usual one) or wide
// (a window of float64 counts, once a count is a fraction or does not fit). Empty arrays keep their memory.
type store struct {
	narrow []uint32
	wide   []float64
	first  int32 // index of narrow[0] or wide[0]
	listed uint8
	list   [listSize]int16
}

// addOne is add(i, 1): its warm case, a bucket inside the narrow window, touches one counter.
func (s *store) addOne(i int32) {
	if at := uint32(i - s.first); uint(at) < uint(len(s.narrow)) && s.narrow[at] != math.MaxUint32 {
		s.narrow[at]++
		return
	}
	s.add(i, 1)
}

// add counts bucket i n times, n > 0 and finite.
func (s *store) add(i int32, n float64) {
	if !s.dense() {
		if n == 1 && s.listed < listSize {
			s.list[s.listed] = int16(i)
			s.listed++
			return
		}
		s.unlist(i, i)
	}
	s.cover(i, i)
	at := i - s.first
	if len(s.wide) == 0 {
		sum := float64(s.narrow[at]) + n
		if sum <= math.MaxUint32 && sum == math.Trunc(sum) {
			s.narrow[at] = uint32(sum)
			return
		}
		s.widen()
	}
	s.wide[at] += n
}

// merge adds all counts of other, which may be s.
func (s *store) merge(other *store) {
	if len(other.narrow) > 0 {
		s.mergeNarrow(other.first, other.narrow)
		return
	}
	for i, n := range other.all() {
		s.add(i, n)
	}
}

func (s *store) mergeNarrow(first int32, counts []uint32) {
	for len(counts) > 0 && counts[0] == 0 {
		first, counts = first+1, counts[1:]
	}
	for len(counts) > 0 && counts[len(counts)-1] == 0 {
		counts = counts[:len(counts)-1]
	}
	if len(counts) == 0 {
		return
	}
	last := first + int32(len(counts)) - 1
	if !s.dense() {
		s.unlist(first, last)
	}
	s.cover(first, last)
	if len(s.wide) == 0 {
		into := s.narrow[first-s.first:]
		for at, n := range counts {
			if n > math.MaxUint32-into[at] {
				// Counts before this one are merged; the rest goes on below, in wide.
				s.widen()
				first, counts = first+int32(at), counts[at:]
				break
			}
			into[at] += n
		}
	}
	if len(s.wide) > 0 {
		into := s.wide[first-s.first:]
		for at, n := range counts {
			into[at] += float64(n)
		}
	}
}

func (s *store) reset() {
	s.narrow, s.wide, s.listed = s.narrow[:0], s.wide[:0], 0
}

// count is the sum of all counts; that of a nil store is zero.
func (s *store) count() (sum float64) {
	if s == nil {
		return 0
	}
	if !s.dense() {
		return float64(s.listed)
	}
	for _, n := range s.narrow {
		sum += float64(n)
	}
	for _, n := range s.wide {
		sum += n
	}
	return sum
}

// find returns the first index at which the cumulative count is enough, or the last one with a count
// when rounding keeps it from ever being so.
func (s *store) find(enough func(cumulative float64) bool) (found int32) {
	var cumulative float64
	for i, n := range s.all() {
		found = i
		if cumulative += n; enough(cumulative) {
			break
		}
	}
	return found
}

// all yields the buckets that have a count, indexes ascending. It does not change the store, so that readers
// may run together: the list is sorted in a copy. A nil store has none.
func (s *store) all() iter.Seq2[int32, float64] {
	return func(yield func(int32, float64) bool) {
		if s == nil {
			return
		}
		if !s.dense() {
			list := s.list
			yieldList(list[:s.listed], yield)
			return
		}
		first := s.first
		for at, n := range s.narrow {
			if n != 0 && !yield(first+int32(at), float64(n)) {
				return
			}
		}
		for at, n := range s.wide {
			if n != 0 && !yield(first+int32(at), n) {
				return
			}
		}
	}
}

func yieldList(list []int16, yield func(int32, float64) bool) {
	slices.Sort(list)
	for from := 0; from < len(list); {
		to := from + 1
		for to < len(list) && list[to] == list[from] {
			to++
		}
		if !yield(int32(list[from]), float64(to-from)) {
			return
		}
		from = to
	}
}

// extent returns how many buckets have a count, and the least and greatest of them.
func (s *store) extent() (used int, least, greatest int32) {
	for i := range s.all() {
		if used == 0 {
			least = i
		}
		greatest = i
		used++
	}
	return used, least, greatest
}

func (s *store) dense() bool { return len(s.narrow)+len(s.wide) > 0 }

// unlist turns the list into a narrow window that also covers least to greatest.
func (s *store) unlist(least, greatest int32) {
	list := s.list
	for _, i := range list[:s.listed] {
		least, greatest = min(least, int32(i)), max(greatest, int32(i))
	}
	s.cover(least, greatest)
	for _, i := range list[:s.listed] {
		s.narrow[int32(i)-s.first]++
	}
	s.listed = 0
}

// cover widens the window to hold least to greatest.
func (s *store) cover(least, greatest int32) {
	length := int32(len(s.narrow) + len(s.wide))
	first, end := least&^chunkMask, greatest|chunkMask+1
	if length > 0 {
		if s.first <= least && greatest < s.first+length {
			return
		}
		first, end = min(first, s.first), max(end, s.first+length)
	} else {
		s.first = first
	}
	shift, size := int(s.first-first), int(end-first)
	if len(s.wide) > 0 {
		s.wide = regrow(s.wide, shift, size)
	} else {
		s.narrow = regrow(s.narrow, shift, size)
	}
	s.first = first
}

// regrow returns counts with the given length, the old ones moved up by shift, the others zero.
func regrow[T uint32 | float64](counts []T, shift, length int) []T {
	if cap(counts) < length {
		grown := make([]T, length)
		copy(grown[shift:], counts)
		return grown
	}
	old := len(counts)
	counts = counts[:length]
	copy(counts[shift:], counts[:old])
	clear(counts[:shift])
	clear(counts[shift+old:])
	return counts
}

// widen turns narrow counts into float64 ones. It leaves the elements of the narrow array as they are:
// a merge of a store into itself still reads them.
func (s *store) widen() {
	s.wide = regrow(s.wide[:0], 0, len(s.narrow))
	for at, n := range s.narrow {
		s.wide[at] = float64(n)
	}
	s.narrow = s.narrow[:0]
}
