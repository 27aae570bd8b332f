package promql_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/internal/query/promql"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
)

// drawPushed draws a query of aggregations, of which most may be folded or stepped.
func drawPushed(t *rapid.T) string {
	labels := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "service", "le", "c"}), 0, 3, rapid.ID[string]).Draw(t, "labels")
	word := rapid.SampledFrom([]string{"by", "by", "without"}).Draw(t, "word")
	grouping := word + " ("
	for i, l := range labels {
		if i > 0 {
			grouping += ", "
		}
		grouping += l
	}
	grouping += ")"
	selector := rapid.SampledFrom([]string{
		"hits_total", `hits_total{a!="1"}`, `hits_total{service=~"x|"}`, `lat_seconds_bucket{service!="x",le="1"}`, "lat_seconds", "lat_seconds_count", "lat_seconds_sum", "lat_seconds_bucket", `lat_seconds_bucket{le=~"1|10|.Inf"}`,
		"temp", `temp{a="1"}`, "bytes_total", `bytes_total{service!="y"}`, `{__name__=~"hits_total|lat_seconds_count"}`, `{__name__=~"lat_seconds_(sum|count)"}`,
	}).Draw(t, "selector")
	width := rapid.SampledFrom([]string{"10s", "1m", "5m", "15s", "1h"}).Draw(t, "range")
	offset := rapid.SampledFrom([]string{"", "", " offset 1m", " offset -30s", " offset 7s", " @ end()"}).Draw(t, "offset")
	function := rapid.SampledFrom([]string{
		"rate(", "rate(", "increase(", "sum_over_time(", "irate(", "count_over_time(", "max_over_time(", "min_over_time(", "avg_over_time(", "last_over_time(", "present_over_time(",
		"stddev_over_time(", "stdvar_over_time(", "quantile_over_time(0.3, ", "delta(", "idelta(", "deriv(", "changes(", "resets(", "absent_over_time(", "", "", "",
	}).Draw(t, "function")
	aggregate := rapid.SampledFrom([]string{"sum ", "sum ", "sum ", "avg ", "avg ", "count ", "max ", "max ", "min ", "min ", "group ", "stddev ", "topk 2, ", "bottomk 1, ", "quantile 0.7, ", "count_values \"v\", ", ""}).Draw(t, "aggregate")
	inner := fmt.Sprintf("%s%s[%s]%s)", function, selector, width, offset)
	if function == "" {
		inner = selector + offset
	}
	of := rapid.SampledFrom([]string{"%s", "%s", "%s", "%s", "%s", "%s", "%s", "%s", "60 * %s", "%s / 4", "histogram_count(%s)", "histogram_sum(%s)", "abs(%s)", "timestamp(%s)", "absent(%s)", "%s > 3", "-%s"}).Draw(t, "of")
	if strings.Contains(aggregate, "topk") || strings.Contains(aggregate, "bottomk") {
		of = "%s" // behind a function series come in random order, which decides between equal ones
	}
	if word, parameter, _ := strings.Cut(aggregate, " "); word == "" {
		inner = fmt.Sprintf(of, inner)
	} else {
		inner = fmt.Sprintf("%s %s (%s(%s))", word, grouping, parameter, fmt.Sprintf(of, inner))
	}
	switch rapid.IntRange(0, 5).Draw(t, "around") {
	case 0:
		return "histogram_quantile(0.9013, " + inner + ")"
	case 1:
		return "max_over_time((" + inner + ")[3m:30s])"
	case 2:
		return inner + " / ignoring (a, service, c, le) group_left () sum(rate(hits_total[5m]))"
	case 3:
		return "2 * " + inner
	}
	return inner
}

// What is computed while it is read, by the database and beside it, is what the engine computes of every series, for
// any query.
func TestFoldedEqualsPlain(t *testing.T) {
	// All tiers and their seams are in two hours.
	short := func(s *server) { s.cfg.Retention10s, s.cfg.Retention1m = 40*time.Minute, 80*time.Minute }
	folding := newServer(t, short)
	plain := newServer(t, short, func(p *server) { p.cfg.Pushdown, p.store = false, folding.store })
	folded, byService, turns := 0, 0, 0
	folding.store.columns = 0
	rapid.Check(t, func(rt *rapid.T) {
		folding.store.empty()
		folding.service.Forget()
		plain.service.Forget()
		folding.service.ReadAtOnce(rapid.SampledFrom([]int{1, 2, 5, 1000}).Draw(rt, "series at once"))
		for _, a := range []string{"", "1", "2"} {
			for _, b := range []string{"", "x", "y"} {
				ls := map[string]string{"le": "own"}
				if a != "" {
					ls["a"] = a
				}
				if b != "" {
					ls["service"] = b
				}
				if rapid.Bool().Draw(rt, "le") {
					delete(ls, "le")
				}
				for name, kind := range map[string]events.Kind{"hits_total": events.Delta, "lat_seconds": events.Observation, "temp": events.Gauge, "bytes_total": events.Cumulative} {
					if rapid.IntRange(0, 3).Draw(rt, "there") > 0 {
						folding.store.add(t, "acme", kind, name, ls, draw(rt, folding.now)...)
					}
				}
			}
		}
		for range 10 {
			query := drawPushed(rt)
			at := epoch.Add(time.Duration(rapid.IntRange(0, 7200).Draw(rt, "at")) * time.Second)
			step := time.Duration(rapid.IntRange(1, 40).Draw(rt, "step")) * 5 * time.Second
			before := len(folding.store.reads)
			got, want := folding.points(query, at, step), plain.points(query, at, step)
			for i, q := range folding.store.reads[before:] {
				if q.Groups != nil {
					folded++
				}
				if i > 0 && sameButSeries(q, folding.store.reads[before+i-1]) {
					turns++
				}
				if q.Services != nil {
					byService++
				}
			}
			compare(rt, query, got, want)
		}
	})
	if folded == 0 || byService == 0 || folding.store.columns == 0 || turns == 0 {
		t.Errorf("got %d reads folded, %d of services, %d of columns and %d in a further turn, want some of each",
			folded, byService, folding.store.columns, turns)
	}
}

// How far the wider tiers are behind shows in no answer, of any query, in any tier.
func TestCoarseShowsNowhere(t *testing.T) {
	short := func(s *server) { s.cfg.Retention10s, s.cfg.Retention1m = 50*time.Minute, 100*time.Minute }
	whole, behind := newServer(t, short), newServer(t, short)
	whole.store.coarseUpTo(whole.now, nil)
	kept := whole.now.Add(-50 * time.Minute) // of 10 s
	minutes, tens := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		whole.store.empty()
		behind.store.empty()
		whole.service.Forget()
		behind.behind(rt, 0, 2*time.Hour)
		merged := behind.store.merged
		behind.store.merged = func(e event) bool { return e.time.Before(kept.Truncate(time.Minute)) || merged(e) }
		for _, a := range []string{"1", "2"} {
			for _, b := range []string{"", "x", "y"} {
				ls := map[string]string{"a": a, "le": "own"}
				if b != "" {
					ls["service"] = b
				}
				for name, kind := range map[string]events.Kind{"hits_total": events.Delta, "lat_seconds": events.Observation, "temp": events.Gauge, "bytes_total": events.Cumulative} {
					if rapid.IntRange(0, 3).Draw(rt, "there") > 0 {
						evs := draw(rt, whole.now)
						whole.store.add(t, "acme", kind, name, ls, slices.Clone(evs)...)
						behind.store.add(t, "acme", kind, name, ls, evs...)
					}
				}
			}
		}
		for range 20 {
			query := drawPushed(rt)
			// Near the hours, so that wide windows are read.
			at := epoch.Add(time.Duration(rapid.IntRange(0, 120).Draw(rt, "at")) * time.Minute)
			step := rapid.SampledFrom([]time.Duration{5 * time.Second, 10 * time.Second, time.Minute, 10 * time.Minute, time.Hour}).Draw(rt, "step")
			from := len(behind.store.reads)
			got, want := behind.points(query, at, step), whole.points(query, at, step)
			for _, q := range behind.store.reads[from:] {
				for _, stretch := range q.Finer {
					minutes += map[bool]int{true: 1}[stretch.Tier == promql.Tier1m]
					tens += map[bool]int{true: 1}[stretch.Tier == promql.Tier10s]
				}
			}
			compare(rt, query, got, want)
		}
	})
	if minutes == 0 || tens == 0 {
		t.Errorf("got %d reads of minutes and %d of 10 s in the place of wider tiers, want some of each", minutes, tens)
	}
}

// sameButSeries tells whether two reads differ in the series alone.
func sameButSeries(a, b promql.PaneQuery) bool {
	different := !slices.Equal(a.IDs, b.IDs)
	a.IDs, b.IDs = nil, nil
	return different && reflect.DeepEqual(a, b)
}

// Of series that are read in turns those of one turn are held.
func TestTurnsHoldOneTurn(t *testing.T) {
	s := newServer(t, func(s *server) { s.limits.QuerySamples = 2000 })
	for i := range 10 {
		ls := map[string]string{"host": fmt.Sprint(i)}
		s.store.add(t, "acme", events.Gauge, "temp", ls, every(10*time.Second, epoch, s.now, 1)...)
		s.store.add(t, "acme", events.Delta, "hits_total", ls, every(10*time.Second, epoch, s.now, 1)...)
	}
	for _, query := range []string{"count(max_over_time(temp[2h]))", "count(max_over_time(hits_total[2h]))"} {
		for series, want := range map[int]int{2: http.StatusOK, 10: http.StatusUnprocessableEntity} {
			s.service.ReadAtOnce(series)
			a := s.do("acme", "POST", "/query", url.Values{"query": {query}, "time": {seconds(s.now)}})
			if a.code != want {
				t.Errorf("%s, %d series at a time: got %d %s, want %d", query, series, a.code, a.body, want)
			}
		}
	}
}

// A series that begins in the last window of a range has a rate, but no irate yet, also among others.
func TestSumOfFirstWindow(t *testing.T) {
	s := newServer(t)
	s.store.add(t, "acme", events.Delta, "hits_total", map[string]string{"host": "a"}, every(time.Second, epoch, s.now, 1)...)
	s.store.add(t, "acme", events.Delta, "hits_total", map[string]string{"host": "b"}, event{s.now.Add(-time.Second), 100})
	for query, want := range map[string]float64{"sum(irate(hits_total[1m]))": 1, "sum(increase(hits_total[1m]))": 160} {
		if got := s.one(query, s.now); !near(got, want, 1e-9) {
			t.Errorf("%s: got %v, want %v", query, got, want)
		}
	}
}

// A sample of a gauge is valid for less than the lookback, to the millisecond: at the end of what is read no stale
// marker says so.
func TestLookbackEnds(t *testing.T) {
	for _, pushdown := range []bool{true, false} {
		s := newServer(t, func(s *server) { s.cfg.Pushdown = pushdown })
		last := s.now.Add(-5 * time.Minute)
		s.store.add(t, "acme", events.Gauge, "temp", map[string]string{"host": "a"}, event{last, 7})
		s.store.add(t, "acme", events.Gauge, "temp", map[string]string{"host": "b"}, event{last.Add(time.Millisecond), 8})
		for query, want := range map[string]float64{"max(temp)": 8, "min(temp)": 8, "count(temp)": 1, "sum(temp offset 10s)": 15} {
			if got := s.one(query, s.now); got != want {
				t.Errorf("pushdown %v: %s: got %v, want %v", pushdown, query, got, want)
			}
		}
	}
}

// points are the values of a range query, by series and time; native histograms as text.
func (s *server) points(query string, at time.Time, step time.Duration) map[string]string {
	s.t.Helper()
	points := map[string]string{}
	a := s.do("acme", "POST", "/query_range", url.Values{
		"query": {query}, "start": {seconds(at)}, "end": {seconds(at.Add(10 * step))}, "step": {step.String()}})
	s.pushdown = a.header.Get(promql.HeaderPushdown)
	if a.Status != "success" {
		points["error"] = a.Error
		return points
	}
	var matrix []struct {
		Metric             map[string]string
		Values, Histograms [][2]any
	}
	if err := json.Unmarshal(a.Data.Result, &matrix); err != nil {
		s.t.Fatal(err)
	}
	for _, one := range matrix {
		key := ""
		for _, name := range slices.Sorted(maps.Keys(one.Metric)) {
			key += name + "=" + one.Metric[name] + ","
		}
		for _, v := range one.Values {
			points[fmt.Sprint(key, v[0])] = v[1].(string)
		}
		for _, h := range one.Histograms {
			points[fmt.Sprint(key, h[0])] = fmt.Sprint(h[1])
		}
	}
	return points
}

func compare(t *rapid.T, query string, got, want map[string]string) {
	for key := range want {
		if _, there := got[key]; !there {
			t.Fatalf("%s: %s is missing, want %s", query, key, want[key])
		}
	}
	for key, text := range got {
		if !sameNumbers(text, want[key]) {
			t.Fatalf("%s: %s: got %s, want %s", query, key, text, want[key])
		}
	}
}

var numberText = regexp.MustCompile(`[-+]?(Inf|NaN|[0-9.]+(e[-+]?[0-9]+)?)`)

// sameNumbers compares texts, and the numbers in them but for their last digits.
func sameNumbers(a, b string) bool {
	if numberText.ReplaceAllString(a, "#") != numberText.ReplaceAllString(b, "#") {
		return false
	}
	other := numberText.FindAllString(b, -1)
	for i, text := range numberText.FindAllString(a, -1) {
		x, err := strconv.ParseFloat(text, 64)
		y, err2 := strconv.ParseFloat(other[i], 64)
		if text != other[i] && (err != nil || err2 != nil || !near(x, y, 1e-9)) {
			return false
		}
	}
	return true
}

// What was pushed down is said in a header, and with explain=1 in place of the answer; the limits of a query hold all
// the same.
func TestExplain(t *testing.T) {
	s := newServer(t)
	for _, host := range []string{"a", "b", "c"} {
		for _, service := range []string{"shop", "cart"} {
			s.store.add(t, "acme", events.Delta, "hits_total", map[string]string{"host": host, "service": service}, every(time.Second, epoch, s.now, 1)...)
		}
	}
	ask := func(query, explain string) (string, explainedAnswer, int) {
		t.Helper()
		form := url.Values{"query": {query}, "time": {seconds(s.now)}, "explain": {explain}}
		r := httptest.NewRequest("GET", "/query?"+form.Encode(), nil)
		w := httptest.NewRecorder()
		s.handler.ServeHTTP(w, r.WithContext(tenants.NewContext(r.Context(), "acme")))
		var a explainedAnswer
		if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil {
			t.Fatalf("%s: %v", w.Body, err)
		}
		return w.Header().Get("X-Vigie-Pushdown"), a, w.Code
	}
	if header, _, _ := ask("sum by (service) (rate(hits_total[5m]))", ""); header != "sum by (service) of tiers by service: 2 series as 2" {
		t.Errorf("got header %q", header)
	}
	if header, _, _ := ask("max by (service) (rate(hits_total[5m]))", ""); header != "max by (service) of rate: 6 series as 2" {
		t.Errorf("got header %q", header)
	}
	if header, a, _ := ask("max_over_time(rate(hits_total[5m])[10m:1m])", "1"); header != "none" || len(a.Data.Selectors) != 1 || a.Data.Selectors[0].Why != "it is inside a subquery" {
		t.Errorf("got header %q and %+v, want none and why", header, a)
	}
	_, a, _ := ask("sum without (host) (increase(hits_total{host!=\"c\"}[5m]))", "1")
	if len(a.Data.Selectors) != 1 {
		t.Fatalf("got %+v, want one selector", a)
	}
	got := a.Data.Selectors[0]
	if got.Selector != `hits_total{host!="c"}` || got.Tier != "1m0s" || got.Pushdown != "sum without (host)" || got.Series != 4 || got.Groups != 2 || got.Panes != 130 {
		t.Errorf("got %+v, want how 4 series were read as 2", got)
	}
	if a.Data.Watermark != s.now.UTC().Format(time.RFC3339) {
		t.Errorf("got watermark %q, want %s", a.Data.Watermark, s.now)
	}
	if _, a, code := ask("sum(", "1"); code != 400 || a.ErrorType != "bad_data" {
		t.Errorf("a query that cannot be read: got %d %+v", code, a)
	}
	s.limits.QuerySeries = 5
	if header, a, code := ask("sum by (service) (rate(hits_total[5m]))", ""); code != 200 || header == "none" {
		t.Errorf("two services within query_series: got %d %+v", code, a)
	}
	s.limits.QuerySeries = 1
	if _, a, code := ask("sum by (service) (rate(hits_total[5m]))", ""); code != 422 || a.ErrorType != "execution" {
		t.Errorf("more services than query_series: got %d %+v", code, a)
	}
	s.limits.QuerySeries = 5
	if _, a, code := ask("sum by (host) (rate(hits_total[5m]))", ""); code != 422 || a.ErrorType != "execution" {
		t.Errorf("more series than query_series: got %d %+v", code, a)
	}
}

type explainedAnswer struct {
	ErrorType string
	Data      struct {
		Watermark string
		Selectors []struct {
			Selector, Tier, Pushdown, Why string
			Series, Groups, Panes         int
		}
	}
}
