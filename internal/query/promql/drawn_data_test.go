package promql_test

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/vigie-io/vigie/pkg/events"
)

// fact is a sample as the documents say that Prometheus would hold it.
type fact struct {
	st, t int64 // Unix ms
	v     float64
	h     *histogram.FloatHistogram
}

var staleFact = math.Float64frombits(value.StaleNaN)

// facts are samples by series.
type facts map[string]factSeries

type factSeries struct {
	labels labels.Labels
	list   []fact
}

func (f facts) add(name string, ls map[string]string, list []fact) {
	all := maps.Clone(ls)
	all["__name__"] = name
	of := labels.FromMap(all)
	f[of.String()] = factSeries{of, list}
}

// drawnBounds are those of derived buckets: few, for the sake of speed.
var drawnBounds = []float64{0.1, 1, 5, 100}

// world says how wide windows are and how long what is kept of them is valid.
type world struct {
	width time.Duration
	now   time.Time
	begin time.Time // of all events
	// horizon is how long after its last event a counter reads as zero.
	horizon time.Duration
}

// later is when queries are asked: so much after the events that no window of any tier is young, also where a
// selector looks ahead.
func (w *world) later() time.Time { return w.now.Add(1000 * w.width) }

func (w *world) lookback() time.Duration { return max(5*time.Minute, 2*w.width) }

func oneOf[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

// draw draws events between begin and now, with silences.
func (w *world) draw(r *rand.Rand, value func() float64) []event {
	var evs []event
	unit := w.width.Milliseconds() / 10 // of a tenth of a window
	at := w.begin.Add(time.Duration(r.Int64N(w.now.Sub(w.begin).Milliseconds()/2)) * time.Millisecond)
	usual := oneOf[int64](r, 3, 10, 15, 30, 61)
	for at.Before(w.now) {
		evs = append(evs, event{at, value()})
		gap := oneOf(r, 0, usual, usual, usual, usual, usual, usual, usual, usual, usual, 1, 9, 10, 61, 299, 300, 301, 400,
			3000, 3700)*unit + oneOf[int64](r, 0, 0, 1)
		at = at.Add(time.Duration(max(1, gap)) * time.Millisecond)
	}
	return evs
}

// windows makes of a counter's events what docs/promql.md says: a sample at the end of each window, zero from the
// first until the horizon after the minute of the last, then stale.
func (w *world) windows(evs []event, sample func(values []float64) (float64, *histogram.FloatHistogram)) (list []fact) {
	width := w.width.Milliseconds()
	values := make(map[int64][]float64)
	for _, e := range evs {
		start := e.time.UnixMilli() / width * width
		values[start] = append(values[start], e.value)
	}
	if len(values) == 0 {
		return nil
	}
	horizon := w.horizon.Milliseconds()
	end, ended := int64(math.MinInt64), true
	for start := slices.Min(slices.Collect(maps.Keys(values))); start+width <= w.now.UnixMilli(); start += width {
		if len(values[start]) > 0 {
			end, ended = (start+width+59_999)/60_000*60_000, false
		}
		if start < end+horizon {
			f := fact{st: start + 1, t: start + width}
			f.v, f.h = sample(values[start])
			list = append(list, f)
		} else if !ended {
			ended = true
			list = append(list, fact{t: start + width, v: staleFact})
		}
	}
	return list
}

// levels makes of samples the last of each window; −Inf ends the series.
func (w *world) levels(evs []event, hist func(i int) *histogram.FloatHistogram) (list []fact) {
	for i, e := range evs {
		f := fact{t: e.time.UnixMilli(), v: e.value}
		if math.IsInf(e.value, -1) {
			f.v = staleFact
		} else if hist != nil {
			f.h = hist(i)
		}
		if n := len(list); n > 0 && list[n-1].t/w.width.Milliseconds() == f.t/w.width.Milliseconds() {
			list = list[:n-1]
		}
		list = append(list, f)
	}
	return list
}

func total(values []float64) (float64, *histogram.FloatHistogram) { return add(values), nil }

func number(values []float64) (float64, *histogram.FloatHistogram) {
	return float64(len(values)), nil
}

func atMost(bound float64) func([]float64) (float64, *histogram.FloatHistogram) {
	return func(values []float64) (n float64, _ *histogram.FloatHistogram) {
		for _, v := range values {
			if v <= bound {
				n++
			}
		}
		return n, nil
	}
}

// native is the native histogram of schema 6 of some values, of which none is a bound.
func native(values []float64) (float64, *histogram.FloatHistogram) {
	h := &histogram.FloatHistogram{Schema: 6, ZeroThreshold: math.SmallestNonzeroFloat64,
		CounterResetHint: histogram.CounterReset, Count: float64(len(values)), Sum: add(values)}
	positive, negative := make(map[int32]float64), make(map[int32]float64)
	for _, v := range values {
		switch {
		case v == 0:
			h.ZeroCount++
		case v > 0:
			positive[int32(math.Ceil(64*math.Log2(v)))]++
		default:
			negative[int32(math.Ceil(64*math.Log2(-v)))]++
		}
	}
	h.PositiveSpans, h.PositiveBuckets = spansOf(positive)
	h.NegativeSpans, h.NegativeBuckets = spansOf(negative)
	return 0, h
}

func spansOf(counts map[int32]float64) (spans []histogram.Span, buckets []float64) {
	next := int32(0)
	for _, i := range slices.Sorted(maps.Keys(counts)) {
		spans, buckets = append(spans, histogram.Span{Offset: i - next, Length: 1}), append(buckets, counts[i])
		next = i + 1
	}
	return spans, buckets
}

// histograms are samples of native histograms, which the store knows by their number.
type histograms struct{ list []*histogram.FloatHistogram }

func (h *histograms) write(one *histogram.FloatHistogram) string {
	h.list = append(h.list, one)
	return strconv.Itoa(len(h.list) - 1)
}

// read gives each reader one of his own.
func (h *histograms) read(number string) (*events.Histogram, error) {
	i, err := strconv.Atoi(number)
	if err != nil {
		return nil, err
	}
	return ownHistogram(h.list[i]), nil
}

// counting draws the samples of a native histogram that counts up, or of one that is a gauge.
func counting(r *rand.Rand, evs []event, gauge, custom bool) []*histogram.FloatHistogram {
	now := &histogram.FloatHistogram{Schema: 2, ZeroThreshold: 0.001,
		PositiveSpans: []histogram.Span{{Offset: -2, Length: 4}, {Offset: 1, Length: 2}}, PositiveBuckets: make([]float64, 6)}
	if custom {
		now = &histogram.FloatHistogram{Schema: histogram.CustomBucketsSchema, CustomValues: []float64{0.1, 1, 5},
			PositiveSpans: []histogram.Span{{Length: 4}}, PositiveBuckets: make([]float64, 4)}
	}
	if gauge {
		now.CounterResetHint = histogram.GaugeType
	}
	var list []*histogram.FloatHistogram
	for range evs {
		if r.IntN(20) == 0 || gauge {
			clear(now.PositiveBuckets)
			now.Count, now.Sum, now.ZeroCount = 0, 0, 0
		}
		more := float64(r.IntN(10))
		now.PositiveBuckets[r.IntN(len(now.PositiveBuckets))] += more
		now.Count, now.Sum = now.Count+more, now.Sum+more*0.75
		list = append(list, now.Copy())
	}
	return list
}

// randomData fills a store with series of every kind, and returns what Prometheus would hold of them.
func (w *world) randomData(t testing.TB, r *rand.Rand, s *memStore, decoded *histograms) facts {
	all := facts{}
	dyadic := func() float64 { return float64(1+r.IntN(4096)) / 64 }
	there := func() bool { return r.IntN(4) > 0 }
	for _, ls := range []map[string]string{{}, {"a": "1", "service": "x"}, {"a": "2", "service": "x", "le": "own"},
		{"a": "1", "service": "y", "le": "own"}, {"a": "2"}} {
		if there() {
			evs := w.draw(r, dyadic)
			s.add(t, "acme", events.Delta, "hits_total", ls, evs...)
			all.add("hits_total", ls, w.windows(evs, total))
		}
		if there() {
			values := []float64{0.03, 0.7, 1.4, 3, 17, 42.5, 170, 0, -2.2}
			evs := w.draw(r, func() float64 { return oneOf(r, values...) })
			s.add(t, "acme", events.Observation, "lat_seconds", ls, evs...)
			all.add("lat_seconds", ls, w.windows(evs, native))
			all.add("lat_seconds_count", ls, w.windows(evs, number))
			all.add("lat_seconds_sum", ls, w.windows(evs, total))
			for _, bound := range append(slices.Clone(drawnBounds), math.Inf(1)) {
				of := maps.Clone(ls)
				of["le"] = strconv.FormatFloat(bound, 'f', -1, 64)
				all.add("lat_seconds_bucket", of, w.windows(evs, atMost(bound)))
			}
		}
		if there() {
			evs := w.draw(r, func() float64 {
				if r.IntN(30) == 0 {
					return math.Inf(-1)
				}
				return dyadic() - 20
			})
			s.add(t, "acme", events.Gauge, "temp", ls, evs...)
			all.add("temp", ls, w.levels(evs, nil))
		}
		if there() {
			sum := 0.0
			evs := w.draw(r, func() float64 {
				switch r.IntN(30) {
				case 0:
					sum = 0
				case 1:
					return math.Inf(-1)
				}
				sum += dyadic()
				return sum
			})
			s.add(t, "acme", events.Cumulative, "bytes_total", ls, evs...)
			all.add("bytes_total", ls, w.levels(evs, nil))
		}
		if there() { // a gauge that became a total
			at, sum := w.begin.Add(w.now.Sub(w.begin)/2), 0.0
			early := slices.DeleteFunc(w.draw(r, dyadic), func(e event) bool { return e.time.After(at) })
			late := slices.DeleteFunc(w.draw(r, func() float64 { sum += dyadic(); return sum }),
				func(e event) bool { return e.time.Before(at.Add(-10 * w.width)) })
			s.add(t, "acme", events.Gauge, "mixed", ls, early...)
			s.add(t, "acme", events.Cumulative, "mixed", ls, late...)
			both := slices.SortedStableFunc(slices.Values(append(w.levels(early, nil), w.levels(late, nil)...)),
				func(a, b fact) int { return cmp.Compare(a.t, b.t) })
			all.add("mixed", ls, slices.CompactFunc(both, func(a, b fact) bool { return a.t == b.t }))
		}
		for _, name := range []string{"nh", "gh", "nhcb"} {
			if !there() || len(ls) == 3 {
				continue
			}
			evs := w.draw(r, func() float64 { return 0 })
			hists := counting(r, evs, name == "gh", name == "nhcb")
			for i := range evs {
				if r.IntN(30) == 0 {
					evs[i].value = math.Inf(-1)
				}
			}
			kind := events.Cumulative
			if name == "gh" {
				kind = events.Gauge
			}
			one := s.add(t, "acme", kind, name, ls, evs...)
			one.Native = true
			for _, h := range hists {
				one.hists = append(one.hists, decoded.write(h))
			}
			all.add(name, ls, w.levels(evs, func(i int) *histogram.FloatHistogram { return hists[i] }))
		}
	}
	return all
}

// prometheus holds facts in Prometheus' own storage.
func (f facts) prometheus(t *testing.T) (db *tsdb.DB, done func()) {
	options := tsdb.DefaultOptions()
	options.MinBlockDuration, options.MaxBlockDuration = (1000 * time.Hour).Milliseconds(), (1000 * time.Hour).Milliseconds()
	options.WALSegmentSize, options.RetentionDuration = -1, 0
	options.EnableSTStorage, options.FloatChunkEncoding, options.EnableHistogramSTEncoding = true, chunkenc.EncXOR2, true
	db, err := tsdb.Open(t.TempDir(), nil, nil, options, nil)
	if err != nil {
		t.Fatal(err)
	}
	appender := db.AppenderV2(t.Context())
	for _, key := range slices.Sorted(maps.Keys(f)) {
		one := f[key]
		for _, s := range one.list {
			if _, err := appender.Append(0, one.labels, s.st, s.t, s.v, nil, s.h, storage.AOptions{}); err != nil {
				t.Fatal(fmt.Errorf("append %s at %d: %w", one.labels, s.t, err))
			}
		}
	}
	if err := appender.Commit(); err != nil {
		t.Fatal(err)
	}
	return db, func() { _ = db.Close() }
}
