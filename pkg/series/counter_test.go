package series

import (
	"encoding/hex"
	"errors"
	"math"
	"testing"

	"pgregory.net/rapid"
)

func TestCounter(t *testing.T) {
	c := new(Counter)
	f := func(s CounterSample, wantValue, wantSum float64, want CounterOutcome) {
		t.Helper()
		value, sum, outcome := c.Add(s, 100)
		if value != wantValue || sum != wantSum || outcome != want {
			t.Errorf("%+v: got %v, %v, %v, want %v, %v, %v", s, value, sum, outcome, wantValue, wantSum, want)
		}
	}
	f(CounterSample{200, 0, 5, 50}, 0, 0, Based)
	f(CounterSample{210, 0, 7, 40}, 2, -10, Counted) // a negative observation is no reset
	f(CounterSample{210, 0, 9, 40}, 0, 0, Duplicate)
	f(CounterSample{205, 0, 6, 40}, 0, 0, OutOfOrder)
	f(CounterSample{215, 0, math.NaN(), 0}, 0, 0, Stale)
	f(CounterSample{215, 0, -1, 0}, 0, 0, Invalid)
	f(CounterSample{215, 0, math.Inf(1), 0}, 0, 0, Invalid)
	f(CounterSample{220, 0, 3, 30}, 3, 30, Reset)
	f(CounterSample{230, 150, 4, 31}, 1, 1, Counted)  // a start time appears
	f(CounterSample{240, 151, 6, 33}, 2, 2, Counted)  // jitter
	f(CounterSample{250, 245, 9, 90}, 9, 90, Reset)   // risen, and yet begun again
	f(CounterSample{260, 300, 10, 91}, 1, 1, Counted) // a start in the future says nothing
	*c = Counter{}
	f(CounterSample{200, 0, 5, 50}, 0, 0, Based)
	f(CounterSample{210, 205, 6, 60}, 6, 60, Reset) // the first start time seen, after the sample before
	*c = Counter{}
	f(CounterSample{200, 100, 5, 50}, 5, 50, Counted) // begun in sight
	*c = Counter{}
	f(CounterSample{200, 99, 5, 50}, 0, 0, Based)
}

// Deltas add up to the events that a process counted, whatever restarts, reorders, repeats or is lost on the way,
// and wherever the state goes through its bytes.
func TestCounterIsTheNaiveIncrease(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := new(Counter)
		var sum, got, want, newest, before float64
		now := int64(1000)
		n := rapid.IntRange(1, 60).Draw(t, "samples")
		for i := range n {
			step := rapid.Int64Range(-3, 5).Draw(t, "step")
			v := float64(rapid.IntRange(0, 20).Draw(t, "value"))
			at := now + step
			if i == 0 || at > now {
				// increase(): the last minus the first, plus what stood before each fall.
				if i == 0 {
					want = -v
				} else if v < before {
					want += before
				}
				before, newest, now = v, v, at
			}
			delta, _, _ := c.Add(CounterSample{Time: at, Value: v}, 0)
			got += delta
			raw, _ := c.AppendBinary(nil)
			c = new(Counter)
			if err := c.UnmarshalBinary(raw); err != nil {
				t.Fatal(err)
			}
			sum = newest + want
		}
		if got != sum {
			t.Fatalf("got %v, want %v", got, sum)
		}
	})
}

func TestCounterGolden(t *testing.T) {
	c := new(Counter)
	c.Add(CounterSample{300, -2, 1.5, -1}, 0)
	const want = "0101d80403000000000000f83f000000000000f0bf"
	raw, _ := c.AppendBinary(nil)
	if got := hex.EncodeToString(raw); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	raw, _ = new(Counter).AppendBinary(nil)
	if got := hex.EncodeToString(raw); got != "0100" {
		t.Errorf("got %s, want 0100", got)
	}
}

func FuzzCounterState(f *testing.F) {
	for _, s := range []string{"", "0100", "010000", "0200", "0101d80403000000000000f83f000000000000f0bf", "0101d804"} {
		raw, _ := hex.DecodeString(s)
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		c := new(Counter)
		if err := c.UnmarshalBinary(raw); err != nil {
			if !errors.Is(err, ErrCounterState) || *c != (Counter{}) {
				t.Fatalf("%v, %+v", err, c)
			}
			return
		}
		again := new(Counter)
		out, _ := c.AppendBinary(nil)
		if err := again.UnmarshalBinary(out); err != nil || *again != *c {
			t.Fatalf("got %+v, %v, want %+v", again, err, c)
		}
	})
}

func BenchmarkCounter(b *testing.B) {
	b.ReportAllocs()
	c := new(Counter)
	s := CounterSample{Time: 1}
	for b.Loop() {
		s.Time++
		s.Value++
		c.Add(s, 0)
	}
}
