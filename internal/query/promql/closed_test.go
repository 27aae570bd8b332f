package promql_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/query/promql"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/sketches"
)

// result is a closed window with n observations of v.
func result(start, end time.Time, n uint64, v float64) promql.Closed {
	var s sketches.Sketch
	s.AddN(v, float64(n))
	return promql.Closed{Start: start.UnixMilli(), End: end.UnixMilli(), Count: n, Sum: float64(n) * v, Min: v, Max: v, Sketch: s.AppendDD(nil)}
}

// A result stands from the end of its window until the next window has ended.
func TestClosedTumbling(t *testing.T) {
	s := newServer(t, func(s *server) { s.now = epoch.Add(24 * time.Hour) })
	at := func(h int) time.Time { return epoch.Add(time.Duration(h) * time.Hour) }
	s.store.window(t, events.Observation, "checkout_1h", "tumbling 1h", map[string]string{"route": "/pay"},
		result(at(0), at(1), 7, 2), result(at(1), at(2), 5, 4), result(at(4), at(5), 3, 8))
	f := func(query string, when time.Time, want float64) {
		t.Helper()
		same(t, fmt.Sprintf("%s at %s", query, when.Format(time.TimeOnly)), s.one(query, when), want)
	}
	f("checkout_1h_count", at(1).Add(-10*time.Second), none)
	f("checkout_1h_count", at(1), 7)
	f("checkout_1h_count", at(2).Add(-10*time.Second), 7)
	f("checkout_1h_count", at(2), 5)
	f("checkout_1h_count", at(3).Add(-10*time.Second), 5)
	f("checkout_1h_count", at(3), none)
	f("checkout_1h_count", at(5).Add(59*time.Minute), 3)
	f("checkout_1h_count", at(6), none)
	f("checkout_1h_sum", at(2), 20)
	f("checkout_1h_min", at(2), 4)
	f("checkout_1h_max", at(5), 8)
	f("histogram_count(checkout_1h)", at(2), 5)
	f("histogram_avg(checkout_1h)", at(2), 4)
	f("timestamp(checkout_1h_count)", at(2).Add(20*time.Minute), float64(at(2).Unix()))
	f(`checkout_1h_bucket{le="5"}`, at(2), 5)
	f(`checkout_1h_bucket{le="2.5"}`, at(2), 0)
	// Windows that do not overlap add up.
	f("sum_over_time(checkout_1h_count[6h])", at(6), 15)
	f("max_over_time(checkout_1h_max[6h])", at(6), 8)
	f("histogram_count(sum_over_time(checkout_1h[6h]))", at(6), 15)
	if q := s.one("histogram_quantile(0.5, checkout_1h)", at(2)); !near(q, 4, 0.0109) {
		t.Errorf("median: got %v, want 4 to one bucket", q)
	}
	a := s.do("acme", "GET", "/query", url.Values{"query": {"rate(checkout_1h_count[6h])"}, "time": {seconds(at(6))}})
	if len(a.Warnings) != 1 || !strings.Contains(a.Warnings[0], "sum_over_time") {
		t.Errorf("rate: got warnings %q, want what to write instead", a.Warnings)
	}
}

// Items of a top come and go with windows: one that the next has not ends with it, as does everything when the next is
// empty. Windows from before their rule kept a measure have none.
func TestClosedKept(t *testing.T) {
	s := newServer(t)
	at := func(m int) time.Time { return epoch.Add(time.Duration(m) * time.Minute) }
	kept := func(from int, first float64, users int, items []string, counts ...float64) promql.Closed {
		w := result(at(from), at(from+1), 6, 2)
		var d sketches.Distinct
		for i := range users {
			d.Add(fmt.Append(nil, i))
		}
		w.Kept, w.First, w.Last, w.Distinct = promql.KeptFirst|promql.KeptLast|promql.KeptDistinct|promql.KeptTop, first, first+1, d.AppendState(nil)
		w.Items, w.Counts = items, counts
		return w
	}
	old := result(at(0), at(1), 6, 2)
	old.First, old.Last = none, none
	s.store.window(t, events.Observation, "v", "tumbling 1m", map[string]string{"route": "/"}, old,
		kept(1, 5, 3, []string{"a", "b"}, 4, 2), kept(2, 7, 0, []string{"b", "c"}, 3, 1), kept(4, 9, 2, []string{"a"}, 6))
	s.store.window(t, events.Delta, "bytes", "tumbling 1m", nil, result(at(1), at(2), 6, 20))
	s.store.window(t, events.Observation, "visit", "session 1m", nil, kept(1, 5, 3, []string{"a"}, 4), kept(2, 7, 1, []string{"b"}, 3))
	f := func(query string, when time.Time, want float64) {
		t.Helper()
		same(t, fmt.Sprintf("%s at %s", query, when.Format(time.TimeOnly)), s.one(query, when), want)
	}
	f("v_rate", at(1), 0.1)
	f("bytes_rate", at(2), 2)
	f("v_first", at(1), none)
	f("v_distinct", at(1), none)
	f("v_first", at(2), 5)
	f("v_last", at(2), 6)
	f("v_distinct", at(2), 3)
	f("v_distinct", at(3), 0)
	f("v_first", at(4), none)
	f(`v_top{item="a"}`, at(2).Add(50*time.Second), 4)
	f(`v_top{item="a"}`, at(3), none)
	f(`v_top{item="b"}`, at(2), 2)
	f(`v_top{item="b"}`, at(3), 3)
	f(`v_top{item=~"b|c",route="/"}`, at(2), 2)
	f(`count(v_top)`, at(3), 2)
	f(`v_top{item="b"}`, at(4), none)
	f(`v_top{item="a"}`, at(5), 6)
	f(`v_top{item="nothing"}`, at(5), none)
	f(`v_top{route="/other"}`, at(5), none)
	f(`sum_over_time(v_top{item="a"}[10m])`, at(5), 10)
	f(`visit_top{item="a"}`, at(2), 4)
	f(`visit_top{item="a"}`, at(3), none)
	f(`visit_top{item="b"}`, at(3), 3)
	f("bytes_first", at(2), none)
}

// A month's result stands for the next month, however long: 28 days are followed by 31. It makes no other selector of
// the query look back as far.
func TestClosedCalendar(t *testing.T) {
	day := func(month time.Month, d int) time.Time { return time.Date(2026, month, d, 0, 0, 0, 0, time.UTC) }
	s := newServer(t, func(s *server) { s.now = day(5, 20) })
	s.store.window(t, events.Delta, "tokens_month", "calendar month UTC", nil,
		result(day(1, 1), day(2, 1), 1, 310), result(day(2, 1), day(3, 1), 1, 280))
	s.store.add(t, "acme", events.Gauge, "temp", nil, event{s.now.Add(-time.Hour), 20}, event{s.now.Add(-2 * time.Minute), 21})
	same(t, "January's on 28 February", s.one("tokens_month", day(2, 28)), 310)
	same(t, "February's on 1 March", s.one("tokens_month", day(3, 1)), 280)
	same(t, "February's on 31 March", s.one("tokens_month", day(4, 1).Add(-10*time.Second)), 280)
	same(t, "after an empty March", s.one("tokens_month", day(4, 1)), none)
	same(t, "of the year", s.one("sum_over_time(tokens_month[1y])", s.now), 590)
	s.store.reads = nil
	s.vector("tokens_month or temp", s.now)
	if len(s.store.reads) == 0 {
		t.Error("temp: got no read, want one")
	}
	for _, r := range s.store.reads {
		if back := time.Duration(s.now.UnixMilli()-r.From) * time.Millisecond; back > 10*time.Minute {
			t.Errorf("temp: read from %s back, want no further than its own lookback", back)
		}
	}
}

// Windows that overlap are replaced as often as one ends; a session's result stands as long as a gauge.
func TestClosedHoppingAndSessions(t *testing.T) {
	s := newServer(t)
	at := func(m int) time.Time { return epoch.Add(time.Duration(m) * time.Minute) }
	var hops []promql.Closed
	for i := range 5 {
		hops = append(hops, result(at(i), at(i+10), uint64(i+1), 1))
	}
	s.store.window(t, events.Observation, "checkout_10m", "hopping 10m every 1m", nil, hops...)
	s.store.window(t, events.Observation, "visit", "session 30m", map[string]string{"user": "ann"}, result(at(0), at(50), 4, 1))
	s.store.window(t, events.Observation, "later", "a shape of the future", nil, result(at(0), at(50), 4, 1))
	same(t, "third", s.one("checkout_10m_count", at(12).Add(50*time.Second)), 3)
	same(t, "last", s.one("checkout_10m_count", at(14).Add(50*time.Second)), 5)
	same(t, "none ended after it", s.one("checkout_10m_count", at(15)), none)
	for _, name := range []string{"visit_count", "later_count"} {
		same(t, name, s.one(name, at(54).Add(50*time.Second)), 4)
		same(t, name+", later", s.one(name, at(55).Add(10*time.Second)), none)
	}
}

// A window is there when the tenant's own watermark has passed its end in every partition where he is heard of, and
// until then the one before stands.
func TestClosedWatermark(t *testing.T) {
	s := newServer(t)
	at := func(m int) time.Time { return epoch.Add(time.Duration(m) * time.Minute) }
	s.store.window(t, events.Observation, "w", "tumbling 1m", nil, result(at(0), at(1), 1, 1), result(at(1), at(2), 2, 1), result(at(2), at(3), 3, 1))
	s.now = at(5)
	progress := func(second, updated time.Time) {
		s.now = s.now.Add(10 * time.Second) // progress is kept for a second
		s.store.progress["acme"] = []promql.Progress{
			{Topic: "t", Time: at(5).UnixMilli(), Updated: s.now.UnixMilli()},
			{Topic: "t", Partition: 1, Time: at(5).UnixMilli(), Updated: s.now.UnixMilli()},
			{Topic: "t", Tenant: "acme", Time: at(5).UnixMilli(), Updated: s.now.UnixMilli()},
			{Topic: "t", Partition: 1, Tenant: "acme", Time: second.UnixMilli(), Updated: updated.UnixMilli()},
		}
	}
	progress(at(2), s.now)
	same(t, "one partition behind", s.one("w_count", at(4)), 2)
	same(t, "sum of what is closed", s.one("sum_over_time(w_count[10m])", at(4)), 3)
	progress(at(3), s.now)
	same(t, "both there", s.one("w_count", at(3)), 3)
	same(t, "no news of the next", s.one("w_count", at(4)), 3)
	progress(at(2), at(2).Add(10*time.Second))
	same(t, "silent, but not for long", s.one("w_count", at(3)), 2)
	progress(at(2), at(2))
	same(t, "silent for a minute longer than it takes", s.one("w_count", at(3)), 3)
	same(t, "what follows is not known", s.one("w_count", at(4)), 3)
	progress(at(2), at(1))
	same(t, "the next is empty", s.one("w_count", at(4)), none)
}

func TestClosedMetadata(t *testing.T) {
	s := newServer(t)
	s.store.window(t, events.Observation, "w", "hopping 5m every 1m", nil, result(epoch, epoch.Add(5*time.Minute), 1, 1))
	s.store.window(t, events.Delta, "d", "calendar day Europe/Paris", nil, result(epoch, epoch.Add(5*time.Minute), 1, 1))
	a := s.do("acme", "GET", "/metadata", nil)
	for _, want := range []string{
		`"w":[{"type":"gaugehistogram","help":"Closed windows, hopping 5m every 1m.","unit":""}]`, `"w_count":[{"type":"gauge"`, `"w_max":[{"type":"gauge"`,
		`"d":[{"type":"gauge","help":"Closed windows, calendar day Europe/Paris.","unit":""}]`,
	} {
		if !strings.Contains(a.body, want) {
			t.Errorf("got %s, want %s in it", a.body, want)
		}
	}
	a = s.do("acme", "GET", "/label/__name__/values", nil)
	if !strings.Contains(a.body, `["d","d_rate","w","w_bucket","w_count","w_max","w_min","w_rate","w_sum"]`) {
		t.Errorf("names: got %s", a.body)
	}
}
