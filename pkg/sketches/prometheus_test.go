package sketches_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser/posrange"
	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/pkg/sketches"
)

func TestPrometheusSpans(t *testing.T) {
	f := func(values []float64, want sketches.Native) {
		t.Helper()
		var s sketches.Sketch
		for _, v := range values {
			s.Add(v)
		}
		got := s.Prometheus()
		if !slices.Equal(got.PositiveSpans, want.PositiveSpans) || !slices.Equal(got.PositiveBuckets, want.PositiveBuckets) ||
			!slices.Equal(got.NegativeSpans, want.NegativeSpans) || !slices.Equal(got.NegativeBuckets, want.NegativeBuckets) {
			t.Fatalf("%v: got %+v, want %+v", values, got, want)
		}
		if cap(got.PositiveBuckets) != len(want.PositiveBuckets) || cap(got.PositiveSpans) != len(want.PositiveSpans) {
			t.Errorf("%v: got room for %d buckets and %d spans, want no more than there are",
				values, cap(got.PositiveBuckets), cap(got.PositiveSpans))
		}
	}
	at := func(i int32) float64 { return sketches.Bound(i) } // the upper end of Prometheus' bucket i
	f(nil, sketches.Native{})
	f([]float64{1}, sketches.Native{PositiveSpans: []sketches.Span{{Offset: 0, Length: 1}}, PositiveBuckets: []float64{1}})
	f([]float64{at(-5), at(-5), -at(7)}, sketches.Native{
		PositiveSpans: []sketches.Span{{Offset: -5, Length: 1}}, PositiveBuckets: []float64{2},
		NegativeSpans: []sketches.Span{{Offset: 7, Length: 1}}, NegativeBuckets: []float64{1},
	})
	// Two empty buckets are written out, three open a new span.
	f([]float64{at(1), at(4), at(8)}, sketches.Native{
		PositiveSpans:   []sketches.Span{{Offset: 1, Length: 4}, {Offset: 3, Length: 1}},
		PositiveBuckets: []float64{1, 0, 0, 1, 1},
	})
}

// upstream is the sketch as Prometheus' own type.
func upstream(s *sketches.Sketch) *histogram.FloatHistogram {
	n := s.Prometheus()
	spans := func(in []sketches.Span) (out []histogram.Span) {
		for _, span := range in {
			out = append(out, histogram.Span(span))
		}
		return out
	}
	return &histogram.FloatHistogram{
		Schema: n.Schema, ZeroThreshold: n.ZeroThreshold, ZeroCount: n.ZeroCount, Count: n.Count,
		PositiveSpans: spans(n.PositiveSpans), PositiveBuckets: n.PositiveBuckets,
		NegativeSpans: spans(n.NegativeSpans), NegativeBuckets: n.NegativeBuckets,
	}
}

// Prometheus accepts every sketch and sees the same counts between the same bounds. (Its table of bounds is
// not rounded correctly everywhere: it differs from the true powers in the last bits.)
func TestPrometheusSeesTheSameBuckets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s sketches.Sketch
		for range rapid.IntRange(0, 80).Draw(t, "length") {
			s.AddN(drawValue(t), drawWeight(t))
		}
		h := upstream(&s)
		if err := h.Validate(); err != nil {
			t.Fatalf("upstream's Validate: %v", err)
		}
		want := s.Positive()
		for it := h.PositiveBucketIterator(); it.Next(); {
			b := it.At()
			if b.Count == 0 {
				continue
			}
			i := b.Index - 1
			if got := want.Counts[i-want.Offset]; got != b.Count {
				t.Fatalf("bucket %d: got %v from Prometheus, want %v", i, b.Count, got)
			}
			if !almost(b.Lower, sketches.Bound(i)) || !almost(b.Upper, sketches.Bound(i+1)) {
				t.Fatalf("bucket %d: got (%v, %v] from Prometheus, want (%v, %v]",
					i, b.Lower, b.Upper, sketches.Bound(i), sketches.Bound(i+1))
			}
		}
	})
}

func almost(a, b float64) bool { return math.Abs(a-b) <= 1e-15*math.Abs(b) }

// histogram_quantile answers from the very bucket that Go answers from. Prometheus takes value number ⌈q·n⌉ and
// interpolates in its bucket, Go takes value number ⌊q·(n−1)⌋+1 and the middle of its bucket: asked for the same
// value, they differ by at most half a bucket.
func TestPrometheusQuantile(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	for round := range 20 {
		var s sketches.Sketch
		for range 1000 {
			v := math.Exp(random.NormFloat64() * 2)
			if round%4 == 3 && random.IntN(3) == 0 {
				v = -v
			}
			s.Add(v)
		}
		h := upstream(&s)
		for permille := 1; permille <= 1000; permille++ {
			// Half a rank keeps both clear of the border between two values.
			q := (float64(permille) - 0.5) / 1000
			want, err := s.Quantile(min((float64(permille)-0.5)/999, 1))
			if err != nil {
				t.Fatal(err)
			}
			got, _ := promql.HistogramQuantile(q, h, "m", posrange.PositionRange{})
			if math.Signbit(got) != math.Signbit(want) || math.Abs(got-want) > math.Abs(want)*sketches.Alpha*1.000001 {
				t.Fatalf("round %d q %v: got %v from Prometheus, want the bucket around %v", round, q, got, want)
			}
		}
	}
}
