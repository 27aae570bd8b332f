package sketches_test

import (
	"math"
	"math/big"
	"testing"

	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/pkg/sketches"
)

// The buckets at both ends of the range of values.
const leastIndex, greatestIndex = -2552, 3826

func TestConstants(t *testing.T) {
	if got, want := (1+sketches.Alpha)/(1-sketches.Alpha), float64(sketches.Gamma); got != want {
		t.Fatalf("(1+α)/(1−α): got %v, want γ = %v", got, want)
	}
	if got := sketches.Bound(1); got != sketches.Gamma {
		t.Fatalf("Bound(1): got %v, want γ = %v", got, sketches.Gamma)
	}
}

// Every border is γ^i correctly rounded: worked out with 300 bits, by nothing but square roots and products.
func TestBoundsAreRoundedPowers(t *testing.T) {
	gamma := big.NewFloat(2).SetPrec(300)
	for range sketches.Scale {
		gamma.Sqrt(gamma)
	}
	power := big.NewFloat(1).SetPrec(300)
	for i := range int32(1 << sketches.Scale) {
		fraction, _ := power.Float64()
		for octave := int32(-100); octave <= 100; octave++ {
			want := math.Ldexp(fraction, int(octave))
			if got := sketches.Bound(octave<<sketches.Scale + i); got != want {
				t.Fatalf("octave %d border %d: got %v, want %v", octave, i, got, want)
			}
		}
		power.Mul(power, gamma)
	}
}

// A border belongs to the bucket below it, the next float64 to the bucket above: at every border there is.
func TestBucketEdges(t *testing.T) {
	f := func(v float64, want int32) {
		t.Helper()
		var s sketches.Sketch
		s.Add(v)
		if got := s.Positive(); got.Offset != want || len(got.Counts) != 1 || got.Counts[0] != 1 {
			t.Fatalf("%v: got %+v, want one count in bucket %d", v, got, want)
		}
		if s.Clamped() != 0 {
			t.Fatalf("%v: got clamped, want not", v)
		}
	}
	for i := int32(leastIndex + 1); i <= greatestIndex; i++ {
		f(sketches.Bound(i), i-1)
		f(math.Nextafter(sketches.Bound(i), math.Inf(1)), i)
	}
	f(sketches.MinValue, leastIndex)
	f(sketches.MaxValue, greatestIndex)
}

func TestBucketHoldsValue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.Float64Range(sketches.MinValue, sketches.MaxValue).Draw(t, "v")
		var s sketches.Sketch
		s.Add(-v)
		i := s.Negative().Offset
		if lower, upper := sketches.Bound(i), sketches.Bound(i+1); v <= lower || v > upper {
			t.Fatalf("got bucket (%v, %v], want one that holds %v", lower, upper, v)
		}
	})
}
