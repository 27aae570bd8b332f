package rules

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/vigie-io/vigie/pkg/sketches"
)

// Totals are what a key got in a window of event time. The sketch is nil where no condition asks for quantiles.
type Totals struct {
	Count, Hits   uint64  // events, and those of them that met the rule's second condition
	Sum, Min, Max float64 // of their values; Min and Max mean nothing when Count is 0
	Last          float64 // value of the newest
	Sketch        *sketches.Sketch
}

// Measures are the numbers that the conditions of alerts are about: of the window, and by how much they changed since
// the window before it. They are the Fields of such a condition.
//
//	count, rate (events a second), sum, mean, min, max, last, share (Hits of Count), p50 p75 p90 p95 p99 p999
//	change.count, …: growth since the window before, 0.5 is half as much again
//
// What is not there, such as the mean of nothing, is no number.
type Measures struct {
	Now, Before Totals
	Seconds     float64 // length of the window
}

// quantiles are the names of quantiles in conditions.
var quantiles = map[string]float64{"p50": 0.5, "p75": 0.75, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p999": 0.999}

// plain are the measures beside quantiles.
var plain = []string{"count", "rate", "sum", "mean", "min", "max", "last", "share"}

const changePrefix = "change."

// Needs says what has to be kept for conditions.
type Needs struct {
	Quantiles bool // Totals.Sketch
	Before    bool // Measures.Before
	Share     bool // Totals.Hits
}

// NeedsOf says what the names of measures need, or which of them is none.
func NeedsOf(names []string) (n Needs, err error) {
	for _, name := range names {
		of, change := strings.CutPrefix(name, changePrefix)
		n.Before = n.Before || change
		n.Share = n.Share || of == "share"
		if _, quantile := quantiles[of]; quantile {
			n.Quantiles = true
		} else if !slices.Contains(plain, of) {
			return Needs{}, fmt.Errorf("%q is no measure: want %s, p50, p75, p90, p95, p99, p999, or one of them behind %s",
				name, strings.Join(plain, ", "), changePrefix)
		}
	}
	return n, nil
}

// Number implements Fields.
func (m *Measures) Number(name string) (float64, bool) {
	of, change := strings.CutPrefix(name, changePrefix)
	now, ok := m.Now.measure(of, m.Seconds)
	if !ok || !change {
		return now, ok
	}
	before, ok := m.Before.measure(of, m.Seconds)
	if !ok || before == 0 {
		return 0, false
	}
	return (now - before) / before, true
}

// Text implements Fields: the number as it is printed, so that has() works.
func (m *Measures) Text(name string) string {
	v, ok := m.Number(name)
	if !ok {
		return ""
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}

func (t *Totals) measure(name string, seconds float64) (v float64, ok bool) {
	n := float64(t.Count)
	switch name {
	case "count":
		return n, true
	case "rate":
		return n / seconds, true
	case "sum":
		return t.Sum, true
	}
	if t.Count == 0 {
		return 0, false
	}
	switch name {
	case "mean":
		return t.Sum / n, true
	case "min":
		return t.Min, t.Min <= t.Max
	case "max":
		return t.Max, t.Min <= t.Max
	case "last":
		return t.Last, true
	case "share":
		return float64(t.Hits) / n, true
	}
	q, known := quantiles[name]
	if !known || t.Sketch == nil {
		return 0, false
	}
	v, err := t.Sketch.Quantile(q)
	return v, err == nil
}
