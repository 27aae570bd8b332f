package sketches

import (
	"encoding/binary"
	"math"
	"slices"
)

// Bucket says in which bucket of a Sketch a value that is not negative counts, in two bytes. It is for those who hold
// few values: a list of buckets takes less memory than a Sketch, and says the same.
type Bucket int16

// zeroBucket is that of zero, below all others.
const zeroBucket = math.MinInt16

// BucketOf returns the bucket of v. It says false of a v that only a Sketch can take: a negative one, NaN, and what
// counts in Clamped.
func BucketOf(v float64) (b Bucket, ok bool) {
	if bits := math.Float64bits(v); bits-minBits <= maxBits-minBits {
		return Bucket(index(bits)), true
	}
	return zeroBucket, v == 0
}

// AddBuckets counts a value in each of the buckets, as Add counted what BucketOf was given.
func (s *Sketch) AddBuckets(list []Bucket) {
	for _, b := range list {
		if b == zeroBucket {
			s.zero++
			continue
		}
		s.positive.addOne(int32(b))
	}
}

// AppendBuckets appends the state that AppendDD writes of a Sketch with a value in each of the buckets. It may sort the
// list. O(n log n), no allocation.
func AppendBuckets(dst []byte, list []Bucket) []byte {
	dst = appendHead(dst)
	zeros := 0
	if counted, n, ok := appendCounted(dst, list); ok {
		dst, zeros = counted, n
	} else {
		sortBuckets(list)
		for zeros < len(list) && list[zeros] == zeroBucket {
			zeros++
		}
		dst = appendRuns(dst, list[zeros:])
	}
	dst = append(dst, flagNegative, flagSparse, 0, flagZero)
	return appendFloat(dst, float64(zeros))
}

const (
	sortedSooner = 32      // values that are sorted by comparing sooner than by counting
	countedMost  = 1 << 10 // buckets from the least to the greatest of those that are sorted by counting
)

// appendCounted is appendStore for a list, sorted by counting. ok is false where that does not fit, or does not pay.
func appendCounted(dst []byte, list []Bucket) (_ []byte, zeros int, ok bool) {
	if len(list) <= sortedSooner || len(list) > math.MaxUint8 {
		return dst, 0, false
	}
	least, greatest := Bucket(math.MaxInt16), Bucket(zeroBucket)
	for _, b := range list {
		if b == zeroBucket {
			zeros++
			continue
		}
		least, greatest = min(least, b), max(greatest, b)
	}
	if zeros == len(list) || int(greatest)-int(least) >= countedMost {
		return dst, 0, false
	}
	var counts [countedMost]byte
	for _, b := range list {
		if b != zeroBucket {
			counts[b-least]++
		}
	}
	window := counts[:(int(greatest-least)+8)&^7] // yieldBytes takes eight at a time
	return appendStore(dst, &store{counts: window, first: int32(least), width: 1}), zeros, true
}

func sortBuckets(list []Bucket) {
	if len(list) > sortedSooner {
		slices.Sort(list)
		return
	}
	for i := 1; i < len(list); i++ {
		b, at := list[i], i
		for ; at > 0 && list[at-1] > b; at-- {
			list[at] = list[at-1]
		}
		list[at] = b
	}
}

// appendRuns is appendStore for a sorted list.
func appendRuns(dst []byte, list []Bucket) []byte {
	if len(list) == 0 {
		return append(dst, flagSparse, 0)
	}
	used := 1
	for i := 1; i < len(list); i++ {
		if list[i] != list[i-1] {
			used++
		}
	}
	width := int(list[len(list)-1]) - int(list[0]) + 1
	dense := contiguous(used, width)
	if dense {
		dst = binary.AppendUvarint(append(dst, flagContiguous), uint64(width))
		dst = binary.AppendVarint(dst, int64(list[0]))
		dst = binary.AppendVarint(dst, 1)
	} else {
		dst = binary.AppendUvarint(append(dst, flagSparse), uint64(used))
	}
	previous := Bucket(0)
	for from := 0; from < len(list); {
		to := from + 1
		for to < len(list) && list[to] == list[from] {
			to++
		}
		if !dense {
			dst = binary.AppendVarint(dst, int64(list[from])-int64(previous))
		} else if from > 0 {
			for gap := list[from] - previous; gap > 1; gap-- {
				dst = appendFloat(dst, 0)
			}
		}
		dst = appendFloat(dst, float64(to-from))
		previous, from = list[from], to
	}
	return dst
}
