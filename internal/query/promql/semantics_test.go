package promql_test

import (
	"encoding/json"
	"fmt"
	"math"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/query/promql"
	"github.com/vigie-io/vigie/pkg/events"
)

// every returns events of a value at regular times in [from, to).
func every(step time.Duration, from, to time.Time, value float64) (evs []event) {
	for at := from; at.Before(to); at = at.Add(step) {
		evs = append(evs, event{at, value})
	}
	return evs
}

func same(t *testing.T, what string, got, want float64) {
	t.Helper()
	if !(near(got, want, 1e-9) || math.IsNaN(got) && math.IsNaN(want)) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

var none = math.NaN()

// A range is never read past the watermark: a rate at "now" is the rate at the last complete window.
func TestWatermarkLag(t *testing.T) {
	s := newServer(t)
	s.store.add(t, "acme", events.Delta, "hits_total", nil, every(time.Second, s.now.Add(-time.Hour), s.now.Add(-2*time.Minute), 1)...)
	s.store.upTo("acme", s.now.Add(-2*time.Minute), s.now)
	same(t, "rate at now, two minutes behind", s.one("rate(hits_total[5m])", s.now), 1)
	same(t, "increase at now", s.one("increase(hits_total[1m])", s.now), 60)
	list := s.vector("increase(hits_total[1m])", s.now.Add(7*time.Second))
	if got, want := list[0].Value[0].(float64), float64(s.now.Add(-2*time.Minute).Unix()); got != want {
		t.Errorf("time of the answer: got %v, want %v, the time it is true for", got, want)
	}
	matrix := s.matrix("rate(hits_total[1m])", s.now.Add(-10*time.Minute), s.now, 10*time.Second)
	last := matrix[0].Values[len(matrix[0].Values)-1]
	if got, want := last[0].(float64), float64(s.now.Add(-2*time.Minute).Unix()); got != want {
		t.Errorf("last point of a range: got %v, want %v", got, want)
	}
	if got := s.matrix("hits_total", s.now.Add(-time.Minute), s.now, 10*time.Second); len(got) != 0 {
		t.Errorf("range after the watermark: got %v, want nothing", got)
	}
}

func TestLagIsSaid(t *testing.T) {
	s := newServer(t)
	s.store.upTo("acme", s.now.Add(-20*time.Minute), s.now)
	a := s.do("acme", "GET", "/query", url.Values{"query": {"absent(hits_total)"}})
	if len(a.Warnings) != 1 || !strings.Contains(a.Warnings[0], "20m0s behind") {
		t.Errorf("got warnings %q, want how far processing is behind", a.Warnings)
	}
}

// What is not in the query's hands is evaluated as asked: Grafana tests a data source with 1+1 at time=4.
func TestNoSelectorIsNotMoved(t *testing.T) {
	s := newServer(t)
	a := s.do("acme", "POST", "/query", url.Values{"query": {"1+1"}, "time": {"4"}})
	if got := string(a.Data.Result); got != `[4,"2"]` {
		t.Errorf("got %s, want [4,\"2\"]", a.body)
	}
	s.store.fail = errBroken
	if a := s.do("acme", "POST", "/query", url.Values{"query": {"1+1"}}); a.code != 200 {
		t.Errorf("without a database: got %s", a.body)
	}
}

// Alignment: an instant goes back to a window's border, a step up to whole windows and its start to a multiple.
func TestAlignment(t *testing.T) {
	s := newServer(t)
	s.store.add(t, "acme", events.Delta, "hits_total", nil, event{epoch.Add(time.Minute), 7})
	same(t, "seven seconds off", s.one("increase(hits_total[1m])", epoch.Add(2*time.Minute+7*time.Second)), 7)
	same(t, "time() moves along", s.one("time() + 0 * sum(hits_total)", epoch.Add(2*time.Minute+7*time.Second)), float64(epoch.Add(2*time.Minute).Unix()))

	f := func(start, end, step time.Duration, want ...time.Duration) {
		t.Helper()
		var got []time.Duration
		for _, one := range s.matrix("hits_total", epoch.Add(start), epoch.Add(end), step) {
			for _, v := range one.Values {
				got = append(got, time.UnixMilli(int64(v[0].(float64)*1000)).Sub(epoch))
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s..%s step %s: got %v, want %v", start, end, step, got, want)
		}
	}
	sec := time.Second
	f(100*sec, 130*sec, 10*sec, 100*sec, 110*sec, 120*sec, 130*sec)
	f(103*sec, 128*sec, 10*sec, 100*sec, 110*sec, 120*sec)
	// Grafana's default of 15 s becomes 20 s, at multiples of 20 s wherever the panel begins.
	f(105*sec, 150*sec, 15*sec, 100*sec, 120*sec, 140*sec)
	f(120*sec, 165*sec, 15*sec, 120*sec, 140*sec, 160*sec)
	f(100*sec, 103*sec, sec, 100*sec)
}

// Zero fill: between and after events a series reads as zero, an hour after the last it ends.
func TestLifeOfACounter(t *testing.T) {
	s := newServer(t, func(s *server) { s.now = epoch.Add(12 * time.Hour) })
	s.store.add(t, "acme", events.Delta, "hits_total", nil, event{epoch.Add(time.Second), 3}, event{epoch.Add(30 * time.Minute), 4}, event{epoch.Add(5 * time.Hour), 5})
	at := func(query string, after time.Duration, want float64) {
		t.Helper()
		same(t, fmt.Sprintf("%s after %s", query, after), s.one(query, epoch.Add(after)), want)
	}
	at("hits_total", -10*time.Second, none)
	at("hits_total", 10*time.Second, 3) // the first event counts
	at("increase(hits_total[10s])", 10*time.Second, 3)
	at("hits_total", 20*time.Second, 0)
	at("rate(hits_total[5m])", 20*time.Minute, 0) // not "no data"
	at("hits_total", 30*time.Minute+10*time.Second, 4)
	at("count(hits_total)", 90*time.Minute, 1)
	at("count(hits_total)", 92*time.Minute, none) // ended
	at("increase(hits_total[2h])", 2*time.Hour, 7)
	at("increase(hits_total[4h])", 4*time.Hour, 7)
	at("rate(hits_total[5m])", 3*time.Hour, none)
	at("increase(hits_total[6h])", 6*time.Hour, 12)
	at("increase(hits_total[1h])", 5*time.Hour+10*time.Second, 5) // and begins again
	at("absent_over_time(hits_total[1h])", 4*time.Hour, 1)
}

// A correction changes history, in whatever direction; nothing takes it for a reset.
func TestLateCorrection(t *testing.T) {
	s := newServer(t)
	s.store.add(t, "acme", events.Delta, "hits_total", nil, every(10*time.Second, epoch, epoch.Add(10*time.Minute), 2)...)
	same(t, "before", s.one("increase(hits_total[5m])", epoch.Add(10*time.Minute)), 60)
	s.store.add(t, "acme", events.Delta, "hits_total", nil, event{epoch.Add(7 * time.Minute), 10}, event{epoch.Add(8 * time.Minute), -4})
	same(t, "after", s.one("increase(hits_total[5m])", epoch.Add(10*time.Minute)), 66)
	same(t, "sum_over_time", s.one("sum_over_time(hits_total[5m])", epoch.Add(10*time.Minute)), 66)
}

// A range that ends after the watermark is extrapolated as Prometheus does, by half a window of 10 s and not of the minutes
// or hours that its borders would allow.
func TestRangeEndsAfterTheWatermark(t *testing.T) {
	s := newServer(t)
	s.store.add(t, "acme", events.Delta, "hits_total", nil, every(time.Second, epoch.Add(-2*time.Hour), epoch, 1)...)
	s.store.upTo("acme", epoch, s.now)
	const extrapolated = 5
	for query, events := range map[string]float64{
		"increase(hits_total[1h])":                                                    3600,
		"increase(hits_total[1h] offset 1h)":                                          3600,
		"increase(hits_total[1h] offset -2m)":                                         58*60 + extrapolated,
		"increase(hits_total[2h] offset -1h)":                                         3600 + extrapolated,
		"increase(hits_total[90s] offset -20s)":                                       70 + extrapolated,
		"sum_over_time(hits_total[1h] offset -2m)":                                    58 * 60,
		"3600 * rate(hits_total[1h] offset -2m)":                                      58*60 + extrapolated,
		fmt.Sprintf("increase(hits_total[1h] @ %d)", epoch.Add(2*time.Minute).Unix()): 58*60 + extrapolated,
	} {
		if got := s.one(query, epoch); !near(got, events, 1e-5) {
			t.Errorf("%s: got %v, want %v", query, got, events)
		}
	}
}

// Ranges that cut windows take their share of them; ranges shorter than two windows work.
func TestSmoothed(t *testing.T) {
	s := newServer(t, func(s *server) { s.now = epoch.Add(48 * time.Hour) })
	s.store.add(t, "acme", events.Delta, "hits_total", nil, every(time.Second, epoch, epoch.Add(2*time.Hour), 4)...)
	s.store.add(t, "acme", events.Observation, "latency_seconds", nil, every(time.Second, epoch, epoch.Add(2*time.Hour), 0.5)...)
	at := epoch.Add(time.Hour)
	for _, rng := range []string{"10s", "11s", "15s", "25s", "65s", "5m"} {
		same(t, "rate "+rng, s.one("rate(hits_total["+rng+"])", at), 4)
		same(t, "rate of count "+rng, s.one("rate(latency_seconds_count["+rng+"])", at), 1)
		same(t, "rate of histogram "+rng, s.one("histogram_count(rate(latency_seconds["+rng+"]))", at), 1)
	}
	same(t, "offset into a window", s.one("rate(hits_total[1m] offset 3s)", at), 4)
	// The same from hour windows, when nothing else is left.
	s.now = epoch.Add(40 * 24 * time.Hour)
	s.store.upTo("acme", s.now, s.now)
	same(t, "rate 30s over hours", s.one("rate(hits_total[30s])", at), 4)
	same(t, "rate 5m over hours", s.one("rate(hits_total[5m])", at.Add(20*time.Minute)), 4)
	same(t, "histogram over hours", s.one("histogram_count(rate(latency_seconds[5m]))", at), 1)
	for _, q := range s.store.reads[len(s.store.reads)-1:] {
		if q.Tier != promql.Tier1h {
			t.Errorf("got tier %s, want 1h after 40 days", time.Duration(q.Tier))
		}
	}
}

// A subquery would cut start timestamps off: over a bare counter it is a plain range.
func TestSubqueries(t *testing.T) {
	s := newServer(t)
	s.store.add(t, "acme", events.Delta, "hits_total", nil, every(time.Second, epoch, epoch.Add(2*time.Hour), 1)...)
	at := epoch.Add(time.Hour)
	same(t, "increase over a subquery", s.one("increase(hits_total[5m:1m])", at), 300)
	same(t, "with offsets", s.one("increase((hits_total offset 1m)[5m:1m] offset 2m)", at), 300)
	same(t, "max of rate", s.one("max_over_time(rate(hits_total[5m])[30m:1m])", at), 1)
	same(t, "misaligned", s.one("max_over_time(rate(hits_total[5m])[30m:1m])", at.Add(7*time.Second)), 1)
	a := s.do("acme", "GET", "/query", url.Values{"query": {"increase(hits_total[5m:1m] @ 1795525200)"}, "time": {seconds(at)}})
	if len(a.Warnings) != 1 || !strings.Contains(a.Warnings[0], "write increase(hits_total[5m])") {
		t.Errorf("got warnings %q, want what to write instead", a.Warnings)
	}
}

// Gauges and cumulative totals are samples at their own times.
func TestLevels(t *testing.T) {
	s := newServer(t)
	s.store.add(t, "acme", events.Gauge, "temp", nil, event{epoch.Add(3 * time.Second), 20}, event{epoch.Add(8 * time.Second), 21}, event{epoch.Add(14 * time.Second), 22})
	var total []event
	for i := range 121 {
		total = append(total, event{epoch.Add(time.Duration(i) * 15 * time.Second), float64(i * 30)})
	}
	s.store.add(t, "acme", events.Cumulative, "requests_total", nil, total...)
	same(t, "before", s.one("temp", epoch), none)
	same(t, "the last of a pane", s.one("temp", epoch.Add(10*time.Second)), 21)
	same(t, "the next pane", s.one("temp", epoch.Add(20*time.Second)), 22)
	same(t, "its time", s.one("timestamp(temp)", epoch.Add(20*time.Second)), float64(epoch.Unix()+14))
	same(t, "still valid", s.one("temp", epoch.Add(5*time.Minute+10*time.Second)), 22)
	same(t, "no more", s.one("temp", epoch.Add(5*time.Minute+20*time.Second)), none)

	same(t, "rate of a cumulative total", s.one("rate(requests_total[5m])", epoch.Add(20*time.Minute)), 2)
	same(t, "a range too short, as in Prometheus", s.one("rate(requests_total[10s])", epoch.Add(20*time.Minute)), none)
}

// Wide windows make gauges valid for longer, and an ended one does not linger for it.
func TestStaleness(t *testing.T) {
	s := newServer(t, func(s *server) { s.now = epoch.Add(10 * 24 * time.Hour) })
	s.store.add(t, "acme", events.Gauge, "temp", nil, every(30*time.Second, epoch, epoch.Add(time.Hour), 20)...)
	s.store.add(t, "acme", events.Delta, "hits_total", nil, every(30*time.Second, epoch, epoch.Add(time.Hour), 1)...)
	same(t, "in life", s.one("temp", epoch.Add(30*time.Minute)), 20)
	same(t, "ended, 1 m windows", s.one("temp", epoch.Add(66*time.Minute)), none)
	s.now = epoch.Add(40 * 24 * time.Hour)
	s.store.upTo("acme", s.now, s.now)
	same(t, "1 h windows", s.one("temp", epoch.Add(90*time.Minute)), 20)
	same(t, "ended, 1 h windows", s.one("temp", epoch.Add(4*time.Hour)), none)
	same(t, "counter over 1 h windows", s.one("hits_total", epoch.Add(90*time.Minute)), 120)
	same(t, "ended counter", s.one("hits_total", epoch.Add(6*time.Hour)), none)
}

// decodeCount reads a histogram of so many values in one bucket.
func decodeCount(bytes string) (*events.Histogram, error) {
	var n float64
	if _, err := fmt.Sscan(bytes, &n); err != nil {
		return nil, err
	}
	return &events.Histogram{Scale: 3, Count: n, Sum: 2 * n, Positive: events.Buckets{Offset: 7, Counts: []float64{n}}}, nil
}

// Native histograms that came as samples keep their own schema and Prometheus' semantics.
func TestNativeLevels(t *testing.T) {
	s := newServer(t, func(s *server) { s.options.DecodeHistogram = decodeCount })
	h := s.store.add(t, "acme", events.Cumulative, "rpc_seconds", nil)
	h.Native = true
	for i := range 60 {
		h.events = append(h.events, event{epoch.Add(time.Duration(i) * 15 * time.Second), 0})
		h.hists = append(h.hists, fmt.Sprint(i*30))
	}
	h.events, h.hists = append(h.events, event{epoch.Add(16 * time.Minute), 7}), append(h.hists, "")
	same(t, "a float among histograms", s.one("rpc_seconds", epoch.Add(17*time.Minute)), 7)
	same(t, "rate", s.one("histogram_count(rate(rpc_seconds[5m]))", epoch.Add(10*time.Minute)), 2)
	same(t, "average", s.one("histogram_avg(rate(rpc_seconds[5m]))", epoch.Add(10*time.Minute)), 2)
	// OTel bucket 7 of scale 3 is (2^(7/8), 2].
	if q := s.one("histogram_quantile(1, rate(rpc_seconds[5m]))", epoch.Add(10*time.Minute)); !near(q, 2, 1e-9) {
		t.Errorf("quantile: got %v, want the bucket's upper bound 2", q)
	}
}

// Names: what was stored hides what is derived; kinds that share labels are told apart by order, with a word.
func TestNames(t *testing.T) {
	s := newServer(t)
	shop := map[string]string{"service": "shop"}
	at := epoch.Add(time.Minute)
	s.store.add(t, "acme", events.Observation, "job", shop, event{epoch, 2})
	s.store.add(t, "acme", events.Gauge, "job_count", shop, event{epoch, 42})
	same(t, "stored", s.one("job_count", at), 42)
	same(t, "derived", s.one("increase(job_sum[1m])", at), 2)

	s.store.add(t, "acme", events.Delta, "both", shop, event{epoch, 1})
	s.store.add(t, "acme", events.Gauge, "both", shop, event{epoch, 9})
	s.now = s.now.Add(time.Minute) // the list of metrics is kept for seconds
	a := s.do("acme", "GET", "/query", url.Values{"query": {"increase(both[1m])"}, "time": {seconds(at)}})
	if !strings.Contains(string(a.Data.Result), `"1"`) || len(a.Warnings) != 1 || !strings.Contains(a.Warnings[0], "another kind") {
		t.Errorf("got %s, want the delta and a warning", a.body)
	}
	// A regular expression on names meets derived ones.
	if got := s.vector(`{__name__=~"job.*", service="shop", le=~"|1|2.5"}`, at); len(got) != 5 { // job, job_count, job_sum, two buckets
		t.Errorf("got %v, want 5 series", got)
	}
	if got := len(s.vector(`job_bucket{service="shop"}`, at)); got != len(promql.DefaultConfig().BucketBounds)+1 {
		t.Errorf("got %d buckets", got)
	}
	same(t, "classic quantile", math.Round(s.one(`histogram_quantile(1, sum by (le) (rate(job_bucket[1m])))`, at)*10), 25)
}

func TestTenantsAreApart(t *testing.T) {
	s := newServer(t)
	s.store.add(t, "acme", events.Delta, "hits_total", nil, event{epoch, 1})
	s.store.add(t, "demo", events.Delta, "secret_total", map[string]string{"who": "demo"}, event{epoch, 1})
	s.store.upTo("demo", s.now, s.now)
	for path, form := range map[string]url.Values{
		"/query":                 {"query": {`{__name__=~".+"}`}, "time": {seconds(epoch.Add(10 * time.Second))}},
		"/series":                {"match[]": {`{__name__=~".+"}`}, "start": {"0"}},
		"/labels":                {"start": {"0"}},
		"/label/__name__/values": {"start": {"0"}},
		"/label/who/values":      {"start": {"0"}},
		"/metadata":              {},
		"/query_range":           {"query": {`{__name__=~".+"}`}, "start": {seconds(epoch)}, "end": {seconds(s.now)}, "step": {"60"}},
	} {
		if a := s.do("acme", "GET", path, form); a.code != 200 || strings.Contains(a.body, "secret") || strings.Contains(a.body, "demo") || strings.Contains(a.body, "who") {
			t.Errorf("%s for acme: got %s", path, a.body)
		}
		if a := s.do("demo", "GET", path, form); a.code != 200 || strings.Contains(a.body, "hits_total") {
			t.Errorf("%s for demo: got %s", path, a.body)
		}
	}
}

// A wider tier is read when it gives the same answer for less.
func TestTierChoice(t *testing.T) {
	s := newServer(t, func(s *server) { s.now = epoch.Add(50 * time.Hour) })
	s.store.add(t, "acme", events.Delta, "hits_total", nil, every(17*time.Second, epoch, s.now, 1)...)
	s.store.add(t, "acme", events.Gauge, "temp", nil, every(17*time.Second, epoch, s.now, 1)...)
	f := func(query string, step time.Duration, want promql.Tier) {
		t.Helper()
		s.store.reads = nil
		s.matrix(query, epoch.Add(3*time.Hour), epoch.Add(48*time.Hour), step)
		var got promql.Tier
		for _, r := range s.store.reads {
			got = max(got, r.Tier)
		}
		if len(s.store.reads) == 2 { // then the look for earlier activity
			got = s.store.reads[0].Tier
		}
		if got != want {
			t.Errorf("%s step %s: got %s, want %s", query, step, time.Duration(got), time.Duration(want))
		}
	}
	f("rate(hits_total[5m])", time.Minute, promql.Tier1m)
	f("rate(hits_total[1h])", time.Hour, promql.Tier1h)
	f("rate(hits_total[90s])", time.Minute, promql.Tier10s)
	f("max_over_time(hits_total[1h])", time.Hour, promql.Tier10s)
	f("temp", time.Minute, promql.Tier1m)
	f("avg_over_time(temp[1h])", time.Hour, promql.Tier10s)
	same(t, "sum of both", s.one("sum(increase(hits_total[3h]))", epoch.Add(6*time.Hour)), float64(len(within(s.store.series["acme"][0].events, epoch.Add(3*time.Hour), epoch.Add(6*time.Hour)))))
}

// A series that its sender says has ended is not there from then on, and may begin again. Wide windows know of their
// last event only.
func TestStaleMarkers(t *testing.T) {
	end := math.Inf(-1)
	for _, pushdown := range []bool{true, false} {
		s := newServer(t, func(s *server) { s.cfg.Pushdown, s.options.DecodeHistogram = pushdown, decodeCount })
		s.store.add(t, "acme", events.Gauge, "temp", map[string]string{"host": "a"},
			event{epoch, 1}, event{epoch.Add(15 * time.Second), end}, event{epoch.Add(2 * time.Minute), 3})
		s.store.add(t, "acme", events.Cumulative, "bytes_total", nil, append(every(15*time.Second, epoch, epoch.Add(3*time.Minute), 5), event{epoch.Add(3 * time.Minute), end})...)
		h := s.store.add(t, "acme", events.Cumulative, "lat", nil, event{epoch, 0}, event{epoch.Add(30 * time.Second), end})
		h.hists, h.Native = []string{"60", ""}, true
		at := func(query string, after time.Duration, want float64) {
			t.Helper()
			same(t, fmt.Sprintf("pushdown %v: %s after %s", pushdown, query, after), s.one(query, epoch.Add(after)), want)
		}
		at("temp", 10*time.Second, 1)
		at("max(temp)", 10*time.Second, 1)
		at("temp", 20*time.Second, none)
		at("count(temp)", 20*time.Second, none)
		at("absent(temp)", 20*time.Second, 1)
		at("temp", 2*time.Minute, 3)
		at("sum(temp)", 4*time.Minute, 3)
		at("avg_over_time(temp[5m])", 3*time.Minute, 2) // the marker is no sample
		at("count_over_time(temp[5m])", 3*time.Minute, 2)
		at("bytes_total", 170*time.Second, 5)
		at("bytes_total", 180*time.Second, none)
		at("increase(bytes_total[2m])", 180*time.Second, 0)
		at("histogram_count(lat)", 20*time.Second, 60)
		at("histogram_count(lat)", 30*time.Second, none)
	}
}

// A limit counts series as they are shown: a gauge and a total with the same labels are one.
func TestLimitOfSeriesThatAreOne(t *testing.T) {
	s := newServer(t)
	for _, host := range []string{"a", "b", "c"} {
		s.store.add(t, "acme", events.Gauge, "m", map[string]string{"host": host}, event{epoch, 1})
		s.store.add(t, "acme", events.Cumulative, "m", map[string]string{"host": host}, event{epoch.Add(time.Minute), 1})
	}
	f := func(limit string, want int, warned bool) {
		t.Helper()
		a := s.do("acme", "GET", "/series", url.Values{"match[]": {"m"}, "limit": {limit}})
		var answer struct{ Data []map[string]string }
		if err := json.Unmarshal([]byte(a.body), &answer); err != nil {
			t.Fatal(err)
		}
		if len(answer.Data) != want || len(a.Warnings) > 0 != warned {
			t.Errorf("limit %s: got %d series and warnings %q, want %d and a warning %v", limit, len(answer.Data), a.Warnings, want, warned)
		}
	}
	f("0", 3, false)
	f("1", 1, true)
	f("2", 2, true)
	f("3", 3, false)
	f("9223372036854775807", 3, false)
}
