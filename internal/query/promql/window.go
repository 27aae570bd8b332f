package promql

import (
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// never is the time of what did not happen.
const never = math.MinInt64

// segment is a stretch of windows of one tier, [from, to), both multiples of the width. Unix ms.
type segment struct {
	tier     Tier
	from, to int64
}

// grid is the windows that a selector sees: adjoining segments, ascending. It is shared by the series of a Select.
type grid struct {
	segments []segment
	fill     int64 // how long after its last active window a series still reads as zero, ms
	// smoothed: the engine interpolates inside windows. It then takes the start timestamp for the time of a zero
	// of floats, so that it has to be exact; for histograms it knows only samples, so that one has to be there.
	smoothed bool
}

// st is the start timestamp of the window that starts at start.
func (g *grid) st(start int64) int64 {
	if g.smoothed {
		return start
	}
	return start + 1
}

func (g *grid) from() int64 { return g.segments[0].from }
func (g *grid) to() int64   { return g.segments[len(g.segments)-1].to }

// width returns the width of the window that starts at start.
func (g *grid) width(start int64) int64 {
	for _, s := range g.segments {
		if start < s.to {
			return s.tier.millis()
		}
	}
	return g.segments[len(g.segments)-1].tier.millis()
}

// activeUntil is the end of the minute in which the window that starts at start ends: what is known of windows before
// the grid is known by the minute, and a series has to end at one time, however it is asked for.
func (g *grid) activeUntil(start int64) int64 { return ceil(start+g.width(start), Tier1m.millis()) }

// first returns the start of the first window that ends at or after t.
func (g *grid) first(t int64) int64 {
	for _, s := range g.segments {
		if t <= s.to {
			return max(s.from, ceil(t, s.tier.millis())-s.tier.millis())
		}
	}
	return g.to()
}

// deltas is a delta series: what happened in each window, on its own. The sample of a window has the time of
// the window's end, so that a range (t−r, t] holds exactly the windows inside it, and a start timestamp one
// millisecond after the window's start, because the engine takes a start timestamp at the very start of a range
// as outside of it. Windows without events read as zero from the first activity until fill after the last, then
// the series is marked stale until it is active again.
type deltas struct {
	labels labels.Labels
	grid   *grid
	prior  int64 // until when it was active before the grid, or never
	starts []int64
	values []float64                   // of a float series, as long as starts
	hists  []*histogram.FloatHistogram // of a histogram series, as long as starts; not changed after
	counts *bucketCounts               // of a series whose values are the sums of sketches
}

func (s *deltas) Labels() labels.Labels { return s.labels }

func (s *deltas) Iterator(reuse chunkenc.Iterator) chunkenc.Iterator {
	it, ok := reuse.(*windowIterator)
	if !ok {
		it = &windowIterator{}
	}
	*it = windowIterator{series: s, next: s.grid.from(), end: s.prior}
	it.marked = !it.alive()
	return it
}

// staleHistogram ends a histogram series.
var staleHistogram = &histogram.FloatHistogram{Sum: math.Float64frombits(value.StaleNaN)}

type windowIterator struct {
	series *deltas
	next   int64 // start of the window that the following Next looks at
	at     int   // index in starts of the first active window ≥ next
	end    int64 // until when it was active before next, or never
	marked bool  // the stale marker after end has been given

	t, st  int64
	f      float64
	h      *histogram.FloatHistogram
	kind   chunkenc.ValueType
	window int // index in starts of what was given; -1 for zeros and markers
}

// alive tells whether the window at next reads as zero when nothing happened in it.
func (it *windowIterator) alive() bool {
	return it.end != never && it.next < it.end+it.series.grid.fill
}

func (it *windowIterator) Next() chunkenc.ValueType {
	s := it.series
	for it.next < s.grid.to() {
		width := s.grid.width(it.next)
		switch {
		case it.at < len(s.starts) && s.starts[it.at] == it.next:
			it.active(width)
			return it.kind
		case it.alive():
			return it.give(s.grid.st(it.next), width, 0, empty)
		case !it.marked:
			it.marked = true
			return it.give(0, width, math.Float64frombits(value.StaleNaN), staleHistogram)
		case it.at < len(s.starts) && s.grid.smoothed && s.hists != nil && it.next < s.starts[it.at]-width:
			it.next = s.starts[it.at] - width
		case it.at < len(s.starts) && s.grid.smoothed && s.hists != nil && it.next == s.starts[it.at]-width:
			return it.give(s.grid.st(it.next), width, 0, empty)
		case it.at < len(s.starts):
			it.next = s.starts[it.at]
		default:
			it.next = s.grid.to()
		}
	}
	it.kind = chunkenc.ValNone
	return it.kind
}

// active gives the window of starts[at].
func (it *windowIterator) active(width int64) {
	var (
		f float64
		h *histogram.FloatHistogram
	)
	if it.series.hists != nil {
		h = it.series.hists[it.at]
	} else {
		f = it.series.values[it.at]
	}
	window := it.at
	it.at++
	it.marked = false
	it.end = it.series.grid.activeUntil(it.next)
	it.give(it.series.grid.st(it.next), width, f, h)
	it.window = window
}

func (it *windowIterator) give(st, width int64, f float64, h *histogram.FloatHistogram) chunkenc.ValueType {
	it.next += width
	it.window = -1
	it.t, it.st, it.f, it.h, it.kind = it.next, st, f, h, chunkenc.ValFloat
	if it.series.hists != nil {
		it.kind = chunkenc.ValFloatHistogram
	}
	return it.kind
}

// Seek skips to the windows that end at or after t without visiting those before.
func (it *windowIterator) Seek(t millis) chunkenc.ValueType {
	if it.kind != chunkenc.ValNone && it.t >= t {
		return it.kind
	}
	s := it.series
	if to := s.grid.first(t); to > it.next {
		at, _ := slices.BinarySearch(s.starts[it.at:], to)
		if at > 0 {
			it.at += at
			it.end = s.grid.activeUntil(s.starts[it.at-1])
		}
		it.next = to
		// A marker that lay before t is not given late: the engine asks for all of its lookback.
		it.marked = !it.alive()
	}
	for it.Next() != chunkenc.ValNone && it.t < t {
	}
	return it.kind
}

func (it *windowIterator) At() (int64, float64) { return it.t, it.f }
func (it *windowIterator) AtT() int64           { return it.t }
func (it *windowIterator) AtST() int64          { return it.st }
func (it *windowIterator) Err() error           { return nil }

func (it *windowIterator) AtHistogram(*histogram.Histogram) (int64, *histogram.Histogram) {
	panic("BUG: windows are float histograms")
}

func (it *windowIterator) AtFloatHistogram(into *histogram.FloatHistogram) (int64, *histogram.FloatHistogram) {
	return it.t, copyHistogram(it.h, into)
}

// copyHistogram keeps the series' own histogram apart from what the engine computes with.
func copyHistogram(h, into *histogram.FloatHistogram) *histogram.FloatHistogram {
	if into == nil {
		return h.Copy()
	}
	h.CopyTo(into)
	return into
}
