package promql

import (
	"math"
	"slices"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/util/kahansum"
)

// absentValue stands for no value at a step, as it does in samples.
var absentValue = math.Float64frombits(value.StaleNaN)

// reduction adds the next value to what is known of a group at one step, and finish makes the answer of it. They are
// upstream's aggregations, of those whose answer does not depend on the order of series but in the last digit.
type reduction struct {
	add    func(a *accumulator, v float64)
	finish func(a *accumulator) float64
}

// accumulator is what is known of a group at one step. The first value is in it before anything is added.
type accumulator struct {
	value, rest float64
	count       float64 // 0: no value yet
	mean        bool    // value is the mean of count values, not their sum
}

func keep(a *accumulator) float64 { return a.value }

func addUp(a *accumulator, v float64) { a.value, a.rest = kahansum.Inc(v, a.value, a.rest) }

var reductions = map[parser.ItemType]*reduction{
	parser.SUM: {addUp, func(a *accumulator) float64 { return a.value + a.rest }},
	parser.AVG: {addMean, func(a *accumulator) float64 {
		if a.mean {
			return a.value + a.rest
		}
		return a.value/a.count + a.rest/a.count
	}},
	parser.COUNT: {func(*accumulator, float64) {}, func(a *accumulator) float64 { return a.count }},
	parser.GROUP: {func(*accumulator, float64) {}, func(*accumulator) float64 { return 1 }},
	parser.MAX: {func(a *accumulator, v float64) {
		if a.value < v || math.IsNaN(a.value) {
			a.value = v
		}
	}, keep},
	parser.MIN: {func(a *accumulator, v float64) {
		if a.value > v || math.IsNaN(a.value) {
			a.value = v
		}
	}, keep},
}

// addMean adds up as long as the sum is finite, and goes on with means then.
func addMean(a *accumulator, v float64) {
	if !a.mean {
		sum, rest := kahansum.Inc(v, a.value, a.rest)
		if !math.IsInf(sum, 0) {
			a.value, a.rest = sum, rest
			return
		}
		a.mean = true
		a.value /= a.count - 1
		a.rest /= a.count - 1
	}
	q := (a.count - 1) / a.count
	a.value, a.rest = kahansum.Inc(v/a.count, q*a.value, q*a.rest)
}

// reducer aggregates series of steps into groups of them.
type reducer struct {
	how    *reduction
	of     *parser.AggregateExpr
	steps  int
	budget *budget
	groups map[string]*reduced
	lb     *labels.Builder
	key    []byte
}

type reduced struct {
	labels labels.Labels
	steps  []accumulator
}

func newReducer(of *parser.AggregateExpr, steps int, budget *budget) *reducer {
	return &reducer{
		how: reductions[of.Op], of: of, steps: steps, budget: budget, groups: make(map[string]*reduced),
		lb: labels.NewBuilder(labels.EmptyLabels()),
	}
}

func (r *reducer) add(of labels.Labels, values []float64) error {
	g, err := r.group(of)
	if err != nil {
		return err
	}
	for i, v := range values {
		if value.IsStaleNaN(v) {
			continue
		}
		a := &g.steps[i]
		if a.count++; a.count == 1 {
			a.value = v
		} else {
			r.how.add(a, v)
		}
	}
	return nil
}

func (r *reducer) group(of labels.Labels) (*reduced, error) {
	keepLabels(r.lb, of, r.of)
	kept := r.lb.Labels()
	r.key = kept.Bytes(r.key[:0])
	g := r.groups[string(r.key)]
	if g == nil {
		if err := r.budget.take(2 * r.steps); err != nil { // an accumulator is as large as two samples
			return nil, err
		}
		g = &reduced{kept, make([]accumulator, r.steps)}
		r.groups[string(r.key)] = g
	}
	return g, nil
}

// keepLabels leaves in lb the labels of a series by which it is aggregated.
func keepLabels(lb *labels.Builder, of labels.Labels, by *parser.AggregateExpr) {
	lb.Reset(of)
	if by.Without {
		lb.Del(by.Grouping...)
		lb.Del(model.MetricNameLabel)
	} else {
		lb.Keep(by.Grouping...)
	}
}

// results calls yield with each group's values.
func (r *reducer) results(yield func(labels.Labels, []float64)) {
	for _, g := range r.groups {
		values := slices.Repeat([]float64{absentValue}, r.steps)
		for i := range g.steps {
			if a := &g.steps[i]; a.count > 0 {
				values[i] = r.how.finish(a)
			}
		}
		yield(g.labels, values)
	}
}
