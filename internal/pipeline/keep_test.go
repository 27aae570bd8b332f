package pipeline_test

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/pipeline/rollup"
	"github.com/vigie-io/vigie/internal/pipeline/windowed"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/sketches"
)

const keepCounters = 3

func keepConfig(w windowed.Window) pipeline.Config {
	cfg := windowedConfig(w)
	cfg.Rollups[0].Keep = &windowed.Keep{
		First: true, Last: true, Distinct: "user",
		Top: &windowed.Top{Of: "item", K: 2, Weight: "bytes", Unit: 0.5, Counters: keepCounters},
	}
	return cfg
}

// keptEvent is an event as the plain loop sees it.
type keptEvent struct {
	part         int
	service      string
	second       int64
	value, bytes float64
	user, item   string
}

func (e *keptEvent) json() string {
	return fmt.Sprintf(`{"time":%q,"name":"m","value":%v,"labels":{"service":%q,"user":%q,"item":%q,"bytes":"%v"}}`,
		start.Add(time.Duration(e.second)*time.Second).Format(time.RFC3339), e.value, e.service, e.user, e.item, e.bytes)
}

// keptRow is a row of a window; view adds up rows of one name.
type keptRow struct {
	version     uint32
	retracted   bool
	count       uint64
	first, last [2]float64 // second, value; second NaN for none
	distinct    sketches.Distinct
	top         windowed.TopRow
}

type keptTable map[string]*keptRow

func (tb keptTable) insert(t rapid.TB, part int, out *pipeline.Outputs) {
	t.Helper()
	for _, b := range out.Windows.Blocks {
		states := b.Distinct
		for i := range b.Tenant {
			row := &keptRow{version: b.Version[i], retracted: b.Kind[i] == windowed.Retracted, count: b.Count[i], top: b.Top[i]}
			n, err := row.distinct.DecodeState(states)
			if err != nil {
				t.Fatal(err)
			}
			states = states[n:]
			if b.Measures[i] != windowed.MeasureFirst|windowed.MeasureLast|windowed.MeasureDistinct|windowed.MeasureTop {
				t.Fatalf("got measures %b, want all", b.Measures[i])
			}
			row.first, row.last = [2]float64{math.NaN()}, [2]float64{math.NaN()}
			if at := b.FirstTime[i]; at != 0 {
				row.first, row.last = [2]float64{float64((at - start.UnixNano()) / 1e9), b.First[i]}, [2]float64{float64((b.LastTime[i] - start.UnixNano()) / 1e9), b.Last[i]}
			}
			key := keptKey(b.Labels[i].Get("service"), b.Start[i]-start.Unix(), b.End[i]-start.Unix()) + map[windowed.Kind]string{windowed.Late: " late", windowed.TooLate: " too late"}[b.Kind[i]]
			key += fmt.Sprint("|", part, "|", b.Delta[i])
			if old := tb[key]; old != nil && old.version >= row.version {
				t.Fatalf("%s: got version %d after %d", key, row.version, old.version)
			}
			tb[key] = row
		}
		if len(states) > 0 {
			t.Fatalf("got %d bytes behind the last distinct state", len(states))
		}
	}
}

func keptKey(service string, from, to int64) string { return fmt.Sprint(service, " ", from, " ", to) }

// wantKept compares a window, all rows of it, with the events that are in it.
func wantKept(t rapid.TB, name string, rows []*keptRow, evs []keptEvent) {
	t.Helper()
	var got keptRow
	counts, errors := map[string]float64{}, map[string]float64{}
	first, last := [2]float64{math.Inf(1)}, [2]float64{math.Inf(-1)}
	for _, r := range rows {
		got.count += r.count
		got.distinct.Merge(&r.distinct)
		got.top.Floor, got.top.Total = got.top.Floor+r.top.Floor, got.top.Total+r.top.Total
		for i, item := range r.top.Items {
			counts[item] += r.top.Counts[i]
			errors[item] += r.top.Errors[i]
		}
		if slices.Compare(r.first[:], first[:]) < 0 && r.first[0] == r.first[0] {
			first = r.first
		}
		if slices.Compare(r.last[:], last[:]) > 0 {
			last = r.last
		}
	}
	var users sketches.Distinct
	weights, total := map[string]float64{}, 0.0
	wantFirst, wantLast := [2]float64{math.Inf(1)}, [2]float64{math.Inf(-1)}
	for _, e := range evs {
		at := [2]float64{float64(e.second), e.value}
		if slices.Compare(at[:], wantFirst[:]) < 0 {
			wantFirst = at
		}
		if slices.Compare(at[:], wantLast[:]) > 0 {
			wantLast = at
		}
		if e.user != "" {
			users.Add([]byte(e.user))
		}
		if e.item != "" {
			weights[e.item] += e.bytes
			total += e.bytes
		}
	}
	if got.count != uint64(len(evs)) || first != wantFirst || last != wantLast {
		t.Fatalf("%s: got %d events, first %v, last %v, want %d, %v, %v",
			name, got.count, first, last, len(evs), wantFirst, wantLast)
	}
	if g, w := got.distinct.AppendState(nil), users.AppendState(nil); string(g) != string(w) {
		t.Fatalf("%s: got distinct state %x, want %x", name, g, w)
	}
	if got.top.Total != total || got.top.Floor > total/keepCounters {
		t.Fatalf("%s: got a top of %v above %v, want of %v above at most a %dth",
			name, got.top.Total, got.top.Floor, total, keepCounters)
	}
	for item, weight := range weights {
		most, wrong := counts[item]+got.top.Floor, errors[item]+got.top.Floor
		if weight > most || counts[item] > 0 && weight < most-wrong || wrong > total/keepCounters+1e-9 {
			t.Fatalf("%s: item %s: got %v less at most %v, want %v", name, item, most, wrong, weight)
		}
	}
}

// Whatever the order, the epochs, the aborts, the crashes, the late policy and the number of partitions: first, last
// and distinct of each window are those of a plain loop, and the greatest are within their bound.
func TestKeepRecount(t *testing.T) {
	shapes := []struct {
		window      windowed.Window
		size, every int64
	}{
		{windowed.Window{Tumbling: 10 * time.Second}, 10, 10},
		{windowed.Window{Hopping: &windowed.Hopping{Size: 20 * time.Second, Every: 10 * time.Second}}, 20, 10},
		{windowed.Window{Calendar: &windowed.Calendar{Unit: "day", Zone: "Europe/Paris"}}, 86400, 86400},
		{windowed.Window{Session: &windowed.Session{Gap: 7 * time.Second}}, 0, 0},
	}
	rapid.Check(t, func(t *rapid.T) {
		shape := rapid.SampledFrom(shapes).Draw(t, "shape")
		w := shape.window
		lateness := rapid.SampledFrom([]int64{0, 10, 25, 1 << 20}).Draw(t, "lateness")
		w.Late = rapid.SampledFrom([]string{"recompute", "merge", "divert"}).Draw(t, "late")
		session := w.Session != nil
		if session {
			w.Late, lateness = "recompute", 1<<20
		}
		w.AllowedLateness = time.Duration(lateness) * time.Second
		cfg := keepConfig(w)
		if err := cfg.Validate(); err != nil {
			t.Fatal(err)
		}
		parts := rapid.IntRange(1, 3).Draw(t, "parts")
		table, want := keptTable{}, map[string][]keptEvent{}
		for part := range parts {
			world := keepWorld{accidents: newAccidents(func() *pipeline.Task { return windowedTask(cfg) }), part: part,
				fired: -1000}
			world.run(t, table, func(e keptEvent) {
				if session {
					return
				}
				last := int64(60)
				if shape.size > 1000 {
					last = 100_000
				}
				for s := firstStart(shape.size); s <= last; s += shape.every {
					end := s + shape.size
					if e.second < s || e.second >= end {
						continue
					}
					name := keptKey(e.service, s, end)
					switch tooLate := end <= world.fired-lateness; {
					case w.Late == "divert" && end <= world.fired:
						name += map[bool]string{false: " late", true: " too late"}[tooLate]
					case tooLate:
						continue
					}
					want[name] = append(want[name], e)
				}
			})
			if session {
				for name, evs := range sessionsOf(world.all, 7, world.fired) {
					want[name] = append(want[name], evs...)
				}
				continue
			}
			for name, evs := range want {
				var service string
				var from, to int64
				if fmt.Sscan(name, &service, &from, &to); to > world.fired {
					// Open in this partition.
					if evs = slices.DeleteFunc(evs, func(e keptEvent) bool { return e.part == part }); len(evs) == 0 {
						delete(want, name)
					} else {
						want[name] = evs
					}
				}
			}
		}
		rows := map[string][]*keptRow{}
		for key, row := range table {
			if name, _, _ := strings.Cut(key, "|"); !row.retracted {
				rows[name] = append(rows[name], row)
			}
		}
		if got, want := slices.Sorted(maps.Keys(rows)), slices.Sorted(maps.Keys(want)); !slices.Equal(got, want) {
			t.Fatalf("got windows %q, want %q", got, want)
		}
		for name, evs := range want {
			wantKept(t, name, rows[name], evs)
		}
	})
}

// sessionsOf is the plain loop over the events of a partition.
func sessionsOf(evs []keptEvent, gap, fired int64) map[string][]keptEvent {
	slices.SortStableFunc(evs, func(a, b keptEvent) int {
		return cmp.Or(strings.Compare(a.service, b.service), cmp.Compare(a.second, b.second))
	})
	out := map[string][]keptEvent{}
	for i := 0; i < len(evs); {
		from, end := i, evs[i].second
		for ; i < len(evs) && evs[i].service == evs[from].service && (i == from || evs[i].second < end); i++ {
			end = evs[i].second + gap
		}
		if end <= fired {
			out[keptKey(evs[from].service, evs[from].second, end)] = evs[from:i]
		}
	}
	return out
}

// keepWorld is the task of one partition.
type keepWorld struct {
	*accidents
	part   int
	all    []keptEvent
	fired  int64 // watermark after the last committed epoch, in seconds
	offset int64
}

func (w *keepWorld) run(t *rapid.T, table keptTable, take func(keptEvent)) {
	for range rapid.IntRange(1, 8).Draw(t, "epochs") {
		var evs []keptEvent
		for range rapid.IntRange(0, 8).Draw(t, "events") {
			evs = append(evs, keptEvent{
				w.part, rapid.SampledFrom([]string{"s", "r"}).Draw(t, "service"), rapid.Int64Range(0, 60).Draw(t, "second"),
				float64(rapid.IntRange(1, 64).Draw(t, "value")) / 8, float64(rapid.IntRange(0, 20).Draw(t, "bytes")) / 2,
				rapid.SampledFrom([]string{"", "ann", "bob", "cid"}).Draw(t, "user"),
				rapid.SampledFrom([]string{"", "a", "b", "c", "d", "e", "f"}).Draw(t, "item"),
			})
		}
		table.insert(t, w.part, w.epoch(t, start.Add(time.Minute), func(task *pipeline.Task) {
			for i := range evs {
				r := record("acme", evs[i].json())
				r.Offset = w.offset + int64(i)
				step(task, start.Add(time.Minute), r)
			}
		}))
		w.offset += int64(len(evs))
		for _, e := range evs {
			take(e)
		}
		for _, e := range evs {
			w.fired = max(w.fired, e.second-5)
		}
		w.all = append(w.all, evs...)
	}
}

// A rule that gains a Keep while windows are open: those finish as they began, and hold nothing of it.
func TestKeepBeginsWithNewWindows(t *testing.T) {
	state := stateLog{}
	window := windowed.Window{Tumbling: 10 * time.Second}
	old := windowedTask(windowedConfig(window))
	step(old, start.Add(time.Minute), record("acme", at10(1, "s")))
	state.append(drain(old, start.Add(time.Minute)).State)

	task := windowedTask(keepConfig(window))
	state.restore(t, task)
	e := keptEvent{0, "s", 2, 4, 1, "ann", "a"}
	step(task, start.Add(time.Minute), record("acme", e.json(), at10(30, "s")))
	out := drain(task, start.Add(time.Minute))
	task.Committed(true)
	state.append(out.State)
	var got []string
	for _, b := range out.Windows.Blocks {
		for i := range b.Tenant {
			got = append(got, fmt.Sprintf("n%d %b %v %v", b.Count[i], b.Measures[i], b.First[i], b.Top[i].Items))
		}
	}
	slices.Sort(got)
	if got, want := strings.Join(got, "; "), "n1 0 0 []; n1 1111 4 [a]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	state.wantOneRule(t, task)
}

// What cannot be counted by value is in the window all the same, and said.
func TestKeepLeavesOut(t *testing.T) {
	cfg := keepConfig(windowed.Window{Tumbling: 10 * time.Second})
	task := windowedTask(cfg)
	f := func(item, bytes string) string {
		return fmt.Sprintf(`{"time":%q,"name":"m","value":1,"labels":{"service":"s","item":%q,"bytes":%q}}`,
			start.Add(time.Second).Format(time.RFC3339), item, bytes)
	}
	step(task, start.Add(time.Minute), record("acme",
		f("a", "7"), f(strings.Repeat("x", 257), "7"), f(strings.Repeat("y", 256), "1"), f("b", "-1"), f("c", "1e15"), f("d", "nothing"), at10(30, "s")))
	out := drain(task, start.Add(time.Minute))
	b := out.Windows.Blocks[0]
	if got, want := fmt.Sprint(b.Count[0], b.Top[0].Total, len(b.Top[0].Items)), "6 8 2"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for reason, want := range map[events.Reason]uint64{windowed.ReasonLongItem: 1, windowed.ReasonBadWeight: 2} {
		if n := out.Tally.Dropped[pipeline.TenantReason{Tenant: "acme", Reason: reason}]; n != want {
			t.Errorf("got %d %s, want %d", n, reason, want)
		}
	}
}

// A series with many open slices, each with a full distinct count, writes records within their bound, and of an epoch
// only those of slices that it changed. It comes back whole.
func TestKeepManyWideSlices(t *testing.T) {
	cfg := windowedConfig(windowed.Window{Hopping: &windowed.Hopping{Size: 100 * time.Second, Every: time.Second}})
	cfg.Rollups[0].Keep = &windowed.Keep{Distinct: "user"}
	task, state := windowedTask(cfg), stateLog{}
	for second := range 100 {
		var values []string
		for user := range 600 {
			e := keptEvent{service: "s", second: int64(second), user: fmt.Sprint(second, "-", user)}
			values = append(values, e.json())
		}
		step(task, start.Add(time.Minute), record("acme", values...))
	}
	out := drain(task, start.Add(time.Minute))
	state.append(out.State)
	task.Committed(true)
	wide := func(out *pipeline.Outputs) (n int) {
		for i := range out.State {
			if m := &out.State[i]; len(m.Value) > 12_000 {
				n++
				if len(m.Key)+len(m.Value) > 16<<10 {
					t.Errorf("got a record of %d bytes, want one of a slice", len(m.Value))
				}
			}
		}
		return n
	}
	if n := wide(out); n != 100 {
		t.Fatalf("got %d records of slices, want 100", n)
	}
	e := keptEvent{service: "s", second: 99, user: "one more"}
	step(task, start.Add(time.Minute), record("acme", e.json()))
	if n := wide(drain(task, start.Add(time.Minute))); n != 1 {
		t.Errorf("got %d records of slices for one event, want 1", n)
	}
	again := windowedTask(cfg)
	state.restore(t, again)
	end := keptEvent{service: "s", second: 105}
	step(again, start.Add(3*time.Minute), record("acme", end.json()))
	out = drain(again, start.Add(3*time.Minute))
	b := out.Windows.Blocks[len(out.Windows.Blocks)-1]
	for i := range b.Tenant {
		if b.Start[i] != start.Unix() {
			continue
		}
		states := b.Distinct
		for range i {
			var d sketches.Distinct
			n, err := d.DecodeState(states)
			if err != nil {
				t.Fatal(err)
			}
			states = states[n:]
		}
		var d sketches.Distinct
		if _, err := d.DecodeState(states); err != nil || math.Abs(d.Estimate()-60_000) > 60_000*0.025 {
			t.Errorf("got %v, %v, want 60000 users", d.Estimate(), err)
		}
		return
	}
	t.Error("got no window of all slices")
}

// A tenant's limit of bytes holds for wide contents too.
func TestKeepWindowBytes(t *testing.T) {
	cfg := windowedConfig(windowed.Window{Tumbling: 10 * time.Second})
	cfg.Rollups[0].Keep = &windowed.Keep{Distinct: "user"}
	limits := limitsOf(map[tenants.ID]tenants.Limits{"acme": {ActiveSeries: 100, OpenWindows: 1000, WindowBytes: 40 << 10}})
	task := pipeline.NewTask(pipeline.TaskConfig{Partition: at, Signal: events.Metrics, Config: cfg, Limits: limits})
	for service := range 5 {
		var values []string
		for user := range 600 {
			e := keptEvent{service: fmt.Sprint("s", service), second: 1, user: fmt.Sprint(user)}
			values = append(values, e.json())
		}
		step(task, start.Add(time.Minute), record("acme", values...))
	}
	out := drain(task, start.Add(time.Minute))
	if n := out.Tally.Dropped[pipeline.TenantReason{Tenant: "acme", Reason: windowed.ReasonWindowLimit}]; n != 600 && n != 1200 {
		t.Errorf("got %d events above the limit of bytes, want those of one or two series", n)
	}
}

func TestKeepValidate(t *testing.T) {
	f := func(want string, change func(r *rollup.Declared)) {
		t.Helper()
		cfg := keepConfig(windowed.Window{Tumbling: time.Minute})
		change(&cfg.Rollups[0])
		if err := cfg.Validate(); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	f("", func(*rollup.Declared) {})
	f("keep: want a window", func(r *rollup.Declared) { r.Window = nil })
	f("keep: want one of", func(r *rollup.Declared) { r.Keep = &windowed.Keep{} })
	f("first and last of events are 1", func(r *rollup.Declared) { r.Measure = "events" })
	f("keep.top.of", func(r *rollup.Declared) { r.Keep.Top = &windowed.Top{} })
	f("keep.top.k 101", func(r *rollup.Declared) { r.Keep.Top.K = 101 })
	f("keep.top.counters 1: want k (2) to 1000", func(r *rollup.Declared) { r.Keep.Top.Counters = 1 })
	f("keep.top.unit", func(r *rollup.Declared) { r.Keep.Top.Unit = -1 })
	f("keep.top.unit: want a weight", func(r *rollup.Declared) { r.Keep.Top.Weight = "" })
	f("", func(r *rollup.Declared) { r.Keep.Top = &windowed.Top{Of: "item"} })
	f("label item of PromQL", func(r *rollup.Declared) { r.By = []string{"item"} })
}

// The bytes are those of docs/format/state.md.
func TestKeepStateGolden(t *testing.T) {
	task := windowedTask(keepConfig(windowed.Window{Tumbling: 10 * time.Second}))
	e := keptEvent{0, "s", 2, 4, 1, "ann", "a"}
	step(task, start.Add(time.Minute), record("acme", e.json()))
	wantState(t, drain(task, start.Add(time.Minute)), keepStateGolden,
		func(key []byte) bool { return key[0] == 2 && key[10] == 'v' })
}

var keepStateGolden = []string{
	"0201b484f1faeb0477f4760461636d6518eaf961d28a800000017707736572766963650173 018080d4a8bad8fcea318090dfc04a000100000000000010400000000000001040000000000" +
		"0001040026180773e9a2cf03f0000000000000000010c01fe0102000000000000f03f0304000400000000000000000f80d0809cc9d8fcea31000000000000104080d0809cc9d8fcea3100000000000010400101c1b86b26a368839c0103020101610200",
}

// firstStart is where the loop over windows begins: 12:00 of a November day is 13 hours into the day in Paris.
func firstStart(size int64) int64 {
	if size == 86400 {
		return -13 * 3600
	}
	return -60
}
