package verify_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/internal/pipeline/rollup"
	"github.com/vigie-io/vigie/internal/pipeline/verify"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
)

var grown = rollup.Declared{Name: "grown_total", From: events.Metrics, Where: `name == "total"`,
	Measure: "increase", By: []string{"service"}}

// sample is a reading of a counter, begun so long before; 0 says nothing of that.
func sample(tenant, pod string, at time.Time, value float64, begun time.Duration) []byte {
	m := events.Metric{Tenant: tenant, Time: at.UnixNano(), Name: "total", Kind: events.Cumulative, Value: value,
		Labels: series.Labels{{Name: "pod", Value: pod}, {Name: "service", Value: "s"}}}
	if begun > 0 {
		m.Start = m.Time - int64(begun)
	}
	return events.AppendMetric(nil, &m)
}

// Increases are recounted through resets, start times, samples out of order and silences; where a silence or retention
// leaves it open from what a series grew, the row is not compared, and said.
func TestIncreasesAreRecounted(t *testing.T) {
	compared := 0
	rapid.Check(t, func(t *rapid.T) {
		s := newSource(events.Metrics)
		s.rollups = []rollup.Declared{grown}
		at, quiet := now.Add(-time.Hour), true
		for range rapid.IntRange(1, 40).Draw(t, "samples") {
			step := time.Duration(rapid.IntRange(0, 60).Draw(t, "step")) * time.Second
			if rapid.IntRange(0, 20).Draw(t, "silence") == 0 {
				step = time.Duration(rapid.IntRange(4, 20).Draw(t, "minutes")) * time.Minute
			}
			value := rapid.IntRange(-1, 50).Draw(t, "value")
			quiet = quiet && step <= time.Minute && value >= 0 // nobody can say when an impossible first sample is forgotten
			at = at.Add(step)
			s.add(int32(rapid.IntRange(0, 1).Draw(t, "partition")), "acme", at,
				sample("acme", rapid.SampledFrom([]string{"a", "b"}).Draw(t, "pod"),
					at.Add(-time.Duration(rapid.IntRange(0, 90).Draw(t, "late"))*time.Second),
					float64(value), time.Duration(rapid.SampledFrom([]int{0, 0, 1, 30, 3000}).Draw(t, "begun"))*time.Second))
		}
		cfg := config(events.Metrics, rapid.SampledFrom(verify.Tables()).Draw(t, "table"))
		cfg.Rollups = s.rollups
		if at.After(cfg.Now) {
			cfg.Now = at // rows of a later time than any event can have are not read
		}
		if rapid.Bool().Draw(t, "since") {
			cfg.Since = now.Add(-time.Duration(rapid.IntRange(0, 60).Draw(t, "since minutes")) * time.Minute)
		}
		find := func() (verify.Summary, []verify.Difference) {
			var found []verify.Difference
			sum, err := verify.Run(t.Context(), cfg, s, s.store, func(d verify.Difference) { found = append(found, d) })
			if err != nil {
				t.Fatal(err)
			}
			return sum, found
		}
		sum, found := find()
		if len(found) > 0 || quiet && cfg.Since.IsZero() && sum.Incomparable > 0 {
			t.Fatalf("got differences %v in %+v", found, sum)
		}
		compared += sum.Rows
		if sum.Incomparable > 0 {
			return
		}
		for key, r := range s.store.rows[cfg.Table.Name] {
			if key.Start < sum.From || key.Metric != "grown_total" {
				continue
			}
			r.Sum++
			if _, found = find(); len(found) != 1 || found[0].Key != key {
				t.Fatalf("got differences %v, want one of %+v", found, key)
			}
			return
		}
	})
	if compared == 0 {
		t.Error("got no row compared")
	}
}

// What cannot be known is counted.
func TestIncreasesThatAreNotKnown(t *testing.T) {
	s := newSource(events.Metrics)
	s.rollups = []rollup.Declared{grown}
	cfg := config(events.Metrics, verify.Tables()[0])
	cfg.Rollups, cfg.MaxFuture = s.rollups, 0
	for i, ago := range []time.Duration{60, 59, 40, 39} {
		s.add(0, "acme", now.Add(-ago*time.Minute), sample("acme", "a", now.Add(-ago*time.Minute), float64(10+i), 0))
	}
	sum, found := run(t, cfg, s)
	// Panes of the counter itself, and of what it grew by after a minute, after a silence of nineteen, and a minute
	// again.
	if len(found) > 0 || sum.Rows != 6 || sum.Incomparable != 0 {
		t.Fatalf("got %+v and %v, want 6 rows compared: after the silence the task had forgotten the series", sum, found)
	}
	s.clock = now.UnixMilli() // it was behind, and has forgotten nothing
	clear(s.tasks)
	clear(s.done)
	clear(s.store.rows)
	if sum, found = run(t, cfg, s); len(found) > 0 || sum.Rows != 6 || sum.Incomparable != 1 {
		t.Errorf("got %+v and %v, want 6 rows compared, and one that is not", sum, found)
	}
}
