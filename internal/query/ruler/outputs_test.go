package ruler

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"

	"github.com/vigie-io/vigie/internal/alertapi"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
)

// What rules make of histograms is recorded with the buckets that they have, or counted.
func TestRecordedHistograms(t *testing.T) {
	record := func(h *histogram.FloatHistogram) (string, float64) {
		t.Helper()
		o := &outputs{tenant: "acme", overlay: newOverlay(0), metrics: newMetrics(nil)}
		o.begin(1_795_428_000_000, nil)
		if _, err := o.Append(0, labels.FromStrings("__name__", "m"), 0, 1_795_428_000_000, 0, nil, h, storage.AOptions{}); err != nil {
			t.Fatal(err)
		}
		var text string
		for _, record := range o.take() {
			b := new(events.Batch)
			events.NewDecoder(events.Options{}).Decode(b, events.Source{Signal: events.Metrics, Key: []byte("acme"), Value: record})
			if len(b.Rejects) != 0 || len(b.Metrics) != 1 {
				t.Fatalf("%s: got %d events and %+v, want one event", record, len(b.Metrics), b.Rejects)
			}
			text += string(record)
		}
		return text, testutil.ToFloat64(o.metrics.leftOut.WithLabelValues("histogram"))
	}
	f := func(h *histogram.FloatHistogram, want string) {
		t.Helper()
		const before, after = `[{"tenant":"acme","time":"2026-11-23T10:00:00Z","name":"m","kind":"gauge","histogram":`, `}]`
		if got, left := record(h); got != before+want+after || left != 0 {
			t.Errorf("got %s and %v left out, want %s", got, left, before+want+after)
		}
	}
	f(&histogram.FloatHistogram{
		Schema: 2, ZeroThreshold: 0.5, ZeroCount: 1.5, Count: 7, Sum: 2, PositiveSpans: []histogram.Span{{Offset: -3, Length: 1}, {Offset: 2, Length: 1}},
		PositiveBuckets: []float64{0.5, 1}, NegativeSpans: []histogram.Span{{Offset: 1, Length: 1}}, NegativeBuckets: []float64{4},
	}, `{"scale":2,"zero_threshold":0.5,"zero_count":1.5,"count":7,"sum":2,"positive":{"offset":-4,"counts":[0.5,0,0,1]},"negative":{"offset":0,"counts":[4]}}`)
	f(&histogram.FloatHistogram{
		Schema: histogram.CustomBucketsSchema, Count: 3, Sum: 2, CustomValues: []float64{0.1, 0.5, 1},
		PositiveSpans: []histogram.Span{{Offset: 1, Length: 1}, {Offset: 1, Length: 1}}, PositiveBuckets: []float64{2, 1},
	}, `{"scale":-53,"count":3,"sum":2,"positive":{"offset":1,"counts":[2,0,1]},"bounds":[0.1,0.5,1]}`)
	below := &histogram.FloatHistogram{Schema: 2, Count: -1, PositiveSpans: []histogram.Span{{Length: 1}}, PositiveBuckets: []float64{-1}}
	if got, left := record(below); got != "" || left != 1 {
		t.Errorf("got %s and %v left out, want a histogram below zero to be left out", got, left)
	}
}

// A series that a rule records no more goes stale at the next evaluation, once, through accidents too; one of a rule
// that cannot be evaluated does not.
func TestRecordedSeriesEnd(t *testing.T) {
	const file = `groups:
  - name: g
    interval: 10s
    rules:
      - record: positive
        expr: a > 0
      - record: joined
        expr: a * on (x) b`
	d := newDatabase(t, `
  a{x="1"} 1 1 1 0 2 2 2
  a{x="2"} 3x6
  b{x="1"} 1 1 1 1 stale _ _
  b{x="1", more="y"} _ _ _ 1 1 1 stale`)
	l := &log{database: d}
	r := newRuler(t, d, file, nil, nil)
	for _, end := range []int64{20, 60} { // another owner goes on
		s, err := r.open(t.Context(), l)
		if err != nil {
			t.Fatal(err)
		}
		for ; d.complete.Unix() <= end; d.complete = d.complete.Add(10 * time.Second) {
			d.fail = errCut
			_, _ = s.step(t.Context())
			d.fail = nil
			if _, err := s.step(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		s.close()
	}
	want := strings.Split(`20 acme joined x=1 1
20 acme positive x=1 1
20 acme positive x=2 3
30 acme positive x=1 stale 0
30 acme positive x=2 3
40 acme joined x=1 2
40 acme positive x=1 2
40 acme positive x=2 3
50 acme joined x=1 2
50 acme positive x=1 2
50 acme positive x=2 3
60 acme joined x=1 stale 0
60 acme positive x=1 2
60 acme positive x=2 3`, "\n")
	if got := sorted(l.events); !slices.Equal(got, want) {
		t.Errorf("got and not wanted, wanted and not got:\n%s", differences(got, want))
	}
}

// The series of a group that is in no file any more go stale when it would have been evaluated next, once; those that
// another group records go on.
func TestSeriesOfARemovedGroupEnd(t *testing.T) {
	f := func(after string, at int64, moves bool, want string) {
		t.Helper()
		const old = `groups: [{name: old, interval: 20s, rules: [{record: sum, expr: sum(a)}, {record: max, expr: max(a)}]}]`
		d := newDatabase(t, `
  a{x="1"} 1x20`)
		l := &log{database: d}
		r := newRuler(t, d, old, nil, nil)
		r.now = func() time.Time { return d.complete }
		path := r.files.Load().cfg.Tenants["acme"].Files[0]
		run := func(s *shardRun, until int64) {
			for ; d.complete.Unix() <= until; d.complete = d.complete.Add(10 * time.Second) {
				for more := true; more; {
					var err error
					if more, err = s.step(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		s, err := r.open(t.Context(), l)
		if err != nil {
			t.Fatal(err)
		}
		run(s, 50)
		if err := os.WriteFile(path, []byte(after), 0o600); err != nil {
			t.Fatal(err)
		}
		files, err := Load(r.files.Load().cfg)
		if err != nil {
			t.Fatal(err)
		}
		r.Replace(files)
		run(s, at)
		if text := strings.Join(l.events, "; "); strings.Contains(text, "stale") {
			t.Errorf("%s: got %s, want no end before two intervals have passed", after, text)
		}
		if moves { // another owner goes on
			s.close()
			if s, err = r.open(t.Context(), l); err != nil {
				t.Fatal(err)
			}
		}
		defer s.close()
		d.complete = time.Unix(80, 0) // the end is due, and so may be what others record
		run(s, 120)
		slices.SortStableFunc(l.events, func(a, b string) int { return cmp.Compare(seconds(a), seconds(b)) })
		if text := strings.Join(l.events, "; "); text != want {
			t.Errorf("%s:\n got %s\nwant %s", after, text, want)
		}
	}
	const before = "20 acme max 1; 20 acme sum 1; 40 acme max 1; 40 acme sum 1; 60 acme max stale 0; "
	for _, moves := range []bool{false, true} {
		f("groups: []", 70, moves, before+"60 acme sum stale 0")
		f("groups: [{name: new, interval: 20s, rules: [{record: sum, expr: sum(a)}]}]", 60, moves,
			before+"70 acme sum 1; 90 acme sum 1; 110 acme sum 1")
	}
}

func seconds(event string) (at int) {
	_, _ = fmt.Sscan(event, &at)
	return at
}

// Of results on which a rule failed no alert is made when its group goes to another owner; those that it had live on.
func TestFailedRuleChangesOwner(t *testing.T) {
	d := newDatabase(t, `
  errors{service="a", host="1"} 0 0 9 9 9 9
  errors{service="a", host="2"} 0 0 0 9 9 9
  errors{service="b", host="1"} 0 0 0 9 9 9`)
	const file = "groups: [{name: g, interval: 10s, rules: [{alert: Errors, expr: errors > 5, labels: {host: all}}]}]"
	var sent []string
	r := newRuler(t, d, file, nil, func(_ tenants.ID, list []alertapi.Alert) {
		for _, a := range list {
			sent = append(sent, fmt.Sprintf("%s %d", labels.FromMap(a.Labels), a.StartsAt.Unix()))
		}
	})
	l := &log{database: d}
	for _, end := range []int64{30, 50} {
		sent = nil
		s, err := r.open(t.Context(), l)
		if err != nil {
			t.Fatal(err)
		}
		for ; d.complete.Unix() <= end; d.complete = d.complete.Add(10 * time.Second) {
			if _, err := s.step(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		s.close()
		if want := []string{`{alertname="Errors", cluster="eu", host="all", service="a"} 20`}; !slices.Equal(sent, want) {
			t.Errorf("up to %d: got %s, want %s", end, sent, want)
		}
	}
}
