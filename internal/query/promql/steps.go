package promql

import (
	"slices"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/schema"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/util/annotations"
)

// hints are those that the engine would give for the selector of the part.
func (s *stepped) hints() *storage.SelectHints {
	h := &storage.SelectHints{Start: s.use.from + 1, End: s.use.to, Step: s.at.step, Range: s.use.rng}
	if s.call == nil {
		h.Start -= s.lookback
	} else {
		h.Func = s.call.Func.Name
	}
	return h
}

// steps is how many evaluations there are.
func (e evaluations) steps() int { return int((e.end-e.start)/e.step) + 1 }

// stepper makes of each series that is read its values at the evaluations. Not safe for concurrent use.
type stepper struct {
	part      *stepped
	function  promql.FunctionCall // nil for an instant selector
	reducer   *reducer            // nil without an aggregation that is done here
	quantiles *quantiles          // nil where values are floats
	budget    *budget
	list      []storage.Series
	warnings  annotations.Annotations

	iterator chunkenc.Iterator
	points   []promql.FPoint // of the series at hand
	starts   []int64         // its start timestamps
	values   []float64
	matrix   promql.Matrix
	helper   promql.EvalNodeHelper
}

func newStepper(part *stepped, budget *budget) *stepper {
	s := &stepper{
		part: part, budget: budget, matrix: make(promql.Matrix, 1),
		helper: promql.EvalNodeHelper{Out: make(promql.Vector, 0, 1)},
	}
	if part.call != nil {
		s.function = promql.FunctionCalls[part.call.Func.Name]
	}
	switch {
	case part.quantile != nil:
		s.quantiles = newQuantiles(part)
	case part.aggregate != nil:
		s.reducer = newReducer(part.aggregate, part.at.steps(), budget)
	}
	return s
}

// add evaluates one series.
func (s *stepper) add(series storage.Series) error {
	if s.quantiles != nil {
		s.quantiles.begin(series.(*deltas))
	}
	s.read(series)
	name := series.Labels()
	any := false
	s.values = s.values[:0]
	evaluate := s.over
	if s.function == nil {
		evaluate = s.instant
	} else {
		s.matrix[0].Metric = name
	}
	evaluate(func(v float64) {
		any = any || !value.IsStaleNaN(v)
		s.values = append(s.values, v)
	})
	if !any {
		return nil
	}
	return s.give(s.named(name), s.values)
}

func (s *stepper) read(series storage.Series) {
	s.points, s.starts = s.points[:0], s.starts[:0]
	s.iterator = series.Iterator(s.iterator)
	for s.iterator.Next() != chunkenc.ValNone {
		t, f := s.iterator.At()
		if s.function != nil && value.IsStaleNaN(f) {
			continue
		}
		if s.quantiles != nil {
			s.quantiles.sample(s.iterator.(*windowIterator))
			f = 0
		}
		s.points, s.starts = append(s.points, promql.FPoint{T: t, F: f}), append(s.starts, s.iterator.AtST())
	}
}

// over applies the function to the range of each step.
func (s *stepper) over(yield func(float64)) {
	low, high := 0, 0
	starts := &promql.StartTimestamps{}
	s.helper.StartTimestamps = starts
	offset := s.part.selector.OriginalOffset.Milliseconds()
	for t := s.part.at.start; t <= s.part.at.end; t += s.part.at.step {
		for high < len(s.points) && s.points[high].T <= t-offset {
			high++
		}
		for low < high && s.points[low].T <= t-offset-s.part.use.rng {
			low++
		}
		if low == high {
			yield(absentValue)
			continue
		}
		s.matrix[0].Floats, starts.Floats = s.points[low:high], s.starts[low:high]
		s.helper.Ts = t
		if s.quantiles != nil {
			s.points[low].F = 1 // the function of one event is what it multiplies by
		}
		out, notes := s.function(s.part.numbers, s.matrix, s.part.call.Args, &s.helper)
		if len(notes) > 0 {
			s.warnings.Merge(notes)
		}
		if s.helper.Out = out[:0]; len(out) == 0 {
			yield(absentValue)
			continue
		}
		v := out[0].F
		if s.quantiles != nil {
			s.points[low].F = 0
			v, notes = s.quantiles.over(low, high, v)
			s.warnings.Merge(notes)
		}
		yield(v)
	}
}

// instant takes the last sample of each step that is still valid.
func (s *stepper) instant(yield func(float64)) {
	high := 0
	offset := s.part.selector.OriginalOffset.Milliseconds()
	for t := s.part.at.start; t <= s.part.at.end; t += s.part.at.step {
		for high < len(s.points) && s.points[high].T <= t-offset {
			high++
		}
		if high == 0 || s.points[high-1].T <= t-offset-s.part.lookback {
			yield(absentValue)
		} else {
			yield(s.points[high-1].F)
		}
	}
}

// named are the labels that the part leaves of a series that has a value, and notes what upstream says of its name.
func (s *stepper) named(of labels.Labels) labels.Labels {
	switch {
	case s.part.call == nil:
		return of
	case s.quantiles != nil:
		of = s.quantiles.labels(of)
		return of.DropReserved(schema.IsMetadataLabel)
	}
	switch s.part.call.Func.Name {
	case "last_over_time":
		return of
	case "rate", "increase":
		if name := of.Get(model.MetricNameLabel); name != "" && !namedAsCounter(name) {
			s.warnings.Add(annotations.NewPossibleNonCounterInfo(name, s.part.call.Args[0].PositionRange()))
		}
	}
	return of.DropReserved(schema.IsMetadataLabel)
}

func namedAsCounter(name string) bool {
	return slices.ContainsFunc([]string{"_total", "_sum", "_count", "_bucket"},
		func(end string) bool { return strings.HasSuffix(name, end) })
}

// give takes the values of a series; they are not kept.
func (s *stepper) give(of labels.Labels, values []float64) error {
	if s.reducer != nil {
		return s.reducer.add(of, values)
	}
	s.list = append(s.list, &steps{of, s.part.at, slices.Clone(values)})
	return s.budget.take(len(values))
}

// results are the series that the engine gets.
func (s *stepper) results() []storage.Series {
	if s.reducer != nil {
		s.reducer.results(func(of labels.Labels, values []float64) { s.list = append(s.list, &steps{of, s.part.at, values}) })
	}
	return s.list
}

// steps is a series with a sample at each evaluation: a stale marker where there is no value, so that no other is taken
// for it.
type steps struct {
	labels labels.Labels
	at     evaluations
	values []float64
}

func (s *steps) Labels() labels.Labels { return s.labels }

func (s *steps) Iterator(reuse chunkenc.Iterator) chunkenc.Iterator {
	it, ok := reuse.(*stepIterator)
	if !ok {
		it = &stepIterator{}
	}
	*it = stepIterator{series: s, at: -1}
	return it
}

type stepIterator struct {
	series *steps
	at     int
}

func (it *stepIterator) kind() chunkenc.ValueType {
	if it.at < len(it.series.values) {
		return chunkenc.ValFloat
	}
	return chunkenc.ValNone
}

func (it *stepIterator) Next() chunkenc.ValueType {
	it.at = min(it.at+1, len(it.series.values))
	return it.kind()
}

func (it *stepIterator) Seek(t millis) chunkenc.ValueType {
	of := it.series.at
	it.at = max(it.at, 0, int((ceil(max(0, t-of.start), of.step))/of.step))
	return it.kind()
}

func (it *stepIterator) At() (int64, float64) { return it.AtT(), it.series.values[it.at] }
func (it *stepIterator) AtT() int64           { return it.series.at.start + int64(it.at)*it.series.at.step }
func (it *stepIterator) AtST() int64          { return 0 }
func (it *stepIterator) Err() error           { return nil }

func (it *stepIterator) AtHistogram(*histogram.Histogram) (int64, *histogram.Histogram) {
	panic("BUG: steps are floats")
}

func (it *stepIterator) AtFloatHistogram(*histogram.FloatHistogram) (int64, *histogram.FloatHistogram) {
	panic("BUG: steps are floats")
}
