package pipeline_test

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/pipeline/rollup"
	"github.com/vigie-io/vigie/internal/pipeline/windowed"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/sketches"
	"github.com/vigie-io/vigie/pkg/windows"
)

func windowedConfig(w windowed.Window) pipeline.Config {
	cfg := pipeline.DefaultConfig()
	cfg.Rollups = []rollup.Declared{{Name: "w", From: events.Metrics, Where: `name == "m"`, By: []string{"service"}, Window: &w}}
	return cfg
}

func windowedTask(cfg pipeline.Config) *pipeline.Task {
	return pipeline.NewTask(pipeline.TaskConfig{Partition: at, Signal: events.Metrics, Config: cfg})
}

// windowTable is what a table that replaces by version holds.
type windowTable map[string]windowCell

type windowCell struct {
	version       uint32
	count         uint64
	sum, min, max float64
	sketch        string
	retracted     bool
}

// view adds up what is not retracted: windows with their deltas, and under names of their own what came late.
func (tb windowTable) view(t rapid.TB) windowTable {
	t.Helper()
	out := windowTable{}
	for key, c := range tb {
		key, piece, _ := strings.Cut(key, "|")
		switch {
		case c.retracted:
			continue
		case strings.HasPrefix(piece, "3"):
			key += " late"
		case strings.HasPrefix(piece, "4"):
			key += " too late"
		}
		c.version = 0
		if old, known := out[key]; known {
			var sum, sketch sketches.Sketch
			for _, part := range []struct {
				into *sketches.Sketch
				from string
			}{{&sum, old.sketch}, {&sketch, c.sketch}} {
				if _, err := part.into.DecodeDD([]byte(part.from)); err != nil {
					t.Fatal(err)
				}
			}
			sum.Merge(&sketch)
			c = windowCell{count: old.count + c.count, sum: old.sum + c.sum, min: min(old.min, c.min), max: max(old.max, c.max),
				sketch: string(sum.AppendDD(nil))}
		}
		out[key] = c
	}
	return out
}

func (tb windowTable) insert(t rapid.TB, out *pipeline.Outputs) {
	t.Helper()
	for _, b := range out.Windows.Blocks {
		states := b.Sketch
		for i := range b.Tenant {
			var sketch sketches.Sketch
			n, err := sketch.DecodeDD(states)
			if err != nil {
				t.Fatal(err)
			}
			if shape, err := windows.ParseShape(b.Shape[i]); err != nil || shape.Longest() > 0 &&
				shape.Longest() != time.Duration(b.End[i]-b.Start[i])*time.Second ||
				b.SeriesKind[i] != uint8(events.Observation) {
				t.Fatalf("row %d: got shape %q of kind %d, %v, want that of a window of %d s",
					i, b.Shape[i], b.SeriesKind[i], err, b.End[i]-b.Start[i])
			}
			key := fmt.Sprint(b.Tenant[i], " ", b.Metric[i], " ", cmp.Or(b.Labels[i].Get("user"), b.Labels[i].Get("service")),
				" ", b.Start[i]-start.Unix(), " ", b.End[i]-start.Unix())
			if kind := b.Kind[i]; kind > windowed.Retracted {
				key += fmt.Sprintf("|%d|%d", kind, b.Delta[i])
			}
			if old := tb[key]; old.version >= b.Version[i] {
				t.Fatalf("%s: got version %d after %d", key, b.Version[i], old.version)
			}
			tb[key] = windowCell{b.Version[i], b.Count[i], b.Sum[i], b.Min[i], b.Max[i], string(states[:n]),
				b.Kind[i] == windowed.Retracted}
			states = states[n:]
		}
	}
}

// Whatever the order within the lateness, the epochs, the aborts and the crashes: closed windows hold what a plain loop
// over the events finds, each tenant by its own watermark, and a window is there exactly when its tenant's watermark
// has passed its end.
func TestWindowsRecount(t *testing.T) {
	const lateness = 40 * time.Second
	shapes := []struct {
		window      windowed.Window
		size, every int64
	}{
		{windowed.Window{Tumbling: 10 * time.Second, AllowedLateness: lateness}, 10, 10},
		{windowed.Window{Hopping: &windowed.Hopping{Size: 15 * time.Second, Every: 10 * time.Second}, AllowedLateness: lateness}, 15, 10},
	}
	rapid.Check(t, func(t *rapid.T) {
		shape := rapid.SampledFrom(shapes).Draw(t, "shape")
		cfg := windowedConfig(shape.window)
		if err := cfg.Validate(); err != nil {
			t.Fatal(err)
		}
		world, table := newAccidents(func() *pipeline.Task { return windowedTask(cfg) }), windowTable{}
		var all []sessionEvent
		newest := map[string]int64{}
		for range rapid.IntRange(1, 12).Draw(t, "epochs") {
			epoch := drawMetrics(t, "s", "r")
			for i := range epoch {
				// Within the lateness of what was drained before, so that none is too late.
				e := &epoch[i]
				e.second = max(e.second, newest[e.tenant]-int64(lateness/time.Second)+5)
			}
			out := world.epoch(t, start.Add(time.Minute), steps(start.Add(time.Minute), epoch, sessionEvent.metric))
			if n := out.Tally.Dropped[pipeline.TenantReason{Tenant: "acme", Reason: windowed.ReasonTooLate}]; n != 0 {
				t.Fatalf("got %d events too late, want none", n)
			}
			table.insert(t, out)
			for _, e := range epoch {
				newest[e.tenant] = max(newest[e.tenant], e.second)
			}
			all = append(all, epoch...)
		}
		want := map[string]windowCell{}
		held := map[string]*sketches.Sketch{}
		for _, e := range all {
			for s := int64(-60); s <= 60; s += shape.every {
				if e.second < s || e.second >= s+shape.size || newest[e.tenant]-5 < s+shape.size {
					continue
				}
				key := fmt.Sprint(e.tenant, " w ", e.user, " ", s, " ", s+shape.size)
				c, known := want[key]
				if !known {
					c.min, c.max, held[key] = e.value, e.value, new(sketches.Sketch)
				}
				c.count, c.sum, c.min, c.max = c.count+1, c.sum+e.value, min(c.min, e.value), max(c.max, e.value)
				held[key].Add(e.value)
				want[key] = c
			}
		}
		if got, want := slices.Sorted(maps.Keys(table)), slices.Sorted(maps.Keys(want)); !slices.Equal(got, want) {
			t.Fatalf("got windows %q, want %q", got, want)
		}
		for key, w := range want {
			g := table[key]
			w.version, w.sketch = g.version, string(held[key].AppendDD(nil))
			if g != w {
				t.Fatalf("%s: got %+v, want %+v", key, g, w)
			}
		}
	})
}

func at10(second int, service string) string {
	return event(start.Add(time.Duration(second)*time.Second), "m", fmt.Sprintf(`"service":%q`, service))
}

func windowRows(out *pipeline.Outputs) (rows []string) {
	for _, b := range out.Windows.Blocks {
		for i := range b.Tenant {
			rows = append(rows, fmt.Sprintf("%s %d-%d v%d n%d", b.Tenant[i], b.Start[i]-start.Unix(), b.End[i]-start.Unix(), b.Version[i], b.Count[i]))
		}
	}
	return rows
}

// Without lateness an event for a closed window is counted and changes nothing, and one tenant does not close
// another's.
func TestWindowsTooLate(t *testing.T) {
	task := windowedTask(windowedConfig(windowed.Window{Tumbling: 10 * time.Second}))
	f := func(want string, dropped uint64, records ...pipeline.Record) {
		t.Helper()
		step(task, start.Add(time.Minute), records...)
		out := drain(task, start.Add(time.Minute))
		task.Committed(true)
		if got := strings.Join(windowRows(out), ";"); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if n := out.Tally.Dropped[pipeline.TenantReason{Tenant: "acme", Reason: windowed.ReasonTooLate}]; n != dropped {
			t.Errorf("got %d too late, want %d", n, dropped)
		}
	}
	f("", 0, record("acme", at10(1, "s"), at10(14, "s")), record("demo", at10(2, "s")))
	f("acme 0-10 v1 n1", 0, record("acme", at10(15, "s")))
	f("", 1, record("acme", at10(3, "s"), at10(16, "s")))
	f("demo 0-10 v1 n1", 0, record("demo", at10(40, "s")))
}

// A rule that is changed while windows are open: those finish as they began, new ones are of the new size, and then
// nothing is left of the old rule.
func TestWindowsRuleChange(t *testing.T) {
	state := stateLog{}
	old := windowedTask(windowedConfig(windowed.Window{Tumbling: 10 * time.Second}))
	step(old, start.Add(time.Minute), record("acme", at10(1, "s")))
	state.append(drain(old, start.Add(time.Minute)).State)

	task := windowedTask(windowedConfig(windowed.Window{Tumbling: 20 * time.Second}))
	state.restore(t, task)
	step(task, start.Add(time.Minute), record("acme", at10(2, "s"), at10(30, "s")))
	out := drain(task, start.Add(time.Minute))
	task.Committed(true)
	state.append(out.State)
	rows := windowRows(out)
	slices.Sort(rows)
	if got, want := strings.Join(rows, ";"), "acme 0-10 v1 n1;acme 0-20 v1 n1"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	state.wantOneRule(t, task)
}

// A rule that is taken away and comes back knows which of its windows have closed.
func TestWindowsRuleComesBack(t *testing.T) {
	state, table := stateLog{}, windowTable{}
	run := func(w windowed.Window, seconds ...int) {
		t.Helper()
		cfg := pipeline.DefaultConfig()
		if w != (windowed.Window{}) {
			cfg = windowedConfig(w)
		}
		task := windowedTask(cfg) // as after a restart
		state.restore(t, task)
		var records []pipeline.Record
		for _, second := range seconds {
			records = append(records, record("acme", at10(second, "s")))
		}
		step(task, start.Add(2*time.Minute), records...)
		out := drain(task, start.Add(2*time.Minute))
		task.Committed(true)
		state.append(out.State)
		table.insert(t, out)
	}
	rule := windowed.Window{Tumbling: 10 * time.Second}
	run(rule, 1, 2, 3, 30)
	run(windowed.Window{}, 60)
	run(windowed.Window{}, 61)
	run(rule, 4, 75)
	if got := table["acme w s 0 10"]; got.count != 3 {
		t.Errorf("got %d events in the closed window, want the 3 it closed with", got.count)
	}
}

// wantOneRule checks that an old rule goes, but not before no event can come that one of its windows has counted.
func (s stateLog) wantOneRule(t *testing.T, task *pipeline.Task) {
	t.Helper()
	for _, c := range []struct {
		after time.Duration
		rules int
	}{{-time.Minute, 2}, {time.Hour, 1}} {
		s.append(drain(task, start.Add(pipeline.DefaultConfig().MaxPast+c.after)).State)
		task.Committed(true)
		if got := s.rules(); got != c.rules {
			t.Errorf("max_past and %s later: got %d rules in state, want %d", c.after, got, c.rules)
		}
	}
}

// rules are how many the log defines.
func (s stateLog) rules() (n int) {
	for key := range s {
		if key[0] == 2 && key[10] == 'd' {
			n++
		}
	}
	return n
}

// Windows that are open finish as they began whatever becomes of their rule: it is given another shape, or removed.
func TestWindowsOutliveTheirRule(t *testing.T) {
	f := func(name string, cfg pipeline.Config, rules int, want string) {
		t.Helper()
		state := stateLog{}
		old := windowedTask(windowedConfig(windowed.Window{Tumbling: 10 * time.Second}))
		step(old, start.Add(time.Minute), record("acme", at10(1, "s"), at10(2, "s")))
		state.append(drain(old, start.Add(time.Minute)).State)
		var rows []string
		for _, second := range []int{4, 16, 60} { // another event of the window's time, its end, and what begins after it
			task := windowedTask(cfg) // each time as after a restart
			state.restore(t, task)
			step(task, start.Add(2*time.Minute), record("acme", at10(second, "s")))
			out := drain(task, start.Add(2*time.Minute))
			task.Committed(true)
			state.append(out.State)
			rows = append(rows, windowRows(out)...)
		}
		slices.Sort(rows)
		if got := strings.Join(rows, ";"); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
		task := windowedTask(cfg)
		state.restore(t, task)
		state.append(drain(task, start.Add(cfg.MaxPast+time.Hour)).State)
		if got := state.rules(); got != rules {
			t.Errorf("%s: got %d rules in state in the end, want %d", name, got, rules)
		}
	}
	f("the same", windowedConfig(windowed.Window{Tumbling: 10 * time.Second}), 1, "acme 0-10 v1 n3;acme 10-20 v1 n1")
	f("removed", pipeline.DefaultConfig(), 0, "acme 0-10 v1 n2")
	f("hopping", windowedConfig(windowed.Window{Hopping: &windowed.Hopping{Size: 20 * time.Second, Every: 10 * time.Second}}), 1,
		"acme -10-10 v1 n1;acme 0-10 v1 n2;acme 0-20 v1 n2;acme 10-30 v1 n1")
	f("sessions", windowedConfig(windowed.Window{Session: &windowed.Session{Gap: 7 * time.Second}}), 1, "acme 0-10 v1 n2;acme 16-23 v1 n1;acme 4-11 v1 n1")
	f("calendar", windowedConfig(windowed.Window{Calendar: &windowed.Calendar{Unit: "day"}}), 1, "acme 0-10 v1 n2")
}

// The bytes are those of docs/format/state.md.
func TestWindowStateGolden(t *testing.T) {
	task := windowedTask(windowedConfig(windowed.Window{Tumbling: 10 * time.Second, AllowedLateness: time.Minute}))
	step(task, start.Add(time.Minute), record("acme", at10(1, "s"), at10(16, "s")))
	out := drain(task, start.Add(time.Minute))
	wantState(t, out, windowStateGolden, func(key []byte) bool { return key[0] == 2 })
}

// wantState compares the changes of state of some keys, in hexadecimal.
func wantState(t *testing.T, out *pipeline.Outputs, want []string, of func(key []byte) bool) {
	t.Helper()
	var got []string
	for i := range out.State {
		if m := &out.State[i]; of(m.Key) {
			got = append(got, hex.EncodeToString(m.Key)+" "+hex.EncodeToString(m.Value))
		}
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

var windowStateGolden = []string{
	"0201472884b34c2ae18964 017b224e616d65223a2277222c224d656173757265223a2276616c7565222c2257696e646f77223a7b2254756d626c696e67223a31303030303030303030302c" +
		"22486f7070696e67223a6e756c6c2c2243616c656e646172223a6e756c6c2c22416c6c6f7765644c6174656e657373223a36303030303030303030307d7d",
	"0201472884b34c2ae1896b0461636d6500017707736572766963650173 01018080d4a8bad8fcea318090dfc04a01028080d4a8bad8fcea318090dfc04a" +
		"01000000000000f83f000000000000f83f000000000000f83f026180773e9a2cf03f0000000000000000010c014a02000000000000f03f0304000400000000000000008090b3e984d9fcea318090dfc04a" +
		"01000000000000f83f000000000000f83f000000000000f83f026180773e9a2cf03f0000000000000000010c014a02000000000000f03f030400040000000000000000",
	"0201472884b34c2ae189700461636d65 01002e316264f9ea1800d6e96956f9ea18",
}

// Damaged state is refused and never a crash; what is taken comes back as it was.
func FuzzWindowRestore(f *testing.F) {
	cfg := windowedConfig(windowed.Window{Tumbling: 10 * time.Second, AllowedLateness: time.Minute})
	task := windowedTask(cfg)
	step(task, start.Add(time.Minute), record("acme", at10(1, "s"), at10(16, "s")))
	out := drain(task, start.Add(time.Minute))
	for i := range out.State {
		f.Add(out.State[i].Key, out.State[i].Value)
	}
	sessions := windowedTask(sessionConfig(10*time.Second, time.Minute))
	step(sessions, start.Add(time.Minute), record("acme", at10(1, "s"), at10(16, "s")))
	out = drain(sessions, start.Add(time.Minute))
	for i := range out.State {
		f.Add(out.State[i].Key, out.State[i].Value)
	}
	kept := windowedTask(keepConfig(windowed.Window{Tumbling: 10 * time.Second, AllowedLateness: time.Minute}))
	step(kept, start.Add(time.Minute),
		record("acme", at10(1, "s"), (&keptEvent{service: "s", second: 16, bytes: 2, user: "ann", item: "a"}).json()))
	out = drain(kept, start.Add(time.Minute))
	for i := range out.State {
		f.Add(out.State[i].Key, out.State[i].Value)
	}
	f.Fuzz(func(t *testing.T, key, value []byte) {
		task := windowedTask(cfg)
		if task.Restore(key, value) != nil {
			return
		}
		step(task, start.Add(time.Minute), record("acme", at10(1, "s"), at10(50, "s")))
		drain(task, start.Add(time.Minute))
		task.Forget()
	})
}

func TestWindowValidate(t *testing.T) {
	f := func(w windowed.Window, want string) {
		t.Helper()
		cfg := windowedConfig(w)
		if err := cfg.Validate(); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%+v: got %v, want %q", w, err, want)
		}
	}
	f(windowed.Window{Tumbling: time.Minute}, "")
	f(windowed.Window{Calendar: &windowed.Calendar{Unit: "day", Zone: "Europe/Paris"}}, "")
	f(windowed.Window{}, "got 0 of tumbling, hopping, calendar and session")
	f(windowed.Window{Tumbling: time.Minute, Hopping: &windowed.Hopping{}}, "got 2 of")
	f(windowed.Window{Tumbling: 1500 * time.Millisecond}, "whole seconds")
	f(windowed.Window{Tumbling: -time.Second}, "1s or more")
	f(windowed.Window{Tumbling: time.Minute, AllowedLateness: -1}, "allowed_lateness")
	f(windowed.Window{Hopping: &windowed.Hopping{Size: time.Second, Every: time.Minute}}, "at least every (1m0s)")
	f(windowed.Window{Hopping: &windowed.Hopping{Size: time.Hour, Every: time.Second}}, "3600 windows, want at most 1000")
	f(windowed.Window{Calendar: &windowed.Calendar{Unit: "year"}}, "want day, week or month")
	f(windowed.Window{Calendar: &windowed.Calendar{Unit: "day", Zone: "Europe/Nowhere"}}, `zone "Europe/Nowhere"`)
	f(windowed.Window{Session: &windowed.Session{Gap: time.Minute, By: []string{"user", "service"}}}, "")
	f(windowed.Window{Tumbling: time.Minute, Late: "divert"}, "")
	f(windowed.Window{Tumbling: time.Minute, Late: "drop"}, `window.late policy "drop": want merge, recompute or divert`)
	f(windowed.Window{Session: &windowed.Session{Gap: time.Minute}, Late: "merge"}, "window.late merge: sessions change their bounds")
	f(windowed.Window{Session: &windowed.Session{}}, "window.session.gap 0s: want whole seconds")
	f(windowed.Window{Session: &windowed.Session{Gap: time.Minute, By: []string{"a.b", "a_b"}}}, "window.session.by [service a.b a_b]: two fields make the label a_b")
}
