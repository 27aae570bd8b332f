package sketches

import "math"

// Native is a Prometheus native histogram of floats, schema 6, field by field as upstream's FloatHistogram
// without its Sum, which a Sketch does not know. Buckets are absolute counts, not deltas.
type Native struct {
	Schema          int32   // Scale
	ZeroThreshold   float64 // the least float64 above zero: the zero bucket holds zeros only
	ZeroCount       float64
	Count           float64
	PositiveSpans   []Span
	PositiveBuckets []float64
	NegativeSpans   []Span
	NegativeBuckets []float64
}

// Span is a run of Length adjacent buckets. Offset is the first one's index for the first span of a side, and
// the number of buckets left out for the others. Index i counts γ^(i−1) < |v| ≤ γ^i: one more than ours.
type Span struct {
	Offset int32
	Length uint32
}

// spanGap is the longest run of empty buckets that is written out rather than opening a new span.
const spanGap = 2

// Prometheus returns the sketch as a native histogram in new memory.
func (s *Sketch) Prometheus() Native {
	h := Native{Schema: Scale, ZeroThreshold: math.SmallestNonzeroFloat64, ZeroCount: s.zero, Count: s.Count()}
	h.PositiveSpans, h.PositiveBuckets = s.positive.spans()
	h.NegativeSpans, h.NegativeBuckets = s.negative.spans()
	return h
}

func (s *store) spans() (spans []Span, buckets []float64) {
	if opened, written := s.measureSpans(); opened > 0 {
		spans, buckets = make([]Span, 0, opened), make([]float64, 0, written)
	}
	next := int32(0) // the bucket after the last one written
	for i, n := range s.all() {
		i++ // Prometheus' index
		switch gap := i - next; {
		case len(spans) == 0 || gap > spanGap:
			spans = append(spans, Span{Offset: gap})
		default:
			for range gap {
				buckets = append(buckets, 0)
			}
			spans[len(spans)-1].Length += uint32(gap)
		}
		buckets = append(buckets, n)
		spans[len(spans)-1].Length++
		next = i + 1
	}
	return spans, buckets
}

// measureSpans says how many spans there are, and how many buckets in them: they are held by the thousand.
func (s *store) measureSpans() (opened, written int) {
	next := int32(0)
	for i := range s.all() {
		if gap := i - next; opened > 0 && gap <= spanGap {
			written += int(gap)
		} else {
			opened++
		}
		written++
		next = i + 1
	}
	return opened, written
}
