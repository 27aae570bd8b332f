package promql

import (
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// levels is a gauge or cumulative series: samples at the times they were taken, the last of each pane,
// with ordinary Prometheus semantics. Where the series paused for longer than a sample stays valid, the samples
// hold a stale marker.
type levels struct {
	labels labels.Labels
	times  []int64
	values []float64
	hists  []*histogram.FloatHistogram // of a native histogram series: as long as times; a nil one is a float sample
}

func (s *levels) Labels() labels.Labels { return s.labels }

func (s *levels) Iterator(reuse chunkenc.Iterator) chunkenc.Iterator {
	it, ok := reuse.(*levelIterator)
	if !ok {
		it = &levelIterator{}
	}
	*it = levelIterator{series: s, at: -1}
	return it
}

// add appends a sample; times ascend. A pause longer than valid puts a stale marker before it.
func (s *levels) add(t int64, f float64, h *histogram.FloatHistogram, valid int64) {
	s.mark(t, valid)
	s.append(t, f, h)
}

// mark ends the series valid after its last sample when that is before t.
func (s *levels) mark(t, valid int64) {
	if n := len(s.times); n > 0 && s.times[n-1]+valid < t {
		s.end(s.times[n-1] + valid)
	}
}

// end puts a stale marker.
func (s *levels) end(t int64) {
	s.append(t, math.Float64frombits(value.StaleNaN), staleHistogram)
}

func (s *levels) append(t int64, f float64, h *histogram.FloatHistogram) {
	s.times, s.values = append(s.times, t), append(s.values, f)
	if s.hists != nil {
		s.hists = append(s.hists, h)
	}
}

type levelIterator struct {
	series *levels
	at     int
}

func (it *levelIterator) kind() chunkenc.ValueType {
	switch {
	case it.at >= len(it.series.times):
		return chunkenc.ValNone
	case it.series.hists != nil && it.series.hists[it.at] != nil:
		return chunkenc.ValFloatHistogram
	}
	return chunkenc.ValFloat
}

func (it *levelIterator) Next() chunkenc.ValueType {
	if it.at < len(it.series.times) {
		it.at++
	}
	return it.kind()
}

func (it *levelIterator) Seek(t millis) chunkenc.ValueType {
	it.at = max(it.at, 0)
	times := it.series.times
	for low, high := it.at, len(times); ; {
		if low == high {
			it.at = low
			return it.kind()
		}
		if middle := int(uint(low+high) >> 1); times[middle] < t {
			low = middle + 1
		} else {
			high = middle
		}
	}
}

func (it *levelIterator) At() (int64, float64) {
	return it.series.times[it.at], it.series.values[it.at]
}
func (it *levelIterator) AtT() int64  { return it.series.times[it.at] }
func (it *levelIterator) AtST() int64 { return 0 }
func (it *levelIterator) Err() error  { return nil }

func (it *levelIterator) AtHistogram(*histogram.Histogram) (int64, *histogram.Histogram) {
	panic("BUG: levels are float histograms")
}

func (it *levelIterator) AtFloatHistogram(into *histogram.FloatHistogram) (int64, *histogram.FloatHistogram) {
	return it.series.times[it.at], copyHistogram(it.series.hists[it.at], into)
}
