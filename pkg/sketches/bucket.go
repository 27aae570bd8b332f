package sketches

import (
	"encoding/binary"
	"math"
	"slices"
)

// Bucket says in which bucket of a Sketch a value that is not negative counts, in two bytes. It is for those who hold few
// values: a list of buckets takes less memory than a Sketch, and says the same.
type Bucket int16

// zeroBucket is that of zero, below all others.
const zeroBucket = math.MinInt16

// BucketOf returns the bucket of v. It says false of a v that only a Sketch can take: a negative one, NaN, and what counts in
// Clamped.
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

// AppendBuckets appends the state that AppendDD writes of a Sketch with a value in each of the buckets. It sorts the list.
// O(n log n), no allocation.
func AppendBuckets(dst []byte, list []Bucket) []byte {
	sortBuckets(list)
	zeros := 0
	for zeros < len(list) && list[zeros] == zeroBucket {
		zeros++
	}
	dst = appendHead(dst)
	dst = appendRuns(dst, list[zeros:])
	dst = append(dst, flagNegative, flagSparse, 0, flagZero)
	return appendFloat(dst, float64(zeros))
}

func sortBuckets(list []Bucket) {
	if len(list) > 32 {
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
