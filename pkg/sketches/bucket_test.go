package sketches_test

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/pkg/sketches"
)

// A list of buckets says what a Sketch of the same values says, byte by byte.
func TestBucketsAreASketch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		near := rapid.Float64Range(1, 1.2) // runs and neighbours
		value := rapid.OneOf(near, near, rapid.Float64(), rapid.SampledFrom([]float64{
			0, math.Copysign(0, -1), sketches.MinValue, sketches.MaxValue, math.Nextafter(sketches.MinValue, 0),
			math.Nextafter(sketches.MaxValue, math.Inf(1)), math.NaN(), math.Inf(1), -1,
		}))
		var want, sum sketches.Sketch
		var list []sketches.Bucket
		for _, v := range rapid.SliceOfN(value, 0, rapid.SampledFrom([]int{10, 60, 300}).Draw(t, "most")).Draw(t, "values") {
			var alone sketches.Sketch
			alone.Add(v)
			b, ok := sketches.BucketOf(v)
			if takes := alone.Clamped() == 0 && !(v < 0); ok != takes {
				t.Fatalf("bucket of %v: got %v, want %v", v, ok, takes)
			}
			if ok {
				list = append(list, b)
				want.Add(v)
			}
		}
		sum.AddBuckets(list)
		if got, want := sum.AppendDD(nil), want.AppendDD(nil); !bytes.Equal(got, want) {
			t.Fatalf("added to a sketch: got %x, want %x", got, want)
		}
		if got, want := sketches.AppendBuckets([]byte("before"), list), want.AppendDD([]byte("before")); !bytes.Equal(got, want) {
			t.Fatalf("state: got %x, want %x", got, want)
		}
	})
}

func BenchmarkAppendBuckets(b *testing.B) {
	for _, n := range []int{1, 2, 6, 24, 50, 88} {
		r := rand.New(rand.NewPCG(1, 2))
		list, sketch := make([]sketches.Bucket, n), sketches.Sketch{}
		for i := range list {
			v := r.ExpFloat64()
			list[i], _ = sketches.BucketOf(v)
			sketch.Add(v)
		}
		scratch, dst := make([]sketches.Bucket, n), []byte(nil)
		b.Run(fmt.Sprintf("list/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				copy(scratch, list)
				dst = sketches.AppendBuckets(dst[:0], scratch)
			}
		})
		b.Run(fmt.Sprintf("sketch/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				dst = sketch.AppendDD(dst[:0])
			}
		})
	}
}
