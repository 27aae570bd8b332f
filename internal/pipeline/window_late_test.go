package pipeline_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/pipeline/windowed"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/sketches"
)

// naiveWindows adds events up by name.
type naiveWindows struct {
	cells    windowTable
	sketches map[string]*sketches.Sketch
}

func (n *naiveWindows) add(name string, value float64) {
	c, known := n.cells[name]
	if !known {
		c.min, c.max, n.sketches[name] = value, value, new(sketches.Sketch)
	}
	n.sketches[name].Add(value)
	n.cells[name] = windowCell{count: c.count + 1, sum: c.sum + value, min: min(c.min, value), max: max(c.max, value),
		sketch: string(n.sketches[name].AppendDD(nil))}
}

// Whatever the order, the epochs, the aborts and the crashes, with little lateness: each event is in exactly those of
// its windows that a plain loop says it comes in time for, or beside them with the reason, and what is in none is
// counted.
func TestLatePolicies(t *testing.T) {
	shapes := []struct {
		window      windowed.Window
		size, every int64
	}{
		{windowed.Window{Tumbling: 10 * time.Second}, 10, 10},
		{windowed.Window{Hopping: &windowed.Hopping{Size: 20 * time.Second, Every: 10 * time.Second}}, 20, 10},
	}
	rapid.Check(t, func(t *rapid.T) {
		shape := rapid.SampledFrom(shapes).Draw(t, "shape")
		policy := rapid.SampledFrom([]string{"", "recompute", "merge", "divert"}).Draw(t, "late")
		lateness := rapid.SampledFrom([]int64{0, 10, 25}).Draw(t, "lateness")
		shape.window.Late, shape.window.AllowedLateness = policy, time.Duration(lateness)*time.Second
		w := newLateWorld(t, shape.window)
		want := naiveWindows{windowTable{}, map[string]*sketches.Sketch{}}
		var late, lost uint64
		w.take = func(e sessionEvent) {
			missed, taken, corrected := 0, 0, false
			for s := int64(-60); s <= 60; s += shape.every {
				if e.second < s || e.second >= s+shape.size {
					continue
				}
				name := fmt.Sprint(e.tenant, " w ", e.user, " ", s, " ", s+shape.size)
				fired, end := w.fired(e.tenant), s+shape.size
				switch tooLate := end <= fired-lateness; {
				case policy == "divert" && end <= fired:
					name += map[bool]string{false: " late", true: " too late"}[tooLate]
					missed++
				case tooLate:
					missed++
					continue
				default:
					taken++
					corrected = corrected || end <= fired
				}
				want.add(name, e.value)
			}
			switch {
			case policy == "divert" && missed > 0, corrected:
				late++
			case taken == 0:
				lost++
			}
		}
		w.run(t)
		for name := range want.cells {
			var tenant, metric, service string
			var from, to int64
			if fmt.Sscan(name, &tenant, &metric, &service, &from, &to); to > w.fired(tenant) {
				delete(want.cells, name) // open
			}
		}
		if got := w.table.view(t); !maps.Equal(got, want.cells) {
			t.Fatalf("got %v\nwant %v", got, want.cells)
		}
		if w.dropped != lost || w.missed["too_late"] != lost ||
			w.missed[map[bool]string{true: "recompute", false: policy}[policy == ""]] != late {
			t.Fatalf("got %d dropped, %v, want %d too late and %d late", w.dropped, w.missed, lost, late)
		}
		deltas := uint64(0)
		for key := range w.table {
			if _, piece, found := strings.Cut(key, "|"); found && piece[0] == '2' {
				deltas++
			}
		}
		if w.windows["merged"] != deltas || policy != "merge" && deltas > 0 || policy == "merge" && w.windows["corrected"] > 0 {
			t.Fatalf("got %v, want %d merged by policy %q", w.windows, deltas, policy)
		}
	})
}

// Sessions lose nothing either: what stands, what is beside and what is counted as too late are all events.
func TestLateSessions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		policy := rapid.SampledFrom([]string{"recompute", "divert"}).Draw(t, "late")
		gap := time.Duration(rapid.IntRange(1, 15).Draw(t, "gap")) * time.Second
		lateness := time.Duration(rapid.SampledFrom([]int{0, 10, 25}).Draw(t, "lateness")) * time.Second
		w := newLateWorld(t, windowed.Window{Session: &windowed.Session{Gap: gap}, AllowedLateness: lateness, Late: policy})
		var count uint64
		var sum float64
		w.take = func(e sessionEvent) { count, sum = count+1, sum+e.value }
		w.run(t)
		w.play(t, []sessionEvent{{"acme", "end", 200, 0}, {"demo", "end", 200, 0}})
		gotCount, gotSum := w.dropped, 0.0
		for key, c := range w.table.view(t) {
			if policy == "recompute" && strings.HasSuffix(key, "late") {
				t.Fatalf("got %s beside the sessions with policy %s", key, policy)
			}
			gotCount, gotSum = gotCount+c.count, gotSum+c.sum
		}
		if gotCount+2 != count || policy == "divert" && (w.dropped != 0 || gotSum != sum) {
			t.Fatalf("got %d events of sum %v, %d dropped, want %d of %v", gotCount, gotSum, w.dropped, count-2, sum)
		}
	})
}

// lateWorld is a task with one rollup, and what is stored of it.
type lateWorld struct {
	*accidents
	table           windowTable
	newest          map[string]int64
	take            func(sessionEvent) // an event of a committed epoch, before the epoch moves watermarks
	dropped         uint64
	missed, windows map[string]uint64
	offset          int64
}

func newLateWorld(t rapid.TB, window windowed.Window) *lateWorld {
	cfg := windowedConfig(window)
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	return &lateWorld{accidents: newAccidents(func() *pipeline.Task { return windowedTask(cfg) }), table: windowTable{},
		newest: map[string]int64{}, missed: map[string]uint64{}, windows: map[string]uint64{}}
}

// fired is the tenant's watermark in seconds, after the last committed epoch.
func (w *lateWorld) fired(tenant string) int64 {
	if newest, known := w.newest[tenant]; known {
		return newest - 5
	}
	return -1000
}

func (w *lateWorld) run(t *rapid.T) {
	for range rapid.IntRange(1, 12).Draw(t, "epochs") {
		w.play(t, drawMetrics(t, "s", "r"))
	}
}

// play takes the events of one epoch.
func (w *lateWorld) play(t *rapid.T, events []sessionEvent) {
	out := w.epoch(t, start.Add(time.Minute), func(task *pipeline.Task) {
		for i, e := range events {
			r := e.metric()
			r.Offset = w.offset + int64(i)
			step(task, start.Add(time.Minute), r)
		}
	})
	w.table.insert(t, out)
	for key, n := range out.Tally.Missed {
		w.missed[string(key.Reason)] += n
	}
	for key, n := range out.Tally.Windows {
		w.windows[string(key.Reason)] += n
	}
	for key, n := range out.Tally.Dropped {
		if key.Reason != windowed.ReasonTooLate {
			t.Fatalf("got %d events dropped for %s", n, key.Reason)
		}
		w.dropped += n
	}
	w.offset += int64(len(events))
	for _, e := range events {
		w.take(e)
	}
	for _, e := range events {
		w.newest[e.tenant] = max(w.newest[e.tenant], e.second)
	}
}

// A tenant's limits of windows hold it alone, in each shape, and follow the configuration between epochs and after a
// restore.
func TestWindowLimits(t *testing.T) {
	f := func(w windowed.Window) {
		t.Helper()
		limits := tenants.DefaultConfig()
		limits.Overrides = map[tenants.ID]tenants.Limits{"acme": {OpenWindows: 2}}
		current := &limits
		make := func() *pipeline.Task {
			return pipeline.NewTask(pipeline.TaskConfig{Partition: at, Signal: "metrics", Config: windowedConfig(w),
				Limits: func() *tenants.Config { return current }})
		}
		task, state := make(), stateLog{}
		drops := func(want uint64, services ...string) {
			t.Helper()
			for _, tenant := range []string{"acme", "demo"} {
				for _, s := range services {
					step(task, start.Add(time.Minute), record(tenant, at10(1, s)))
				}
			}
			out := drain(task, start.Add(time.Minute))
			state.append(out.State)
			task.Committed(true)
			if got := out.Tally.Dropped[pipeline.TenantReason{Tenant: "acme", Reason: windowed.ReasonWindowLimit}]; got != want ||
				out.Tally.Dropped[pipeline.TenantReason{Tenant: "demo", Reason: windowed.ReasonWindowLimit}] != 0 {
				t.Errorf("%+v: got %v dropped, want %d of acme's", w, out.Tally.Dropped, want)
			}
			if got := limitLines(out); want > 0 != strings.Contains(got, fmt.Sprintf("acme metrics %s/%d window_limit 0/0 -%d", at.Topic, at.Partition, want)) {
				t.Errorf("%+v: got %s, want the %d dropped events among limits", w, got, want)
			}
		}
		drops(2, "a", "b", "c", "d", "a")
		task = make()
		state.restore(t, task)
		drops(1, "a", "b", "c")
		more := tenants.DefaultConfig()
		more.Overrides = map[tenants.ID]tenants.Limits{"acme": {OpenWindows: 3}}
		current = &more
		drops(0)
		drops(1, "a", "b", "c", "d")
		less := tenants.DefaultConfig()
		less.Overrides = map[tenants.ID]tenants.Limits{"acme": {WindowBytes: 1}}
		current = &less
		drops(0)
		drops(2, "a", "b", "c", "e", "f")
	}
	f(windowed.Window{Tumbling: time.Minute})
	f(windowed.Window{Session: &windowed.Session{Gap: time.Minute}})
}
