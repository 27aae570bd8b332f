package sketches_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/pkg/sketches"
)

func TestQuantileWithinAlpha(t *testing.T) {
	value := rapid.OneOf(
		rapid.Float64Range(0, 1),
		rapid.Float64Range(-1000, 1000),
		rapid.Float64Range(-1e18, 1e18),
		rapid.Map(rapid.IntRange(-400, 400), func(i int) float64 { return sketches.Bound(int32(i)) }),
		rapid.SampledFrom([]float64{0, 1, -1, 0.5, 1e-12, -1e-12}),
	).Filter(func(v float64) bool { return v == 0 || math.Abs(v) >= sketches.MinValue })
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(value, 1, 300).Draw(t, "values")
		var s sketches.Sketch
		for _, v := range values {
			s.Add(v)
		}
		slices.Sort(values)
		for _, q := range []float64{0, 0.001, 0.01, 0.1, 0.25, 0.5, 0.9, 0.95, 0.99, 0.999, 1,
			rapid.Float64Range(0, 1).Draw(t, "q")} {
			checkQuantile(t, &s, values, q)
		}
	})
}

// A large sample, every rank.
func TestQuantileEveryRank(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	values := make([]float64, 20_000)
	var s sketches.Sketch
	for i := range values {
		values[i] = math.Exp(random.NormFloat64() * 3)
		if i%7 == 0 {
			values[i] = -values[i]
		}
		s.Add(values[i])
	}
	slices.Sort(values)
	for i := range values {
		checkQuantile(t, &s, values, (float64(i)+0.5)/float64(len(values)))
	}
}

func checkQuantile(t interface {
	Helper()
	Fatalf(string, ...any)
}, s *sketches.Sketch, sorted []float64, q float64) {
	t.Helper()
	got, err := s.Quantile(q)
	if err != nil {
		t.Fatalf("quantile %v: %v", q, err)
	}
	want := sorted[int(math.Floor(q*float64(len(sorted)-1)))]
	// The bound is met with equality at borders; leave room for the last bits.
	if limit := sketches.Alpha * math.Abs(want) * (1 + 1e-12); math.Abs(got-want) > limit {
		t.Fatalf("quantile %v: got %v, want within %v of %v", q, got, limit, want)
	}
}

func TestQuantileErrors(t *testing.T) {
	var s sketches.Sketch
	if _, err := s.Quantile(0.5); !errors.Is(err, sketches.ErrEmpty) {
		t.Fatalf("got error %v, want ErrEmpty", err)
	}
	s.Add(1)
	for _, q := range []float64{-0.1, 1.1, math.NaN(), math.Inf(1)} {
		if got, err := s.Quantile(q); err == nil {
			t.Fatalf("quantile %v: got %v, want an error", q, got)
		}
	}
	s.Reset()
	if _, err := s.Quantile(0.5); !errors.Is(err, sketches.ErrEmpty) {
		t.Fatalf("after Reset: got error %v, want ErrEmpty", err)
	}
	// Less than one value in all has a median too.
	s.AddN(3, 0.25)
	if got, err := s.Quantile(0.5); err != nil || math.Abs(got-3) > 3*sketches.Alpha {
		t.Fatalf("got %v, %v, want about 3", got, err)
	}
}

func TestUnusualValues(t *testing.T) {
	f := func(v float64, wantCount float64, wantClamped uint64, wantMedian float64) {
		t.Helper()
		var s sketches.Sketch
		s.Add(v)
		if s.Count() != wantCount || s.Clamped() != wantClamped {
			t.Fatalf("%v: got count %v clamped %d, want %v and %d", v, s.Count(), s.Clamped(), wantCount, wantClamped)
		}
		if got, _ := s.Quantile(0.5); math.Abs(got-wantMedian) > math.Abs(wantMedian)*sketches.Alpha*1.001 {
			t.Fatalf("%v: got median %v, want %v", v, got, wantMedian)
		}
	}
	f(0, 1, 0, 0)
	f(math.Copysign(0, -1), 1, 0, 0)
	f(1e-12, 1, 0, 1e-12)
	f(9e-13, 1, 1, 1e-12)
	f(math.SmallestNonzeroFloat64, 1, 1, 1e-12)
	f(-math.SmallestNonzeroFloat64, 1, 1, -1e-12)
	f(1e18, 1, 0, 1e18)
	f(math.MaxFloat64, 1, 1, 1e18)
	f(math.Inf(1), 1, 1, 1e18)
	f(math.Inf(-1), 1, 1, -1e18)
	f(math.NaN(), 0, 1, 0)
}

func TestUnusualWeights(t *testing.T) {
	for _, n := range []float64{0, -1, math.NaN(), math.Inf(1), math.Inf(-1)} {
		var s sketches.Sketch
		s.AddN(1, n)
		s.AddN(0, n)
		s.AddExponential(6, n, false, 0, []float64{n})
		if s.Count() != 0 || s.Clamped() != 0 {
			t.Fatalf("weight %v: got count %v clamped %d, want nothing", n, s.Count(), s.Clamped())
		}
	}
}

// model is what a Sketch must be equal to: counts in maps, by bucket.
type model struct {
	positive, negative map[int32]float64
	zero               float64
}

func newModel() *model { return &model{map[int32]float64{}, map[int32]float64{}, 0} }

func (m *model) add(v, n float64) {
	side, magnitude := m.positive, v
	if v < 0 {
		side, magnitude = m.negative, -v
	}
	if v == 0 {
		m.zero += n
		return
	}
	i := int32(math.Ceil(math.Log2(magnitude)*64)) - 1
	for sketches.Bound(i) >= magnitude { // Log2 errs in the last bits at borders
		i--
	}
	for sketches.Bound(i+1) < magnitude {
		i++
	}
	side[i] += n
}

func (m *model) merge(other *model) {
	m.zero += other.zero
	for i, n := range other.positive {
		m.positive[i] += n
	}
	for i, n := range other.negative {
		m.negative[i] += n
	}
}

func (m *model) check(t *rapid.T, s *sketches.Sketch) {
	t.Helper()
	want := m.zero
	for _, n := range m.positive {
		want += n
	}
	for _, n := range m.negative {
		want += n
	}
	if got := s.Count(); got != want || s.Zero() != m.zero {
		t.Fatalf("got count %v zeros %v, want %v and %v", got, s.Zero(), want, m.zero)
	}
	checkBuckets(t, s.Positive(), m.positive)
	checkBuckets(t, s.Negative(), m.negative)
}

func checkBuckets(t *rapid.T, got sketches.Buckets, want map[int32]float64) {
	t.Helper()
	used := 0
	for j, n := range got.Counts {
		i := got.Offset + int32(j)
		if want[i] != n {
			t.Fatalf("bucket %d: got %v, want %v", i, n, want[i])
		}
		if n != 0 {
			used++
		}
	}
	if used != len(want) {
		t.Fatalf("got %d buckets in use, want %d", used, len(want))
	}
	if n := len(got.Counts); n > 0 && (got.Counts[0] == 0 || got.Counts[n-1] == 0) {
		t.Fatalf("got an empty bucket at an end of %+v, want none", got)
	}
}

// drawValue draws so that lists fill up, windows grow on both sides and buckets are hit again.
func drawValue(t *rapid.T) float64 {
	i := rapid.OneOf(rapid.Int32Range(-20, 20), rapid.Int32Range(leastIndex+1, greatestIndex)).Draw(t, "bucket")
	v := sketches.Bound(i)
	switch rapid.IntRange(0, 9).Draw(t, "sign") {
	case 0:
		return 0
	case 1, 2:
		return -v
	default:
		return v
	}
}

// drawWeight draws dyadic numbers, whose sums are exact in any order; the large ones overflow uint8 and uint32.
func drawWeight(t *rapid.T) float64 {
	return rapid.SampledFrom([]float64{1, 1, 1, 1, 2, 3, 100, math.MaxUint8, 1000, 0.5, 0.25, math.MaxUint32, math.MaxUint32 - 1, 1 << 40}).Draw(t, "weight")
}

// Whatever is done to a sketch, it holds what maps would.
func TestAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const n = 3
		var got [n]sketches.Sketch
		want := [n]*model{newModel(), newModel(), newModel()}
		for range rapid.IntRange(0, 120).Draw(t, "steps") {
			at := rapid.IntRange(0, n-1).Draw(t, "sketch")
			switch rapid.IntRange(0, 20).Draw(t, "op") {
			default:
				v := drawValue(t)
				got[at].Add(v)
				want[at].add(v, 1)
			case 0, 1, 2:
				v, w := drawValue(t), drawWeight(t)
				got[at].AddN(v, w)
				want[at].add(v, w)
			case 3, 4, 5:
				from := rapid.IntRange(0, n-1).Draw(t, "from") // also itself
				got[at].Merge(&got[from])
				copied := newModel()
				copied.merge(want[from])
				want[at].merge(copied)
			case 6:
				got[at].Reset()
				want[at] = newModel()
			case 7:
				state := got[at].AppendDD(nil)
				if _, err := got[(at+1)%n].DecodeDD(state); err != nil {
					t.Fatalf("decode own state: %v", err)
				}
				want[(at+1)%n] = newModel()
				want[(at+1)%n].merge(want[at])
			}
		}
		for at := range got {
			want[at].check(t, &got[at])
		}
	})
}

// a+b = b+a and (a+b)+c = a+(b+c), to the last byte of every face.
func TestMergeLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var recipes [3][][2]float64
		for i := range recipes {
			for range rapid.IntRange(0, 60).Draw(t, "length") {
				recipes[i] = append(recipes[i], [2]float64{drawValue(t), drawWeight(t)})
			}
		}
		build := func(i int) *sketches.Sketch {
			s := new(sketches.Sketch)
			for _, r := range recipes[i] {
				s.AddN(r[0], r[1])
			}
			return s
		}
		sum := func(a, b *sketches.Sketch) *sketches.Sketch { a.Merge(b); return a }
		want := sum(sum(build(0), build(1)), build(2))
		same(t, "commutative", sum(sum(build(1), build(0)), build(2)), want)
		same(t, "associative", sum(build(0), sum(build(1), build(2))), want)
		same(t, "identity", sum(new(sketches.Sketch), want), want)
	})
}

func same(t *rapid.T, law string, got, want *sketches.Sketch) {
	t.Helper()
	if g, w := got.AppendDD(nil), want.AppendDD(nil); !bytes.Equal(g, w) {
		t.Fatalf("%s: got state %x, want %x", law, g, w)
	}
	if g, w := fmt.Sprint(got.OTel(), got.Prometheus()), fmt.Sprint(want.OTel(), want.Prometheus()); g != w {
		t.Fatalf("%s: got %s, want %s", law, g, w)
	}
}

// A histogram of a finer scale loses nothing that scale 6 would have kept.
func TestAddExponentialFine(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		scale := rapid.Int32Range(sketches.Scale, 20).Draw(t, "scale")
		var got, want sketches.Sketch
		for range rapid.IntRange(1, 20).Draw(t, "buckets") {
			// A point well inside a fine bucket, so that Log2's last bits do not matter.
			fine := rapid.IntRange(-30<<scale, 30<<scale).Draw(t, "index")
			v := math.Exp2((float64(fine) + 0.5) / math.Exp2(float64(scale)))
			n := drawWeight(t)
			negative := rapid.Bool().Draw(t, "negative")
			got.AddExponential(scale, n, negative, int32(fine)-1, []float64{0, n, 0})
			want.AddN(0, n)
			if negative {
				v = -v
			}
			want.AddN(v, n)
		}
		same(t, "fine scale", &got, &want)
	})
}

// A coarser bucket counts at its geometric middle.
func TestAddExponentialCoarse(t *testing.T) {
	for scale := int32(-10); scale < sketches.Scale; scale++ {
		width := math.Exp2(-float64(scale)) // octaves a bucket
		for i := int32(-20); i <= 20; i++ {
			logarithm := (float64(i) + 0.5) * width
			var s sketches.Sketch
			s.AddExponential(scale, 0, false, i, []float64{1})
			got, err := s.Quantile(0.5)
			if err != nil {
				t.Fatal(err)
			}
			want := math.Exp2(math.Min(math.Max(logarithm, math.Log2(sketches.MinValue)), math.Log2(sketches.MaxValue)))
			if math.Abs(got-want) > want*sketches.Alpha*1.000001 {
				t.Fatalf("scale %d bucket %d: got %v, want %v", scale, i, got, want)
			}
			if out := logarithm < -39.9 || logarithm > 59.8; out != (s.Clamped() == 1) {
				t.Fatalf("scale %d bucket %d: got clamped %d, want %v", scale, i, s.Clamped(), out)
			}
		}
	}
}

// Nonsense from outside neither panics nor leaves the range.
func TestAddExponentialExtremes(t *testing.T) {
	for _, scale := range []int32{math.MinInt32, -100, -11, 0, 6, 21, 63, 64, math.MaxInt32} {
		for _, offset := range []int32{math.MinInt32, -1, 0, math.MaxInt32} {
			var s sketches.Sketch
			s.AddExponential(scale, 0, false, offset, []float64{1, 1})
			b := s.Positive()
			if s.Count() != 2 || b.Offset < leastIndex || b.Offset+int32(len(b.Counts))-1 > greatestIndex {
				t.Fatalf("scale %d offset %d: got %v from %d, want 2 in range", scale, offset, s.Count(), b.Offset)
			}
		}
	}
}

func TestAddExponentialOwnFace(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s, again sketches.Sketch
		for range rapid.IntRange(0, 60).Draw(t, "length") {
			s.AddN(drawValue(t), drawWeight(t))
		}
		h := s.OTel()
		again.AddExponential(h.Scale, h.ZeroCount, false, h.Positive.Offset, h.Positive.Counts)
		again.AddExponential(h.Scale, 0, true, h.Negative.Offset, h.Negative.Counts)
		same(t, "through OpenTelemetry", &again, &s)
	})
}

// In the steady state nothing allocates: neither adding, nor emptying and filling again, nor encoding.
func TestSteadyStateAllocations(t *testing.T) {
	var s, other sketches.Sketch
	state := make([]byte, 0, 1<<16)
	cycle := func() {
		s.Reset()
		for i := range 500 {
			s.Add(1 + float64(i)/100)
			s.Add(-1 - float64(i)/100)
		}
		other.Reset()
		other.Merge(&s)
		state = other.AppendDD(state[:0])
		if _, err := other.DecodeDD(state); err != nil {
			t.Fatal(err)
		}
		if _, err := other.Quantile(0.99); err != nil {
			t.Fatal(err)
		}
	}
	cycle()
	if got := testing.AllocsPerRun(100, cycle); got != 0 {
		t.Fatalf("got %v allocations a cycle, want 0", got)
	}
}

func Example() {
	var night, day sketches.Sketch
	for i := 1; i <= 1000; i++ {
		night.Add(float64(i) / 1000)
	}
	day.AddN(2.5, 1000)
	day.Merge(&night)
	median, _ := day.Quantile(0.5)
	p99, _ := day.Quantile(0.99)
	fmt.Printf("%.0f values, p50 %.2f, p99 %.2f\n", day.Count(), median, p99)
	// Output: 2000 values, p50 0.99, p99 2.50
}

// TouchCount reads the count that Add raises, or nothing.
func TestTouchCount(t *testing.T) {
	var s sketches.Sketch
	for range 30 {
		s.Add(0.25)
	}
	for v, want := range map[float64]uint64{0.25: 30, 0.24: 0, 1e9: 0, 0: 0, -1: 0, math.Inf(1): 0, math.NaN(): 0} {
		if got := s.TouchCount(v); got != want {
			t.Errorf("TouchCount(%v): got %d, want %d", v, got, want)
		}
	}
}
