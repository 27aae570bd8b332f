package sketches

import (
	"encoding/binary"
	"iter"
	"math"
	"math/bits"
	"slices"
)

const (
	listSize  = 24
	chunkMask = 31 // windows begin and end at multiples of 32 buckets
)

// store counts values of one sign by bucket: first as a list (unsorted indexes, one count each), then as a window of
// counts, each in as few bytes as all of them fit into. An emptied window keeps its memory.
type store struct {
	counts []byte // little endian, width bytes each; none for a list
	first  int32  // index of the first of counts
	listed uint8
	width  uint8 // 1 and 4 for whole numbers, 8 for float64; 0 for a list
	list   [listSize]int16
}

// addOne is add(i, 1): its warm case, a bucket inside the window, touches one counter.
func (s *store) addOne(i int32) {
	at := uint(uint32(i - s.first))
	switch s.width {
	case 1:
		if at < uint(len(s.counts)) && s.counts[at] != math.MaxUint8 {
			s.counts[at]++
			return
		}
	case 4:
		if at < uint(len(s.counts))/4 {
			if c := s.counts[4*at:]; binary.LittleEndian.Uint32(c) != math.MaxUint32 {
				binary.LittleEndian.PutUint32(c, binary.LittleEndian.Uint32(c)+1)
				return
			}
		}
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
	s.put(int(i-s.first), n)
}

// put adds to a count of the window, and makes all of them wider when the sum does not fit.
func (s *store) put(at int, n float64) {
	if whole := uint32(n); float64(whole) == n && s.putWhole(at, whole) {
		return
	}
	sum := s.at(at) + n
	if width := widthOf(sum); width > s.width {
		s.widen(width)
	}
	s.set(at, sum)
}

// putWhole adds to a count of the window, unless the sum does not fit.
func (s *store) putWhole(at int, n uint32) bool {
	switch s.width {
	case 1:
		if sum := uint64(s.counts[at]) + uint64(n); sum <= math.MaxUint8 {
			s.counts[at] = uint8(sum)
			return true
		}
	case 4:
		c := s.counts[4*at:]
		if sum := uint64(binary.LittleEndian.Uint32(c)) + uint64(n); sum <= math.MaxUint32 {
			binary.LittleEndian.PutUint32(c, uint32(sum))
			return true
		}
	}
	return false
}

// widthOf is the least width for a count.
func widthOf(n float64) uint8 {
	switch {
	case n != math.Trunc(n) || n > math.MaxUint32:
		return 8
	case n > math.MaxUint8:
		return 4
	}
	return 1
}

// at is a count of the window.
func (s *store) at(at int) float64 {
	switch s.width {
	case 1:
		return float64(s.counts[at])
	case 4:
		return float64(binary.LittleEndian.Uint32(s.counts[4*at:]))
	}
	return math.Float64frombits(binary.LittleEndian.Uint64(s.counts[8*at:]))
}

// whole is a count of the window, and false when counts are no whole numbers.
func (s *store) whole(at int) (n uint32, whole bool) {
	switch s.width {
	case 1:
		return uint32(s.counts[at]), true
	case 4:
		return binary.LittleEndian.Uint32(s.counts[4*at:]), true
	}
	return 0, false
}

// set sets a count of the window, which fits.
func (s *store) set(at int, n float64) {
	switch s.width {
	case 1:
		s.counts[at] = uint8(n)
	case 4:
		binary.LittleEndian.PutUint32(s.counts[4*at:], uint32(n))
	default:
		binary.LittleEndian.PutUint64(s.counts[8*at:], math.Float64bits(n))
	}
}

// widen gives all counts of the window more bytes.
func (s *store) widen(width uint8) {
	n := s.length()
	from := *s
	s.width = width
	if size := n * int(width); size <= cap(s.counts) {
		s.counts = s.counts[:size] // from the last on, none is overwritten before it has been read
	} else {
		s.counts = make([]byte, size)
	}
	for at := n - 1; at >= 0; at-- {
		s.set(at, from.at(at))
	}
}

// length is how many buckets the window has.
func (s *store) length() int {
	switch s.width {
	case 4:
		return len(s.counts) / 4
	case 8:
		return len(s.counts) / 8
	}
	return len(s.counts) // of a list, none
}

// atMost is how many buckets have a count at most.
func (s *store) atMost() int {
	if s == nil {
		return 0
	}
	return s.length() + int(s.listed)
}

// merge adds all counts of other, which may be s.
func (s *store) merge(other *store) {
	if !other.dense() {
		for i, n := range other.all() {
			s.add(i, n)
		}
		return
	}
	first, last := other.first, other.first+int32(other.length())-1
	if !s.dense() {
		s.unlist(first, last)
	}
	s.cover(first, last)
	shift, at := int(first-s.first), 0
	if s.width == 1 && other.width == 1 {
		at = addBytes(s.counts[shift:], other.counts)
	}
	for end := other.length(); at < end; at++ { // by number: when other is s, its counts may move
		if n, whole := other.whole(at); whole && (n == 0 || s.putWhole(at+shift, n)) {
			continue
		}
		if n := other.at(at); n != 0 {
			s.put(at+shift, n)
		}
	}
}

// addBytes adds counts, eight at a time, and returns how many it has added: a sum of the next eight does not fit.
func addBytes(into, counts []byte) (added int) {
	into = into[:len(counts)]
	for ; added < len(counts); added += 8 {
		n := binary.LittleEndian.Uint64(counts[added:])
		if n == 0 {
			continue // most are
		}
		was := binary.LittleEndian.Uint64(into[added:])
		// The lower seven bits of each byte are added without a carry into the next; the highest bit is added apart.
		low := was&^highs + n&^highs
		if (was&n|(was|n)&low)&highs != 0 {
			break
		}
		binary.LittleEndian.PutUint64(into[added:], low^(was^n)&highs)
	}
	return added
}

// highs has the highest bit of each byte set.
const highs = 0x8080808080808080

func (s *store) reset() {
	s.counts, s.width, s.listed = s.counts[:0], 0, 0
}

// count is the sum of all counts; that of a nil store is zero.
func (s *store) count() (sum float64) {
	if s == nil {
		return 0
	}
	sum = float64(s.listed)
	if s.dense() {
		for at := range s.length() {
			sum += s.at(at)
		}
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
		if s.width == 1 {
			yieldBytes(s.first, s.counts, yield)
			return
		}
		for at := range s.length() {
			if n := s.at(at); n != 0 && !yield(s.first+int32(at), n) {
				return
			}
		}
	}
}

// yieldBytes skips eight empty buckets at a time: most are. Windows are of 32 buckets or a multiple.
func yieldBytes(first int32, counts []byte, yield func(int32, float64) bool) {
	for at := 0; at < len(counts); at += 8 {
		if binary.LittleEndian.Uint64(counts[at:]) == 0 {
			continue
		}
		for i, n := range counts[at : at+8] {
			if n != 0 && !yield(first+int32(at+i), float64(n)) {
				return
			}
		}
	}
}

// nonZero has the highest bit set of each byte that is not zero, and no others.
func nonZero(eight uint64) uint64 {
	const low = 0x7f7f7f7f7f7f7f7f
	return (eight&low + low | eight) &^ low
}

// extentBytes is the extent of counts of a byte.
func extentBytes(first int32, counts []byte) (used int, least, greatest int32) {
	for at := 0; at < len(counts); at += 8 {
		set := nonZero(binary.LittleEndian.Uint64(counts[at:]))
		if set == 0 {
			continue
		}
		if used == 0 {
			least = first + int32(at+bits.TrailingZeros64(set)/8)
		}
		greatest = first + int32(at+bits.Len64(set)/8-1)
		used += bits.OnesCount64(set)
	}
	return used, least, greatest
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
	if s != nil && s.width == 1 {
		return extentBytes(s.first, s.counts)
	}
	for i := range s.all() {
		if used == 0 {
			least = i
		}
		greatest = i
		used++
	}
	return used, least, greatest
}

func (s *store) dense() bool { return s.width > 0 }

// unlist turns the list into a window that also covers least to greatest.
func (s *store) unlist(least, greatest int32) {
	list := s.list[:s.listed]
	for _, i := range list {
		least, greatest = min(least, int32(i)), max(greatest, int32(i))
	}
	s.width = 1
	s.cover(least, greatest)
	for _, i := range list {
		s.counts[int32(i)-s.first]++
	}
	s.listed = 0
}

// cover widens the window to hold least to greatest.
func (s *store) cover(least, greatest int32) {
	length := int32(s.length())
	first, end := least&^chunkMask, greatest|chunkMask+1
	if length > 0 {
		if s.first <= least && greatest < s.first+length {
			return
		}
		first, end = min(first, s.first), max(end, s.first+length)
	} else {
		s.first = first
	}
	s.counts = regrow(s.counts, int(s.first-first)*int(s.width), int(end-first)*int(s.width))
	s.first = first
}

// regrow returns counts with the given length, the old ones moved up by shift, the others zero.
func regrow(counts []byte, shift, length int) []byte {
	if cap(counts) < length {
		grown := make([]byte, length)
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
