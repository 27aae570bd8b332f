package verify_test

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/pipeline/rollup"
	"github.com/vigie-io/vigie/internal/pipeline/verify"
	"github.com/vigie-io/vigie/internal/pipeline/windowed"
	"github.com/vigie-io/vigie/internal/units"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
	"github.com/vigie-io/vigie/pkg/sketches"
)

// windowTable is what ClickHouse makes of rows of windows.
type windowTable map[string]*windowRow

type windowRow struct {
	verify.WindowRow
	kind    windowed.Kind
	version uint32
}

func (tb windowTable) insert(b *windowed.Rows) {
	states, distinct := b.Sketch, b.Distinct
	for i := range b.Tenant {
		r := &windowRow{kind: b.Kind[i], version: b.Version[i], WindowRow: verify.WindowRow{
			WindowKey: verify.WindowKey{Key: verify.Key{Tenant: b.Tenant[i], Metric: b.Metric[i], Service: b.Service[i],
				ID: b.Series[i], Start: b.Start[i]},
				End: b.End[i], Rule: b.Rule[i], Part: b.Part[i]},
			Count: b.Count[i], Sum: b.Sum[i], Min: b.Min[i], Max: b.Max[i],
		}}
		r.Sketch, states = cut(states, new(sketches.Sketch).DecodeDD)
		if len(b.Measures) > 0 {
			r.Measures, r.FirstTime, r.First, r.LastTime, r.Last = b.Measures[i], b.FirstTime[i], b.First[i], b.LastTime[i], b.Last[i]
			r.Distinct, distinct = cut(distinct, new(sketches.Distinct).DecodeState)
			top := b.Top[i]
			r.Items, r.Counts, r.Errors, r.Floor, r.Total = top.Items, top.Counts, top.Errors, top.Floor, top.Total
		}
		key := fmt.Sprint(r.WindowKey, b.Delta[i])
		if old := tb[key]; old == nil || old.version < r.version {
			tb[key] = r
		}
	}
}

func cut(states []byte, decode func([]byte) (int, error)) (first, rest []byte) {
	n, err := decode(states)
	if err != nil {
		panic(err)
	}
	return slices.Clone(states[:n]), states[n:]
}

// WindowRows implements verify.WindowStore.
func (tb windowTable) WindowRows(_ context.Context, q verify.WindowQuery, yield func(*verify.WindowRow) error) error {
	merged := map[verify.WindowKey]*verify.WindowRow{}
	for _, name := range slices.Sorted(maps.Keys(tb)) {
		r := tb[name]
		if r.kind == windowed.Retracted || r.Start < q.From || r.Start >= q.To || !strings.HasPrefix(r.Part, q.Parts) {
			continue
		}
		one := r.WindowRow
		if r.kind >= windowed.Late {
			one.Late = one.Count
		}
		if all := merged[r.WindowKey]; all != nil {
			mergeRows(all, &one)
		} else {
			merged[r.WindowKey] = &one
		}
	}
	for _, r := range merged {
		if err := yield(r); err != nil {
			return err
		}
	}
	return nil
}

func mergeRows(a, b *verify.WindowRow) {
	a.Late, a.Count, a.Sum, a.Min, a.Max = a.Late+b.Late, a.Count+b.Count, a.Sum+b.Sum, min(a.Min, b.Min), max(a.Max, b.Max)
	var x, y sketches.Sketch
	must(x.DecodeDD(a.Sketch))
	must(y.DecodeDD(b.Sketch))
	x.Merge(&y)
	a.Sketch = x.AppendDD(nil)
	if b.Measures == 0 {
		return
	}
	if b.FirstTime != 0 && (a.FirstTime == 0 || cmp.Or(cmp.Compare(b.FirstTime, a.FirstTime), cmp.Compare(b.First, a.First)) < 0) {
		a.FirstTime, a.First = b.FirstTime, b.First
	}
	if cmp.Or(cmp.Compare(b.LastTime, a.LastTime), cmp.Compare(b.Last, a.Last)) > 0 {
		a.LastTime, a.Last = b.LastTime, b.Last
	}
	var p, q sketches.Distinct
	must(p.DecodeState(a.Distinct))
	must(q.DecodeState(b.Distinct))
	p.Merge(&q)
	a.Distinct = p.AppendState(nil)
	a.Items, a.Counts, a.Errors = slices.Clone(a.Items), slices.Clone(a.Counts), slices.Clone(a.Errors)
	for i, item := range b.Items {
		at := slices.Index(a.Items, item)
		if at < 0 {
			at = len(a.Items)
			a.Items, a.Counts, a.Errors = append(a.Items, item), append(a.Counts, 0), append(a.Errors, 0)
		}
		a.Counts[at], a.Errors[at] = a.Counts[at]+b.Counts[i], a.Errors[at]+b.Errors[i]
	}
	a.Floor, a.Total = a.Floor+b.Floor, a.Total+b.Total
}

func must(_ int, err error) {
	if err != nil {
		panic(err)
	}
}

var windowShapes = []windowed.Window{
	{Tumbling: 10 * time.Second},
	{Hopping: &windowed.Hopping{Size: 25 * time.Second, Every: 10 * time.Second}},
	{Calendar: &windowed.Calendar{Unit: "day", Zone: "Europe/Paris"}},
	{Session: &windowed.Session{Gap: 7 * time.Second, By: []string{"user"}}},
}

func drawWindowed(t *rapid.T) rollup.Declared {
	w := rapid.SampledFrom(windowShapes).Draw(t, "shape")
	w.AllowedLateness = time.Duration(rapid.SampledFrom([]int{0, 0, 15, 1000}).Draw(t, "lateness")) * time.Second
	late := []string{"", "recompute", "merge", "divert"}
	if w.Session != nil {
		late = []string{"recompute", "divert"}
	}
	w.Late = rapid.SampledFrom(late).Draw(t, "late")
	r := rollup.Declared{Name: "w", From: events.Metrics, Where: `name == "m"`, By: []string{"service"}, Window: &w}
	if rapid.Bool().Draw(t, "also") {
		r.AlsoBy = [][]string{{}}
	}
	if rapid.Bool().Draw(t, "keep") {
		r.Keep = &windowed.Keep{First: true, Last: true, Distinct: "user",
			Top: &windowed.Top{Of: "user", K: 2, Weight: "bytes", Unit: 0.5, Counters: 2}}
	}
	return r
}

// drawWindowTopic draws events whose times jump back and forth, with silences between.
func drawWindowTopic(t *rapid.T, s *fakeSource) {
	at := now.Add(-time.Hour)
	for range rapid.IntRange(1, 60).Draw(t, "records") {
		at = at.Add(time.Duration(rapid.SampledFrom([]int{0, 0, 1, 2, 5, 20, 120}).Draw(t, "step")) * time.Second)
		pick := func(name string, of ...string) string { return rapid.SampledFrom(of).Draw(t, name) }
		m := events.Metric{Name: "m", Tenant: pick("tenant", "acme", "demo"),
			Value: float64(rapid.IntRange(1, 64).Draw(t, "value")) / 8,
			Time:  at.Add(-time.Duration(rapid.SampledFrom([]int{0, 0, 0, 1, 3, 8, 30, 100}).Draw(t, "late")) * time.Second).UnixNano(),
			Labels: series.Labels{{Name: "bytes", Value: strconv.Itoa(rapid.IntRange(0, 9).Draw(t, "bytes"))},
				{Name: "service", Value: pick("service", "s", "r")}}}
		if user := pick("user", "", "ann", "bob", "cid"); user != "" {
			m.Labels = append(m.Labels, series.Label{Name: "user", Value: user})
		}
		s.add(int32(rapid.IntRange(0, 1).Draw(t, "partition")), m.Tenant, at, events.AppendMetric(nil, &m))
	}
}

func findWindows(t rapid.TB, cfg verify.Config, s *fakeSource) (verify.Summary, []verify.Difference) {
	t.Helper()
	var found []verify.Difference
	sum, err := verify.RunWindows(context.Background(), cfg, s, s.windows, func(d verify.Difference) { found = append(found, d) })
	if err != nil {
		t.Fatal(err)
	}
	return sum, found
}

func windowConfig(rollups ...rollup.Declared) verify.Config {
	cfg := config(events.Metrics, verify.Windows())
	cfg.Topic, cfg.Rollups, cfg.IdleAfter, cfg.Memory = "t", rollups, pipeline.DefaultConfig().IdleAfter, 64<<20
	return cfg
}

// Whatever the windows, the late policy, the order of events, the epochs and the silences: what the pipeline stores is
// no difference, and a changed row is one, unless nobody can tell.
func TestWindowsAreRecounted(t *testing.T) {
	rows, incomparable, changes, told := 0, 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		s := newSource(events.Metrics)
		s.rollups = []rollup.Declared{drawWindowed(t)}
		long := rapid.Bool().Draw(t, "long epochs")
		s.delays = func() bool { return long && rapid.IntRange(0, 3).Draw(t, "goes on") > 0 }
		drawWindowTopic(t, s)
		cfg := windowConfig(s.rollups...)
		cfg.Memory = units.Bytes(rapid.SampledFrom([]int{3000, 64 << 20}).Draw(t, "memory"))
		_, err := verify.RunWindows(context.Background(), cfg, s, s.windows, func(verify.Difference) {})
		if err != nil && cfg.Memory < 1<<20 {
			t.Skip("one series needs more")
		}
		if err != nil {
			t.Fatal(err)
		}
		sum, found := findWindows(t, cfg, s)
		if len(found) > 0 {
			t.Fatalf("got %v of %+v, want no difference", found, sum)
		}
		rows, incomparable = rows+sum.Rows, incomparable+sum.Incomparable
		if len(s.windows) == 0 {
			return
		}
		r := s.windows[rapid.SampledFrom(slices.Sorted(maps.Keys(s.windows))).Draw(t, "row")]
		if r.kind == windowed.Retracted {
			return
		}
		before := *r
		switch rapid.IntRange(0, 6).Draw(t, "change") {
		case 0:
			r.Count += 1000
		case 1:
			r.Sum++
		case 2:
			r.Start, r.End = r.Start+1, r.End+1
		case 3:
			r.Sketch = new(sketches.Sketch).AppendDD(nil)
		case 4:
			r.kind = windowed.Retracted
		case 5:
			r.Last, r.LastTime = r.Last+1, r.LastTime+1e12
			if r.Measures == 0 {
				return
			}
		case 6:
			r.Total++
			if r.Measures == 0 {
				return
			}
		}
		after, found := findWindows(t, cfg, s)
		if changes++; len(found) > 0 {
			told++
		}
		knows := after.Incomparable == 0 && after.Open == sum.Open // a clock may have closed it, or not yet
		if r.kind == windowed.Retracted && after.Incomparable < sum.Incomparable {
			return // nobody could tell whether the row's late event came in time: with the row goes the question
		}
		if len(found) == 0 && (knows || before.Count != r.Count) {
			t.Fatalf("got no difference for %+v instead of %+v: %+v, before %+v", r, before, after, sum)
		}
	})
	if rows < incomparable {
		t.Errorf("got %d rows compared and %d not comparable, want more of the former", rows, incomparable)
	}
	if told < changes/2 {
		t.Errorf("got a difference for %d of %d changed rows, want most", told, changes)
	}
}
