package windows_test

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/pkg/windows"
)

func TestWatermarks(t *testing.T) {
	w := windows.NewWatermarks[string](windows.WatermarkConfig{Delay: 5, IdleAfter: 100})
	f := func(what string, got, want int64) {
		t.Helper()
		if got != want {
			t.Fatalf("%s: got %d, want %d", what, got, want)
		}
	}
	f("low of nothing", w.Low(0), windows.None)
	f("unknown key", w.Of("a"), windows.None)

	w.Observe("a", 1000, 0)
	f("after the first event", w.Of("a"), 995)
	w.Observe("a", 990, 10)
	f("an old event does not move it back", w.Of("a"), 995)
	w.Observe("b", 50, 10)
	f("another key has its own", w.Of("b"), 45)
	f("the slower one is low", w.Low(10), 45)

	w.Observe("a", 2000, 105)
	f("idle keys do not hold it back", w.Low(110), 1995)
	f("nor do they lose theirs", w.Of("b"), 45)
	f("all idle: the greatest", w.Low(1000), 1995)
	if !w.Idle("b", 110) || w.Idle("a", 110) || !w.Idle("c", 110) {
		t.Fatal("got a wrong idea of who is idle, want b and c idle, a not")
	}
	f("forgotten", int64(w.Expire(110)), 1)
	f("left", int64(w.Len()), 1)
	f("after being forgotten", w.Of("b"), windows.None)
}

func TestWatermarkDoesNotWrap(t *testing.T) {
	w := windows.NewWatermarks[int](windows.WatermarkConfig{Delay: 10, IdleAfter: 1})
	w.Observe(0, math.MinInt64+3, 0)
	if got := w.Of(0); got != windows.None {
		t.Fatalf("got %d, want None", got)
	}
}

// The watermark of a key is its greatest event time less the delay, whatever the order and whatever other keys do.
func TestWatermarkAgainstMaximum(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := windows.NewWatermarks[int](windows.WatermarkConfig{Delay: 7, IdleAfter: 1 << 40})
		newest := map[int]int64{}
		for now := range rapid.Int64Range(0, 50).Draw(t, "events") {
			key := rapid.IntRange(0, 3).Draw(t, "key")
			at := rapid.Int64Range(0, 1000).Draw(t, "time")
			if old, known := newest[key]; !known || at > old {
				newest[key] = at
			}
			w.Observe(key, at, now)
			low := int64(math.MaxInt64)
			for key, at := range newest {
				if got := w.Of(key); got != at-7 {
					t.Fatalf("key %d: got %d, want %d", key, got, at-7)
				}
				low = min(low, at-7)
			}
			if got := w.Low(now); got != low {
				t.Fatalf("low: got %d, want %d", got, low)
			}
		}
	})
}

func TestWatermarkConfigValidate(t *testing.T) {
	f := func(c windows.WatermarkConfig, valid bool) {
		t.Helper()
		if err := c.Validate(); (err == nil) != valid {
			t.Fatalf("%+v: got %v, want valid %v", c, err, valid)
		}
	}
	f(windows.WatermarkConfig{Delay: 0, IdleAfter: 1}, true)
	f(windows.WatermarkConfig{Delay: -1, IdleAfter: 1}, false)
	f(windows.WatermarkConfig{Delay: 1, IdleAfter: 0}, false)
}
