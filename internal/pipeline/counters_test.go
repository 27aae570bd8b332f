package pipeline_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/pipeline/counters"
	"github.com/vigie-io/vigie/internal/pipeline/rollup"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
)

var increases = rollup.Declared{
	Name: "requests_total", From: events.Metrics, Where: `name == "req" && host != "z"`,
	Measure: "increase", By: []string{"service"},
}

func increaseConfig() pipeline.Config {
	cfg := pipeline.DefaultConfig()
	cfg.Rollups = []rollup.Declared{increases}
	return cfg
}

// reading is a sample of a counter at a second of the test; start is the second at which its process began, 0 unknown.
type reading struct {
	tenant, host  string
	second, start int
	value         float64
	delta         bool
}

func (r reading) record() pipeline.Record {
	kind, begun := "cumulative", ""
	if r.delta {
		kind = "delta"
	} else if r.start > 0 {
		begun = fmt.Sprintf(`,"start":%q`, start.Add(time.Duration(r.start)*time.Second).Format(time.RFC3339Nano))
	}
	return record(r.tenant, fmt.Sprintf(`{"time":%q,"name":"req","kind":%q,"value":%v,"labels":{"host":%q,"service":"s"}%s}`,
		start.Add(time.Duration(r.second)*time.Second).Format(time.RFC3339Nano), kind, r.value, r.host, begun))
}

// recountIncreases is the plain loop: for each series its readings by time of arrival, those that are not newer than
// the newest left out; what the total grew by, or all of it after a restart. The first counts when its process began
// after the tenant's first reading.
func recountIncreases(all []reading) (panes map[string]float64) {
	panes = map[string]float64{}
	since, newest := map[string]int{}, map[string]reading{}
	for _, r := range all {
		if r.host == "z" {
			continue
		}
		pane := fmt.Sprint(r.tenant, " ", r.second/10*10)
		if r.delta {
			panes[pane] += r.value
			continue
		}
		if _, known := since[r.tenant]; !known {
			since[r.tenant] = r.second
		}
		key := r.tenant + r.host
		before, known := newest[key]
		switch {
		case known && r.second <= before.second:
			continue
		case !known && (r.start == 0 || r.start < since[r.tenant] || r.start > r.second):
		case !known, r.value < before.value, r.start > before.start && r.start >= before.second && r.start <= r.second:
			panes[pane] += r.value
		default:
			panes[pane] += r.value - before.value
		}
		newest[key] = r
	}
	maps.DeleteFunc(panes, func(_ string, v float64) bool { return v == 0 })
	return panes
}

// What cumulative counters grew by is what a plain loop over their readings finds, in the pane of the later reading,
// whatever the order, the restarts, the epochs, the aborts and the crashes.
func TestIncreaseRecount(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := increaseConfig()
		if err := cfg.Validate(); err != nil {
			t.Fatal(err)
		}
		world, got := newAccidents(func() *pipeline.Task { return windowedTask(cfg) }), map[string]float64{}
		var all []reading
		for range rapid.IntRange(1, 12).Draw(t, "epochs") {
			var epoch []reading
			for range rapid.IntRange(0, 10).Draw(t, "readings") {
				epoch = append(epoch, reading{
					tenant: rapid.SampledFrom([]string{"acme", "demo"}).Draw(t, "tenant"),
					host:   rapid.SampledFrom([]string{"a", "b", "z"}).Draw(t, "host"),
					second: rapid.IntRange(1, 60).Draw(t, "second"), value: float64(rapid.IntRange(0, 20).Draw(t, "value")),
					start: rapid.SampledFrom([]int{0, 1, 20, 40}).Draw(t, "start"),
					delta: rapid.IntRange(0, 9).Draw(t, "delta") == 0,
				})
			}
			addIncreases(world.epoch(t, start, steps(start, epoch, reading.record)), got)
			all = append(all, epoch...)
		}
		if want := recountIncreases(all); !maps.Equal(got, want) {
			t.Fatalf("got %v, want %v of %+v", got, want, all)
		}
	})
}

// addIncreases adds the sums of the declared metric's rows, by tenant and second of the pane.
func addIncreases(out *pipeline.Outputs, into map[string]float64) {
	for _, b := range out.Rollups {
		for i := range b.Grain {
			if b.Metric[i] == "requests_total" && b.Grain[i] == pipeline.GrainSeries && b.Sum[i] != 0 {
				into[fmt.Sprint(b.Tenant[i], " ", int64(b.Pane[i])-start.Unix())] += b.Sum[i]
			}
		}
	}
}

func increaseTask(change func(*pipeline.TaskConfig)) *pipeline.Task {
	cfg := pipeline.TaskConfig{Partition: at, Signal: events.Metrics, Config: increaseConfig()}
	if change != nil {
		change(&cfg)
	}
	return pipeline.NewTask(cfg)
}

// Every way in which a sample is left out is counted, and a tenant has no more counters than series.
func TestIncreaseCountsWhatItLeavesOut(t *testing.T) {
	limits := tenants.DefaultConfig()
	limits.Overrides = map[tenants.ID]tenants.Limits{"acme": {ActiveSeries: 4}}
	task := increaseTask(func(cfg *pipeline.TaskConfig) { cfg.Limits = func() *tenants.Config { return &limits } })
	for _, r := range []reading{
		{"acme", "a", 10, 0, 5, false}, {"acme", "a", 20, 0, 7, false}, {"acme", "a", 20, 0, 8, false}, {"acme", "a", 15, 0, 8, false},
		{"acme", "b", 10, 0, 5, false}, {"acme", "c", 10, 0, 5, false}, {"acme", "d", 10, 0, 5, false}, {"acme", "e", 10, 0, 5, false}, {"acme", "e", 11, 0, 5, false},
	} {
		step(task, start, r.record())
	}
	out := drain(task, start)
	got := map[events.Reason]uint64{}
	for key, n := range out.Tally.Dropped {
		got[key.Reason] += n
	}
	want := map[events.Reason]uint64{"duplicate": 1, "out_of_order": 1, counters.ReasonCounterLimit: 2}
	delete(got, pipeline.ReasonSeriesLimit)
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	sums := map[string]float64{}
	if addIncreases(out, sums); !maps.Equal(sums, map[string]float64{"acme 20": 2}) {
		t.Errorf("got %v, want an increase of 2", sums)
	}
}

// A series that has been silent begins anew, and the log forgets it, and its tenant with the last one.
func TestIncreaseForgetsSilentSeries(t *testing.T) {
	task, state := increaseTask(nil), stateLog{}
	epoch := func(now time.Time, readings ...reading) map[string]float64 {
		for _, r := range readings {
			step(task, now, r.record())
		}
		out := drain(task, now)
		task.Committed(true)
		state.append(out.State)
		sums := map[string]float64{}
		addIncreases(out, sums)
		return sums
	}
	counters := func() (n int) {
		for key := range state {
			if key[0] == 6 {
				n++
			}
		}
		return n
	}
	idle := pipeline.DefaultConfig().SeriesIdle
	epoch(start, reading{"acme", "a", 10, 0, 5, false}, reading{"acme", "b", 10, 0, 5, false})
	epoch(start.Add(idle/2), reading{"acme", "b", 20, 0, 6, false})
	if n := counters(); n != 3 {
		t.Fatalf("got %d keys, want one of the tenant and two of series", n)
	}
	epoch(start.Add(idle))
	if n := counters(); n != 2 {
		t.Fatalf("got %d keys after the silence of one, want 2", n)
	}
	if got := epoch(start.Add(idle), reading{"acme", "a", 30, 0, 50, false}, reading{"acme", "b", 30, 0, 9, false}); got["acme 30"] != 3 {
		t.Errorf("got %v, want only the 3 of the series that was heard", got)
	}
	epoch(start.Add(3 * idle))
	if n := counters(); n != 0 {
		t.Errorf("got %d keys after the silence of all, want none", n)
	}
	// What is restored is not silent before it had the time to speak.
	epoch(start.Add(3*idle), reading{"acme", "a", 40, 0, 60, false})
	task = increaseTask(nil)
	state.restore(t, task)
	epoch(start.Add(5 * idle))
	if got := epoch(start.Add(5*idle), reading{"acme", "a", 50, 0, 61, false}); got["acme 50"] != 1 {
		t.Errorf("got %v after a restore, want an increase of 1", got)
	}
}

// What a rule remembers goes when configuration no longer has the rule.
func TestIncreaseForgetsRules(t *testing.T) {
	task, state := increaseTask(nil), stateLog{}
	step(task, start, reading{"acme", "a", 10, 0, 5, false}.record())
	state.append(drain(task, start).State)
	task = increaseTask(func(cfg *pipeline.TaskConfig) { cfg.Config.Rollups[0].Where = `name == "req"` })
	state.restore(t, task)
	step(task, start, reading{"acme", "a", 20, 0, 6, false}.record())
	out := drain(task, start)
	state.append(out.State)
	sums := map[string]float64{}
	if addIncreases(out, sums); len(sums) > 0 {
		t.Errorf("got %v, want the changed rule to begin anew", sums)
	}
	keys := slices.DeleteFunc(slices.Collect(maps.Keys(state)), func(key string) bool { return key[0] != 6 })
	if len(keys) != 2 {
		t.Errorf("got keys %q, want those of the new rule only", keys)
	}
}

// The bytes are in the log: a difference here is a change of format.
func TestIncreaseStateGolden(t *testing.T) {
	task := increaseTask(nil)
	step(task, start, reading{"acme", "a", 10, 5, 7, false}.record())
	var got []string
	for _, m := range drain(task, start).State {
		if m.Key[0] == 6 {
			got = append(got, fmt.Sprintf("%x %x", m.Key, m.Value))
		}
	}
	want := []string{
		"0601296de7f6fef512cc630461636d65030372657104686f7374016107736572766963650173 0101018090b3e984d9fcea3180c883c9dfd8fcea310000000000001c400000000000000000",
		"0601296de7f6fef512cc740461636d65 010064962664f9ea18",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s, want\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestIncreaseRefusesState(t *testing.T) {
	key := series.AppendKey(nil, byte(events.Cumulative), "m", nil)
	rule := "\x06\x01" + "12345678"
	f := func(name, key, value string) {
		t.Helper()
		task := increaseTask(nil)
		if err := task.Restore([]byte(key), []byte(value)); err == nil {
			t.Errorf("%s: taken", name)
		}
		if n := len(drain(task, start).State); n > 0 {
			t.Errorf("%s: it left %d changes", name, n)
		}
	}
	f("another version", rule+"t\x04acme", "\x0212345678")
	f("no rule", "\x06\x01123", "\x01")
	f("another kind of key", rule+"x\x04acme", "\x0112345678")
	f("no tenant", rule+"t\x00", "\x0112345678")
	f("tenant cut short", rule+"t\x05acme", "\x0112345678")
	f("a tenant with a series", rule+"t\x04acme"+string(key), "\x0112345678")
	f("first sample cut short", rule+"t\x04acme", "\x011234567")
	f("no series", rule+"c\x04acme", "\x01\x01\x00")
	f("a sample cut short", rule+"c\x04acme"+string(key), "\x01\x01\x01\x00")
}

func TestMeasureIncreaseIsOfMetrics(t *testing.T) {
	cfg := increaseConfig()
	cfg.Rollups[0].From = events.Spans
	if err := cfg.Validate(); err == nil ||
		!strings.Contains(err.Error(), `measure "increase" of spans: want duration_seconds or events`) {
		t.Errorf("got %v", err)
	}
}
