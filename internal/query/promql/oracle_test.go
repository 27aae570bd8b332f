package promql_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/sketches"
)

// within returns the values of the events in [from, to): windows hold their start, not their end.
func within(evs []event, from, to time.Time) (values []float64) {
	for _, e := range evs {
		if !e.time.Before(from) && e.time.Before(to) {
			values = append(values, e.value)
		}
	}
	return values
}

func add(values []float64) (sum float64) {
	for _, v := range values {
		sum += v
	}
	return sum
}

func near(got, want, relative float64) bool {
	return math.Abs(got-want) <= relative*max(math.Abs(got), math.Abs(want), 1e-300)
}

// events at random within the two hours before now, with long silences.
func draw(t *rapid.T, end time.Time) []event {
	var evs []event
	at := end.Add(-2 * time.Hour).Add(time.Duration(rapid.Int64Range(0, 3600_000).Draw(t, "begin")) * time.Millisecond)
	for at.Before(end) {
		evs = append(evs, event{at, float64(rapid.IntRange(0, 4096).Draw(t, "v")) / 64})
		gaps := []int64{1, 900, 10_000, 10_001, 61_000, 400_000, 3_000_000}
		at = at.Add(time.Duration(rapid.SampledFrom(gaps).Draw(t, "gap")) * time.Millisecond)
	}
	return evs
}

// On borders of windows, rate, increase and sum_over_time are what a loop over the events says, for every
// range that is whole windows, wherever the series begins, pauses and ends.
func TestDeltasEqualLoop(t *testing.T) {
	s := newServer(t)
	rapid.Check(t, func(rt *rapid.T) {
		s.store.empty()
		s.behind(rt, 0, 2*time.Hour)
		evs := draw(rt, s.now)
		s.store.add(t, "acme", events.Delta, "hits_total", map[string]string{"service": "shop"}, evs...)
		for range 5 {
			unit := rapid.SampledFrom([]time.Duration{10 * time.Second, time.Minute}).Draw(rt, "unit") // of which windows are read
			at := epoch.Add(time.Duration(rapid.IntRange(0, 720).Draw(rt, "at")) * 10 * time.Second).Truncate(unit)
			rng := max(unit, (time.Duration(rapid.IntRange(1, 500).Draw(rt, "range")) * 10 * time.Second).Truncate(unit))
			values := within(evs, at.Add(-rng), at)
			want := add(values)
			for query, want := range map[string]float64{
				fmt.Sprintf("increase(hits_total[%s])", rng):      want,
				fmt.Sprintf("rate(hits_total[%s])", rng):          want / rng.Seconds(),
				fmt.Sprintf("sum_over_time(hits_total[%s])", rng): want,
			} {
				got := s.one(query, at)
				if math.IsNaN(got) && len(values) == 0 {
					continue // before the first activity or long after the last
				}
				if !near(got, want, 1e-9) {
					rt.Fatalf("%s at %s: got %v, want %v of %d events", query, at.Format(time.TimeOnly), got, want, len(values))
				}
			}
		}
	})
}

// A range query gives at every step what an instant query gives there.
func TestRangeEqualsLoop(t *testing.T) {
	s := newServer(t)
	rapid.Check(t, func(rt *rapid.T) {
		s.store.empty()
		s.behind(rt, 0, 2*time.Hour)
		evs := draw(rt, s.now)
		s.store.add(t, "acme", events.Delta, "hits_total", nil, evs...)
		unit := rapid.SampledFrom([]time.Duration{10 * time.Second, time.Minute}).Draw(rt, "unit") // of which windows are read
		rng := time.Duration(rapid.IntRange(1, 60).Draw(rt, "range")) * unit
		step := time.Duration(rapid.SampledFrom([]int{10, 20, 30, 60, 300, 3600}).Draw(rt, "step")) * time.Second
		start := epoch.Add(time.Duration(rapid.IntRange(0, 360).Draw(rt, "start")) * 10 * time.Second).Truncate(unit)
		answered := map[int64]float64{}
		for _, one := range s.matrix(fmt.Sprintf("increase(hits_total[%s])", rng), start, s.now, step) {
			for _, v := range one.Values {
				answered[int64(v[0].(float64)*1000)] = sample{Value: v}.number(t)
			}
		}
		for at := start; !at.After(s.now); at = at.Add(step) {
			values := within(evs, at.Add(-rng), at)
			got, there := answered[at.UnixMilli()]
			if !there && len(values) == 0 {
				continue // before the first activity or long after the last
			}
			if want := add(values); !there || !near(got, want, 1e-9) {
				rt.Fatalf("increase[%s] step %s at %s: got %v (%v), want %v", rng, step, at.UTC().Format(time.TimeOnly),
					got, there, want)
			}
		}
	})
}

// The native histogram, its derived counters and its derived buckets say what the events say.
func TestObservationsEqualLoop(t *testing.T) {
	s := newServer(t)
	rapid.Check(t, func(rt *rapid.T) {
		s.store.empty()
		s.behind(rt, 105*time.Minute, 2*time.Hour)
		seed := rapid.Uint64().Draw(rt, "seed")
		rng := rand.New(rand.NewPCG(seed, 1))
		var evs []event
		for range 400 {
			evs = append(evs, event{epoch.Add(time.Duration(rng.Int64N(int64(20 * time.Minute)))), math.Exp(rng.NormFloat64())})
		}
		s.store.add(t, "acme", events.Observation, "latency_seconds", map[string]string{"service": "shop"}, evs...)
		at := epoch.Add(time.Duration(60+rng.IntN(60)) * 10 * time.Second).Truncate(oneOf(rng, 10*time.Second, time.Minute))
		values := within(evs, at.Add(-5*time.Minute), at)
		slices.Sort(values)

		check := func(query string, want, tolerance float64) {
			if got := s.one(query, at); !near(got, want, tolerance) {
				rt.Fatalf("%s: got %v, want %v of %d events", query, got, want, len(values))
			}
		}
		check(`increase(latency_seconds_count[5m])`, float64(len(values)), 1e-9)
		check(`increase(latency_seconds_sum[5m])`, add(values), 1e-9)
		check(`histogram_count(increase(latency_seconds[5m]))`, float64(len(values)), 1e-9)
		check(`histogram_sum(rate(latency_seconds[5m]))`, add(values)/300, 1e-9)
		check(`histogram_count(sum_over_time(latency_seconds[5m]))`, float64(len(values)), 1e-9)
		check(`increase(latency_seconds_bucket{le="+Inf"}[5m])`, float64(len(values)), 1e-9)
		for _, q := range []float64{0.01, 0.5, 0.9, 0.99} {
			// Prometheus takes rank q·n, between the two order statistics around it, to one bucket.
			rank := q * float64(len(values))
			low, high := values[max(0, int(math.Ceil(rank))-1)], values[min(len(values)-1, int(rank))]
			got := s.one(fmt.Sprintf(`histogram_quantile(%v, rate(latency_seconds[5m]))`, q), at)
			if got < low/sketches.Gamma || got > high*sketches.Gamma {
				rt.Fatalf("quantile %v: got %v, want within a bucket of %v to %v", q, got, low, high)
			}
		}
		for _, le := range []float64{0.1, 0.5, 1, 2.5} {
			got := s.one(fmt.Sprintf(`increase(latency_seconds_bucket{le="%v"}[5m])`, le), at)
			var low, high float64
			for _, v := range values {
				if v <= le/sketches.Gamma {
					low++
				}
				if v <= le*sketches.Gamma {
					high++
				}
			}
			if got < low-1e-9 || got > high+1e-9 {
				rt.Fatalf("le %v: got %v, want %v to %v", le, got, low, high)
			}
		}
	})
}

// A query that reaches across tiers adds up: the wide windows, and the narrow ones at the edge that no wide
// one has closed yet.
func TestTiersAddUp(t *testing.T) {
	s := newServer(t, func(s *server) { s.now = epoch.Add(23*time.Minute + 40*time.Second) })
	var evs []event
	total := 0.0
	for at := epoch.Add(-40 * 24 * time.Hour); at.Before(s.now); at = at.Add(7 * time.Minute) {
		evs = append(evs, event{at, 1})
	}
	s.store.add(t, "acme", events.Delta, "hits_total", nil, evs...)
	for _, rng := range []time.Duration{time.Hour, 24 * time.Hour, 4 * 24 * time.Hour, 32 * 24 * time.Hour} {
		got := s.one(fmt.Sprintf("increase(hits_total[%s])", rng), s.now)
		total = float64(len(within(evs, s.now.Add(-rng), s.now)))
		// The only uncertainty is inside the window that the range's start cuts.
		if math.Abs(got-total) > 9 || rng <= 24*time.Hour && got != total {
			t.Errorf("increase[%s]: got %v, want %v", rng, got, total)
		}
	}
	// On the hour, nothing is cut.
	for _, rng := range []time.Duration{4 * 24 * time.Hour, 35 * 24 * time.Hour} {
		want := float64(len(within(evs, epoch.Add(-rng), epoch)))
		if got := s.one(fmt.Sprintf("increase(hits_total[%s])", rng), epoch); got != want {
			t.Errorf("increase[%s] on the hour: got %v, want %v", rng, got, want)
		}
	}
}
