package testkit

import (
	"fmt"
	"strconv"
	"strings"

	"pgregory.net/rapid"
)

// PromQL draws queries over a delta `hits_total`, an observation `latency_seconds` with what is derived from it, and a
// gauge `level`, all with labels service (a, b, c or none), region (x, y) and instance (0 to 9).
type PromQL struct {
	// Ranges and Offsets are what to draw from: "5m".
	Ranges, Offsets []string
}

// Draw draws a query that aggregates, of which some may be pushed into the database or computed as it is read, and some
// not.
func (q PromQL) Draw(t *rapid.T) string {
	switch rapid.SampledFrom([]int{0, 1, 2, 3, 4, 5, 6, 7, 7, 7, 7, 8, 8}).Draw(t, "shape") {
	case 0:
		return q.sum(t) + " / " + q.sum(t)
	case 1:
		return "max by (service) (" + q.sum(t) + ")"
	case 2, 3:
		return "histogram_quantile(" + quantile(t) + ", " + aggregate(t, "sum", "le", "service") +
			"(rate(latency_seconds_bucket" + matchers(t) + q.window(t) + ")))"
	case 4, 5:
		return "histogram_quantile(" + quantile(t) + ", " + aggregate(t, "sum") +
			"(rate(latency_seconds" + matchers(t) + q.window(t) + ")))"
	case 6:
		return "max_over_time((" + q.sum(t) + ")[10m:1m])"
	case 7:
		return q.stepped(t)
	}
	return q.sum(t)
}

func (q PromQL) sum(t *rapid.T) string {
	functions := []string{"rate", "increase", "sum_over_time", "irate", "", "count_over_time"}
	metrics := []string{"hits_total", "latency_seconds_count", "latency_seconds_sum", "latency_seconds_bucket", "latency_seconds"}
	function := rapid.SampledFrom(functions).Draw(t, "function")
	metric := rapid.SampledFrom(metrics).Draw(t, "metric")
	selector := metric + matchers(t)
	offset := rapid.SampledFrom(append([]string{"", "", ""}, q.Offsets...)).Draw(t, "offset")
	if offset != "" {
		offset = " offset " + offset
	}
	inner := selector + offset
	if function != "" {
		inner = function + "(" + selector + q.window(t) + offset + ")"
	}
	if metric == "latency_seconds" {
		if rapid.Bool().Draw(t, "count") {
			inner = "histogram_count(" + inner + ")"
		} else {
			inner = "histogram_sum(" + inner + ")"
		}
	}
	inner = rapid.SampledFrom([]string{"", "", "", "60 * "}).Draw(t, "factor") + inner
	return aggregate(t, rapid.SampledFrom([]string{"sum", "sum", "sum", "max"}).Draw(t, "aggregate")) + "(" + inner + ")"
}

// stepped draws an aggregation, or none, of a function that is computed series by series.
func (q PromQL) stepped(t *rapid.T) string {
	functions := []string{
		"rate(", "increase(", "irate(", "avg_over_time(", "max_over_time(", "min_over_time(", "count_over_time(",
		"sum_over_time(", "quantile_over_time(0.4, ",
	}
	selector := rapid.SampledFrom([]string{"hits_total", "latency_seconds_count", "latency_seconds_sum"}).Draw(t, "counter")
	if rapid.Bool().Draw(t, "gauge") {
		selector = "level"
		functions = append(functions, "", "", "last_over_time(", "delta(", "changes(", "stddev_over_time(")
	}
	function := rapid.SampledFrom(functions).Draw(t, "of")
	inner := selector + matchers(t)
	if function != "" {
		inner = function + inner + q.window(t) + ")"
	}
	names := []string{"", "avg", "count", "min", "max", "group", "sum", "stddev", "stdvar"}
	name := rapid.SampledFrom(names).Draw(t, "aggregation")
	if name == "" {
		around := rapid.SampledFrom([]string{"%s", "topk(3, %s)", "quantile by (region) (0.3, %s)", "%s > 1"}).Draw(t, "around")
		return fmt.Sprintf(around, inner)
	}
	return aggregate(t, name) + "(" + inner + ")"
}

func (q PromQL) window(t *rapid.T) string {
	return "[" + rapid.SampledFrom(q.Ranges).Draw(t, "range") + "]"
}

// quantile draws a rank that no count of events hits: where it lies between two of them, rounding decides which.
func quantile(t *rapid.T) string {
	return strconv.FormatFloat(rapid.SampledFrom([]float64{0.0131, 0.4871, 0.9013, 0.9907}).Draw(t, "quantile"), 'g', -1, 64)
}

// aggregate draws a grouping; labels always belong to it.
func aggregate(t *rapid.T, name string, labels ...string) string {
	if len(labels) == 0 {
		switch rapid.IntRange(0, 4).Draw(t, "grouping") {
		case 0:
			return name
		case 1:
			return name + " without (instance)"
		}
	}
	label := rapid.SampledFrom([]string{"service", "region", "nothing"})
	more := rapid.SliceOfNDistinct(label, 0, 2, rapid.ID[string]).Draw(t, "by")
	for _, l := range more {
		if !strings.Contains(strings.Join(labels, ","), l) {
			labels = append(labels, l)
		}
	}
	return name + " by (" + strings.Join(labels, ", ") + ")"
}

func matchers(t *rapid.T) string {
	one := rapid.SampledFrom([]string{
		`service="a"`, `service=~"a|c"`, `service!="b"`, `region="x"`, `instance=~"[0-4]"`, `service=""`,
	})
	list := rapid.SliceOfN(one, 0, 2).Draw(t, "matchers")
	if len(list) == 0 {
		return ""
	}
	return "{" + strings.Join(list, ",") + "}"
}
