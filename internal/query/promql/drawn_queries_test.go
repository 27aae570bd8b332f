package promql_test

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"
)

// drawn draws PromQL of the whole language that is enabled, over the metrics of randomData. Its queries are ones that
// have one right answer: what depends on the order of series (the first of equal ones) or on the last digit of a sum
// (a floor, an ==) is not drawn of numbers that may tie or round.
type drawn struct {
	t *rapid.T
	// unit is the width of the windows that are read. Ranges, offsets and steps of counters that are kept in windows
	// are multiples of it.
	unit time.Duration
	// cut says that they need not be.
	cut     bool
	longest int // of ranges, in units
	at      []time.Time
	seen    map[string]int // kinds of queries that were drawn
	ties    bool           // the query at hand chooses among values that may be equal
	inside  int            // of how many subqueries
}

func (d *drawn) query() string {
	d.ties, d.inside = false, 0
	switch d.pick("top", 12) {
	case 0:
		return d.scalar(2)
	case 1:
		d.see("sort")
		return d.one("sort", "sort", "sort_desc") + "(" + d.vector(2) + ")"
	case 2:
		d.ties = true
		d.see("topk")
		return fmt.Sprintf("%s%s(%s, %s)", d.one("k", "topk", "bottomk"), d.grouping(),
			d.one("of", "1", "2", "3", "0", "-1"), d.vector(2))
	case 3:
		d.see("count_values")
		return fmt.Sprintf("count_values%s(%q, %s)", d.grouping(), d.one("label", "v", "a"),
			d.selector("temp", "bytes_total", "hits_total"))
	}
	return d.vector(3)
}

func (d *drawn) see(what string) { d.seen[what]++ }

func (d *drawn) pick(what string, n int) int { return rapid.IntRange(0, n-1).Draw(d.t, what) }

func (d *drawn) one(what string, of ...string) string { return of[d.pick(what, len(of))] }

var (
	windowed = []string{"hits_total", "lat_seconds_count", "lat_seconds_sum", "lat_seconds_bucket"}
	leveled  = []string{"temp", "bytes_total", "mixed"}
	hists    = []string{"lat_seconds", "nh", "gh", "nhcb"}
	floats   = append(slices.Clone(windowed), append(leveled, "temp", "hits_total")...)
)

func inWindows(metric string) bool {
	return !slices.Contains(leveled, metric) && (metric == "lat_seconds" || !slices.Contains(hists, metric))
}

// selector is a bare one, with its offset.
func (d *drawn) selector(of ...string) string {
	metric := d.one("metric", of...)
	return metric + d.matchers() + d.shift(metric)
}

func (d *drawn) matchers() string {
	if d.pick("matchers", 3) > 0 {
		return ""
	}
	// One of a label: of several, Prometheus' storage changes the order, and absent() takes the last for its label.
	list := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{
		`a="1"`, `a!="1"`, `a=""`, `service=~"x|"`, `service!~"y"`, `service=~".+"`, `le="own"`, `le!="own"`, `c="none"`,
		`le=~"1|10|.Inf|own|"`,
	}), 1, 2, func(m string) byte { return m[0] }).Draw(d.t, "list")
	return "{" + strings.Join(list, ", ") + "}"
}

// unitOf is what durations about a metric are multiples of.
func (d *drawn) unitOf(metric string) time.Duration {
	if d.cut || !inWindows(metric) {
		return d.unit / 10
	}
	return d.unit
}

func text(of time.Duration) string { return fmt.Sprintf("%dms", of.Milliseconds()) }

func (d *drawn) shift(metric string) string {
	out := ""
	if d.pick("at", 8) == 0 {
		d.see("@")
		switch d.pick("which", 4) {
		case 0:
			out = " @ start()"
		case 1:
			out = " @ end()"
		default:
			at := rapid.SampledFrom(d.at).Draw(d.t, "time")
			if d.cut || !inWindows(metric) {
				at = at.Add(time.Duration(d.pick("ms", 1000)) * d.unit / 1000)
			}
			out = fmt.Sprintf(" @ %.3f", float64(at.UnixMilli())/1000)
		}
	}
	if d.pick("offset", 5) == 0 {
		d.see("offset")
		by := time.Duration(rapid.IntRange(-20, 40).Draw(d.t, "by")) * d.unitOf(metric)
		if by < 0 {
			d.see("offset negative")
			out += " offset -" + text(-by)
		} else {
			out += " offset " + text(by)
		}
	}
	return out
}

func (d *drawn) width(metric string) time.Duration {
	unit := d.unitOf(metric)
	n := rapid.SampledFrom([]int{1, 2, 3, 6, 6, 12, 30, 30, 47, 360}).Draw(d.t, "range")
	width := time.Duration(min(n, d.longest)) * d.unit
	if unit != d.unit {
		width += time.Duration(d.pick("more", 10)) * unit
	}
	if d.unit > 10*time.Second && !d.cut && !inWindows(metric) {
		width = max(width, 2*d.unit) // below it is interpolated
	}
	return width
}

// matrix is a range of a metric, or of a subquery.
func (d *drawn) matrix(depth int, of ...string) string {
	metric := d.one("metric", of...)
	if depth > 0 && d.pick("subquery", 4) == 0 {
		return d.subquery(depth-1, func(depth int) string {
			if d.pick("bare", 3) == 0 && !inWindows(metric) {
				return metric + d.matchers() + d.shift(metric)
			}
			return "(" + d.vector(depth) + ")"
		})
	}
	return fmt.Sprintf("%s%s[%s]%s", metric, d.matchers(), text(d.width(metric)), d.shift(metric))
}

func (d *drawn) subquery(depth int, inner func(int) string) string {
	d.see("subquery")
	if d.inside++; d.inside > 1 {
		d.see("subquery nested")
	}
	step := d.unit * time.Duration(rapid.SampledFrom([]int{1, 3, 6, 7}).Draw(d.t, "substep"))
	out := fmt.Sprintf("%s[%s:%s]%s", inner(depth), text(d.unit*time.Duration(rapid.SampledFrom([]int{1, 6, 18,
		31}).Draw(d.t, "subrange"))), text(step), d.shift("hits_total"))
	d.inside--
	return out
}

var (
	overTime = []string{
		"avg_over_time", "min_over_time", "max_over_time", "sum_over_time", "count_over_time", "last_over_time",
		"present_over_time", "stddev_over_time", "stdvar_over_time",
		"quantile_over_time", "absent_over_time", "changes", "resets", "delta", "idelta", "irate", "rate", "increase",
		"deriv", "predict_linear",
	}
	ofHistograms = []string{"sum_over_time", "avg_over_time", "rate", "increase", "last_over_time", "irate", "delta", "idelta"}
)

// over is a function over a range.
func (d *drawn) over(depth int) string {
	function := d.one("function", append(overTime, "rate", "increase", "rate", "increase")...)
	d.see(function)
	switch function {
	case "quantile_over_time":
		return fmt.Sprintf("%s(%s, %s)", function, d.one("q", "0.31", "0.5", "1", "-0.1"), d.matrix(depth, floats...))
	case "predict_linear":
		return fmt.Sprintf("%s(%s, %s)", function, d.matrix(depth, floats...), d.one("ahead", "60", "-30", "3600"))
	}
	return function + "(" + d.matrix(depth, floats...) + ")"
}

// histogram is a vector of native histograms.
func (d *drawn) histogram(depth int) string {
	switch d.pick("histogram", 5) {
	case 0:
		return d.selector(hists...)
	case 1:
		if depth > 0 {
			d.see("sum of histograms")
			return fmt.Sprintf("%s%s(%s)", d.one("aggregation", "sum", "avg"), d.grouping(), d.histogram(depth-1))
		}
	case 2:
		if depth > 0 {
			return fmt.Sprintf("%s %s %s", d.histogram(depth-1), d.one("operator", "*", "/"), d.one("factor", "2", "0.5"))
		}
	}
	return d.one("function", ofHistograms...) + "(" + d.matrix(0, hists...) + ")"
}

func (d *drawn) ofHistogram(depth int) string {
	switch d.pick("of histogram", 8) {
	case 0:
		d.see("histogram_fraction")
		return fmt.Sprintf("histogram_fraction(%s, %s, %s)", d.one("low", "0", "-Inf", "0.4"),
			d.one("high", "1.1", "+Inf", "30"), d.histogram(depth))
	case 1, 2:
		d.see("histogram_quantile native")
		return fmt.Sprintf("histogram_quantile(%s, %s)", d.quantile(), d.histogram(depth))
	case 3, 4:
		d.see("histogram_quantile classic")
		return fmt.Sprintf("histogram_quantile(%s, sum by (le%s) (%s(%s)))", d.quantile(), d.one("and", "", ", service", ", a"),
			d.one("function", "rate", "increase", "sum_over_time"), d.matrix(0, "lat_seconds_bucket"))
	}
	function := d.one("function", "histogram_count", "histogram_sum", "histogram_avg", "histogram_stddev", "histogram_stdvar")
	d.see(function)
	return function + "(" + d.histogram(depth) + ")"
}

func (d *drawn) quantile() string {
	return d.one("q", "0.1311", "0.4871", "0.9013", "0.9907", "1", "0")
}

func (d *drawn) grouping() string {
	if d.pick("grouped", 4) == 0 {
		return ""
	}
	labels := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "service", "le", "nothing", "__name__"}), 0, 3,
		rapid.ID[string]).Draw(d.t, "labels")
	word := d.one("word", "by", "by", "without")
	d.see(word)
	return " " + word + " (" + strings.Join(labels, ", ") + ") "
}

func (d *drawn) aggregation(depth int) string {
	name := d.one("aggregation", "sum", "sum", "sum", "avg", "count", "min", "max", "group", "stddev", "stdvar",
		"quantile", "chosen")
	d.see(name)
	switch name {
	case "quantile":
		return fmt.Sprintf("quantile%s(%s, %s)", d.grouping(), d.one("q", "0.31", "0.5", "1", "2"), d.vector(depth))
	case "chosen": // of which only the values count
		d.see("topk")
		return fmt.Sprintf("%s(%s(%s, %s))", d.one("around", "sum", "max", "count", "min"), d.one("k", "topk", "bottomk"),
			d.one("of", "1", "2"), d.vector(depth))
	}
	return name + d.grouping() + "(" + d.vector(depth) + ")"
}

var comparisons = []string{"==", "!=", ">", "<", ">=", "<="}

func (d *drawn) binary(depth int) string {
	switch d.pick("binary", 6) {
	case 0:
		operator := d.one("operator", "+", "-", "*", "/", "%", "^", "atan2")
		d.see("arithmetic with a number")
		if d.pick("side", 2) == 0 {
			return fmt.Sprintf("(%s %s %s)", d.vector(depth), operator, d.scalar(depth))
		}
		return fmt.Sprintf("(%s %s %s)", d.scalar(depth), operator, d.vector(depth))
	case 1:
		word := d.one("bool", "", " bool")
		d.see("comparison" + word)
		return fmt.Sprintf("(%s %s%s %s)", d.vector(depth), d.one("operator", comparisons[1:]...), word,
			d.one("number", "0.31711", "3.70001", "-1.01", "2e9"))
	case 2:
		d.see("set operator")
		return fmt.Sprintf("(%s %s%s %s)", d.vector(depth), d.one("operator", "and", "or", "unless"), d.matching(), d.vector(depth))
	case 3:
		word := d.one("bool", "", " bool")
		metric := d.one("metric", "temp", "bytes_total", "hits_total")
		d.see("comparison of vectors" + word)
		return fmt.Sprintf("(%s%s %s%s%s %s%s)", metric, d.shift(metric), d.one("operator", comparisons...), word,
			d.matching(), metric, d.shift(metric))
	case 4:
		d.see("many to one")
		many, one := d.vector(depth), d.one("aggregation", "sum", "max", "count")+" by (%s) ("+d.vector(depth)+")"
		on := d.one("on", "a", "service", "a, service")
		group := d.one("labels", "", "le", "nothing")
		if d.pick("side", 2) == 0 {
			d.see("group_left")
			return fmt.Sprintf("(%s %s on (%s) group_left (%s) %s)", many, d.one("operator", "/", "*", "-", "<"), on, group,
				fmt.Sprintf(one, on+", "+d.one("more", "a", "le")))
		}
		d.see("group_right")
		return fmt.Sprintf("(%s %s on (%s) group_right (%s) %s)", fmt.Sprintf(one, on),
			d.one("operator", "/", "*", "-", "<"), on, group, many)
	}
	d.see("arithmetic of vectors")
	return fmt.Sprintf("(%s %s%s %s)", d.vector(depth), d.one("operator", "+", "-", "*", "/"), d.matching(), d.vector(depth))
}

func (d *drawn) matching() string {
	switch d.pick("matching", 4) {
	case 0:
		d.see("on")
		return " on (" + d.one("on", "a", "service", "a, service, le", "") + ")"
	case 1:
		d.see("ignoring")
		return " ignoring (" + d.one("ignoring", "a", "le", "service, le", "nothing") + ")"
	}
	return ""
}

func (d *drawn) function(depth int) string {
	switch d.pick("function", 10) {
	case 0:
		d.see("absent")
		return "absent(" + d.vector(depth) + ")"
	case 1:
		d.see("timestamp")
		return "timestamp(" + d.vector(depth) + ")"
	case 2:
		d.see("label_replace")
		return fmt.Sprintf(`label_replace(%s, %q, %q, %q, %q)`, d.vector(depth), d.one("to", "b", "a", "__name__"),
			d.one("by", "$1", "x$1y", ""), d.one("from", "a", "service", "__name__"), d.one("re", "(.*)", "(.+)", "x", "(1|x).*"))
	case 3:
		d.see("label_join")
		return fmt.Sprintf(`label_join(%s, %q, "-", "a", "service"%s)`, d.vector(depth), d.one("to", "b", "a"),
			d.one("and", "", `, "__name__"`))
	case 4:
		d.see("clamp")
		return fmt.Sprintf(d.one("clamp", "clamp(%s, 0.5, 17)", "clamp_min(%s, 3)", "clamp_max(%s, 2.5)",
			"clamp(%s, 3, 1)"), d.vector(depth))
	case 5:
		d.see("time functions")
		return d.one("of time", "minute", "hour", "day_of_week", "days_in_month",
			"year") + "(" + d.one("argument", "", "timestamp(temp)", "vector(time())") + ")"
	case 6:
		d.see("absent_over_time")
		return "absent_over_time(" + d.matrix(depth, floats...) + ")"
	case 7:
		d.see("round")
		return d.one("of", "round", "floor", "ceil") + "(" + d.selector("temp", "bytes_total", "hits_total") + ")"
	}
	function := d.one("of", "abs", "sqrt", "ln", "exp", "sgn", "-", "+", "scalar", "log2", "deg", "sinh")
	d.see("functions of a number")
	if function == "scalar" {
		d.see("vector(scalar)")
		return "vector(scalar(" + d.vector(depth) + "))"
	}
	return function + "(" + d.vector(depth) + ")"
}

func (d *drawn) vector(depth int) string {
	if depth == 0 {
		if d.pick("leaf", 3) == 0 {
			d.see("selector")
			return d.selector(floats...)
		}
		return d.over(0)
	}
	switch d.pick("vector", 12) {
	case 0:
		d.see("selector")
		return d.selector(floats...)
	case 1, 2, 3:
		return d.over(depth - 1)
	case 4, 5, 6:
		return d.aggregation(depth - 1)
	case 7, 8:
		return d.binary(depth - 1)
	case 9, 10:
		return d.function(depth - 1)
	}
	return d.ofHistogram(depth - 1)
}

func (d *drawn) scalar(depth int) string {
	if depth == 0 {
		return d.one("number", "2", "0.5", "-3", "60")
	}
	switch d.pick("scalar", 6) {
	case 0:
		d.see("time()")
		return fmt.Sprintf("(time() - %d)", epoch.Unix()) // small: a deviation of great numbers is all rounding
	case 1:
		d.see("scalar()")
		return "scalar(" + d.vector(depth-1) + ")"
	case 2:
		return "(" + d.scalar(depth-1) + d.one("operator", " + ", " * ", " > bool ") + d.scalar(depth-1) + ")"
	}
	return d.one("number", "2", "0.5", "-3", "60")
}
