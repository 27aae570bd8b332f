// Package sketches summarises distributions in mergeable form with a stated error.
//
// Its main type is Sketch, an exponential histogram with base γ = 2^(1/64): OpenTelemetry's scale 6,
// Prometheus' native schema 6, and DDSketch with α = 0.54 %. One set of buckets has three faces: the state of
// ClickHouse's quantilesDD (AppendDD, DecodeDD), Prometheus (Prometheus) and OpenTelemetry (OTel). All three
// hold the same buckets and counts; nothing is lost from one to another. docs/format/sketch.md has the bytes.
//
// Distinct counts different items, as ClickHouse's uniqCombined64 does (docs/format/distinct.md). TopK finds the items
// that come most often (docs/format/topk.md).
//
// A Sketch keeps no sum, minimum or maximum: those are exact numbers and travel beside it. The package imports
// none of the three systems and reads no clock.
package sketches

import (
	"errors"
	"fmt"
	"math"
	"unsafe"
)

const (
	// Scale is the resolution: 2^Scale buckets an octave.
	Scale = 6
	// Alpha is the relative error α of a quantile: |x̂−x| ≤ α·|x|. It is also the parameter that ClickHouse's
	// column type must carry, digit by digit: a coarser literal gives silent garbage.
	Alpha = 0.005415159415902577
	// Gamma is the ratio γ of a bucket's bounds, (1+α)/(1−α).
	Gamma = 1.0108892860517005
	// MinValue and MaxValue bound |v|: what is nearer to zero (but not zero) or farther away counts in the
	// first or last bucket, and in Clamped. They bound a Sketch to 2 × 6379 buckets, whatever is added,
	// which matters because ClickHouse unpacks a state into one dense array.
	MinValue = 1e-12
	MaxValue = 1e18

	// MinIndex and MaxIndex are the buckets of MinValue and MaxValue.
	MinIndex = -2552
	MaxIndex = 3826
)

// ErrEmpty means that a quantile of nothing was asked for.
var ErrEmpty = errors.New("quantile of an empty sketch")

// Sketch counts values in exponential buckets: bucket i holds γ^i < |v| ≤ γ^(i+1), positive and negative values
// apart, zeros in a counter of their own. Merging adds counts, so any order and grouping of merges gives the
// same sketch (exactly, while no count passes 2^53). The zero Sketch is empty and ready.
//
// It grows with what it holds: up to 24 values as a list in the struct (104 bytes, no allocation), then one byte
// a bucket between the least and greatest seen, then four or eight once a count needs it. A Sketch must not be
// copied after its first use, and is not safe for concurrent use; reading methods may run together.
//
// Masson, Rim, Lee: DDSketch, PVLDB 12(12) 2019; OpenTelemetry metrics data model, ExponentialHistogram.
type Sketch struct {
	positive store
	negative *store // most sketches never see a negative value
	zero     float64
	clamped  uint64
}

var (
	minBits = math.Float64bits(MinValue)
	maxBits = math.Float64bits(MaxValue)
)

// Add counts one value. NaN is not counted, only noted in Clamped: the caller refuses it before.
// Amortised O(1); no allocation once the sketch covers v.
func (s *Sketch) Add(v float64) {
	// Positive floats order as their bits do, so one comparison sets aside everything unusual: zeros,
	// negatives, NaN, infinities and what is out of range.
	if bits := math.Float64bits(v); bits-minBits <= maxBits-minBits {
		s.positive.addOne(index(bits))
		return
	}
	s.AddN(v, 1)
}

// Touch reads what Add reads first, and TouchCount(v) the count that Add(v) will raise, where there is one. Neither
// result has a meaning. Who has values for many sketches calls one for all of them, then the other, and then Add, so
// that the processor waits for memory once and not for each.
func (s *Sketch) Touch() uint64 { return uint64(s.positive.width) }

// TouchCount is described with Touch.
func (s *Sketch) TouchCount(v float64) uint64 {
	bits := math.Float64bits(v)
	if bits-minBits > maxBits-minBits {
		return 0
	}
	at := uint(uint32(index(bits)-s.positive.first)) * uint(s.positive.width)
	if at >= uint(len(s.positive.counts)) {
		return 0
	}
	return uint64(s.positive.counts[at])
}

// AddN counts v n times; n may be a fraction. Nothing happens unless n is finite and above zero.
func (s *Sketch) AddN(v, n float64) {
	switch {
	case !(n > 0) || math.IsInf(n, 1):
	case v > 0:
		s.positive.add(s.indexOf(v), n)
	case v < 0:
		s.negatives().add(s.indexOf(-v), n)
	case v == 0:
		s.zero += n
	default:
		s.clamped++
	}
}

// AddExponential merges one side of an exponential histogram in OpenTelemetry's index (Prometheus' is one
// more): counts[j] is the count of bucket offset+j, γ'^i < |v| ≤ γ'^(i+1) with γ' = 2^(2^-scale). zero is its
// count of zeros; give it with one of the two sides only. Scales of 6 and above merge without loss, because
// their buckets nest in ours. A coarser bucket counts at its geometric middle: the error is then its own.
// Counts that are negative, NaN or infinite are skipped. The sketch keeps no reference to counts.
func (s *Sketch) AddExponential(scale int32, zero float64, negative bool, offset int32, counts []float64) {
	s.AddN(0, zero)
	for j, n := range counts {
		if !(n > 0) || math.IsInf(n, 1) {
			continue
		}
		side := &s.positive
		if negative {
			side = s.negatives()
		}
		side.add(s.clamp(rescale(scale, int64(offset)+int64(j))), n)
	}
}

// Merge adds everything that other counted. other stays as it is, and may be s itself.
func (s *Sketch) Merge(other *Sketch) {
	s.positive.merge(&other.positive)
	if other.negative != nil {
		s.negatives().merge(other.negative)
	}
	s.zero += other.zero
	s.clamped += other.clamped
}

// Reset empties the sketch and keeps its memory for what comes next.
func (s *Sketch) Reset() {
	s.positive.reset()
	if s.negative != nil {
		s.negative.reset()
	}
	s.zero, s.clamped = 0, 0
}

// Quantile returns an estimate x̂ of the q-quantile x, 0 ≤ q ≤ 1, with |x̂−x| ≤ α·|x| (for values that were not
// clamped). x is the value of rank ⌊q·(n−1)⌋, counting from zero, of the n added; ClickHouse's quantilesDD takes
// the same rank and gives the same number. It returns ErrEmpty before the first Add. O(buckets), no allocation.
func (s *Sketch) Quantile(q float64) (float64, error) {
	if !(q >= 0 && q <= 1) {
		return 0, fmt.Errorf("quantile %v: want a number from 0 to 1", q)
	}
	below, above := s.negative.count(), s.positive.count()
	n := below + s.zero + above
	if n == 0 {
		return 0, ErrEmpty
	}
	rank := max(q*(n-1), 0) // fractional weights may sum to less than one value
	switch {
	case rank < below:
		// From the most negative up is from the greatest magnitude down.
		i := s.negative.find(func(cumulative float64) bool { return cumulative >= below-rank })
		return -middle(i), nil
	case rank < below+s.zero:
		return 0, nil
	default:
		rank -= below + s.zero
		return middle(s.positive.find(func(cumulative float64) bool { return cumulative > rank })), nil
	}
}

// Count is the number of values: all weights added, zeros included. O(buckets).
func (s *Sketch) Count() float64 { return s.negative.count() + s.zero + s.positive.count() }

// Bytes is what the sketch takes in memory.
func (s *Sketch) Bytes() int {
	n := int(unsafe.Sizeof(*s)) + cap(s.positive.counts)
	if s.negative != nil {
		n += int(unsafe.Sizeof(*s.negative)) + cap(s.negative.counts)
	}
	return n
}

// Buckets is how many buckets its state has at most: those between the least and the greatest, or as many as values
// while these are few.
func (s *Sketch) Buckets() int { return s.positive.atMost() + s.negative.atMost() }

// Zero is the number of zeros.
func (s *Sketch) Zero() float64 { return s.zero }

// Clamped is how many calls of Add and AddN and how many buckets given to AddExponential had a value outside
// MinValue to MaxValue or NaN. It is a diagnosis and no part of any face.
func (s *Sketch) Clamped() uint64 { return s.clamped }

func (s *Sketch) negatives() *store {
	if s.negative == nil {
		s.negative = new(store)
	}
	return s.negative
}

// indexOf returns the bucket of v > 0.
func (s *Sketch) indexOf(v float64) int32 {
	if v < MinValue {
		s.clamped++
		return MinIndex
	}
	if v > MaxValue {
		s.clamped++
		return MaxIndex
	}
	return index(math.Float64bits(v))
}

func (s *Sketch) clamp(i int64) int32 {
	if i < MinIndex || i > MaxIndex {
		s.clamped++
		return int32(min(max(i, MinIndex), MaxIndex))
	}
	return int32(i)
}

// rescale returns the bucket of scale 6 that holds bucket i of another scale, or its geometric middle.
func rescale(scale int32, i int64) int64 {
	if scale >= Scale {
		return i >> (scale - Scale)
	}
	// Bucket i spans 2^(6−scale) of ours. Its middle is the border below which half of them lie; borders
	// belong to the bucket below. Beyond scale −11 one bucket spans all float64: shift no further.
	shift := Scale - 1 - max(scale, -11)
	return (2*i+1)<<shift - 1
}

// middle returns the point of bucket i whose relative distance from both its ends is α.
func middle(i int32) float64 { return Bound(i) * (1 + Alpha) }
