package pipeline_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/pkg/events"
)

var goldenHistogram = &events.Histogram{
	Scale: 3, ZeroThreshold: 0.5, ZeroCount: 1, Count: 130.5, Sum: -2, Min: math.NaN(), Max: math.Inf(1),
	Positive: events.Buckets{Offset: -2, Counts: []float64{0, 1, 64, 64.5}},
	Negative: events.Buckets{Offset: 300},
}

var goldenBounds = &events.Histogram{
	Scale: events.CustomScale, Count: 3, Sum: 2, Min: math.NaN(), Max: math.NaN(), Bounds: []float64{0.5, 1},
	Positive: events.Buckets{Offset: 1, Counts: []float64{2, 1}},
}

// The bytes of docs/format/histogram.md.
const goldenHistogramBytes = "0106" + "000000000000e03f" + "000000000000f03f" + "0000000000506040" + "00000000000000c0" +
	"010000000000f87f" + "000000000000f07f" + "0304" + "00" + "02" + "8001" + "010000000000205040" + "d80400"

const goldenBoundsBytes = "0269" + "0000000000000000" + "0000000000000000" + "0000000000000840" + "0000000000000040" +
	"010000000000f87f" + "010000000000f87f" + "0202" + "04" + "02" + "0000" + "02" + "000000000000e03f" + "000000000000f03f"

func TestHistogramGolden(t *testing.T) {
	f := func(h *events.Histogram, want string) {
		t.Helper()
		if got := hex.EncodeToString(pipeline.AppendHistogram(nil, h)); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	f(goldenHistogram, goldenHistogramBytes)
	f(goldenBounds, goldenBoundsBytes)
}

func TestHistogramRoundTrip(t *testing.T) {
	counts := rapid.SliceOfN(rapid.OneOf(rapid.Float64(), rapid.Map(rapid.Uint64(), func(n uint64) float64 { return float64(n) })), 0, 50)
	rapid.Check(t, func(t *rapid.T) {
		float := rapid.Float64()
		h := &events.Histogram{
			Scale: rapid.Int32().Draw(t, "scale"), ZeroThreshold: float.Draw(t, "f"), ZeroCount: float.Draw(t, "f"),
			Count: float.Draw(t, "f"), Sum: float.Draw(t, "f"), Min: float.Draw(t, "f"), Max: float.Draw(t, "f"),
			Positive: events.Buckets{Offset: rapid.Int32().Draw(t, "offset"), Counts: counts.Draw(t, "counts")},
			Negative: events.Buckets{Offset: rapid.Int32().Draw(t, "offset"), Counts: counts.Draw(t, "counts")},
		}
		if rapid.Bool().Draw(t, "bounds") {
			h.Scale, h.Bounds = events.CustomScale, rapid.SliceOfN(float, 0, 5).Draw(t, "bounds")
		}
		b := pipeline.AppendHistogram(nil, h)
		got, err := pipeline.DecodeHistogram(string(b))
		if err != nil {
			t.Fatal(err)
		}
		if again := pipeline.AppendHistogram(nil, got); !bytes.Equal(again, b) {
			t.Fatalf("got %x, want %x", again, b)
		}
	})
}

func FuzzDecodeHistogram(f *testing.F) {
	golden := pipeline.AppendHistogram(nil, goldenHistogram)
	for _, whole := range [][]byte{golden, pipeline.AppendHistogram(nil, goldenBounds)} {
		for i := range len(whole) + 1 {
			f.Add(string(whole[:i]))
		}
	}
	f.Add("\x02\x69" + string(make([]byte, 48)) + "\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")
	f.Add("\x02" + string(golden[1:]))
	f.Add("\x03")
	f.Add(string(golden) + "x")
	f.Add("\x01\x00" + string(make([]byte, 48)) + "\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")
	f.Fuzz(func(t *testing.T, s string) {
		h, err := pipeline.DecodeHistogram(s)
		if err != nil {
			if !errors.Is(err, pipeline.ErrHistogram) || h != nil {
				t.Fatalf("got %v, %v; want nil, ErrHistogram", h, err)
			}
			return
		}
		if len(h.Positive.Counts)+len(h.Negative.Counts)+8*len(h.Bounds) > len(s) {
			t.Fatalf("got more buckets and bounds than the %d bytes can hold", len(s))
		}
		first := pipeline.AppendHistogram(nil, h)
		again, err := pipeline.DecodeHistogram(string(first))
		if err != nil || !bytes.Equal(pipeline.AppendHistogram(nil, again), first) {
			t.Fatalf("got %v, %v; want the same histogram again", again, err)
		}
	})
}
