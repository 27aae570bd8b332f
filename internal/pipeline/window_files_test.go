package pipeline_test

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/pipeline/rollup"
	"github.com/vigie-io/vigie/internal/pipeline/windowed"
	"github.com/vigie-io/vigie/pkg/events"
)

// However events are spread over tasks, and in whatever groups what these hold is joined: the windows that are closed
// of it are those that one task closes of all events in order.
func TestClosingIsOneTask(t *testing.T) {
	shapes := map[string]windowed.Window{
		"tumbling": {Tumbling: 10 * time.Second},
		"hopping":  {Hopping: &windowed.Hopping{Size: 15 * time.Second, Every: 10 * time.Second}, AllowedLateness: time.Minute},
		"merge": {Hopping: &windowed.Hopping{Size: 40 * time.Second, Every: 10 * time.Second},
			AllowedLateness: time.Minute, Late: "merge"},
		"session": {Session: &windowed.Session{Gap: 7 * time.Second}, AllowedLateness: time.Minute},
		"divert":  {Session: &windowed.Session{Gap: 3 * time.Second}, Late: "divert"},
	}
	cfg := pipeline.DefaultConfig()
	for _, name := range slices.Sorted(maps.Keys(shapes)) {
		w := shapes[name]
		for i, keep := range []*windowed.Keep{nil, {First: true, Last: true, Distinct: "n", Top: &windowed.Top{Of: "n", K: 3}}} {
			cfg.Rollups = append(cfg.Rollups, rollup.Declared{
				Name: fmt.Sprint(name, i), From: events.Metrics, Where: `name == "m"`,
				By: []string{"service"}, Window: &w, Keep: keep,
			})
		}
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	parts := func(uint64) string { return fmt.Sprint(at.Topic, "/", at.Partition) }
	rapid.Check(t, func(t *rapid.T) {
		type event struct {
			second int
			json   string
		}
		var all []event
		for range rapid.IntRange(1, 40).Draw(t, "events") {
			second := rapid.IntRange(0, 120).Draw(t, "second")
			all = append(all, event{second, fmt.Sprintf(`{"time":%q,"name":"m","value":%v,"labels":{"service":%q,"n":%q}}`,
				start.Add(time.Duration(second)*time.Second).Format(time.RFC3339),
				float64(rapid.IntRange(1, 64).Draw(t, "value"))/8,
				rapid.SampledFrom([]string{"s", "r"}).Draw(t, "service"), fmt.Sprint(rapid.IntRange(0, 5).Draw(t, "n")))})
		}
		now := start.Add(time.Hour)

		runs := make([]map[string][]byte, rapid.IntRange(1, 4).Draw(t, "tasks"))
		tasks := make([]*pipeline.Task, len(runs))
		for i := range runs {
			runs[i], tasks[i] = map[string][]byte{}, windowedTask(cfg)
		}
		for _, e := range all {
			step(tasks[rapid.IntRange(0, len(tasks)-1).Draw(t, "task")], now, record("acme", e.json))
		}
		for i, task := range tasks {
			last := ""
			task.TakeWindows(func(key, value []byte) {
				if string(key) <= last {
					t.Fatalf("got key %x after %x", key, last)
				}
				last = string(key)
				runs[i][last] = slices.Clone(value)
			})
			if out := drain(task, now); len(out.Windows.Blocks) > 0 {
				t.Fatal("got windows of a task from which they were taken")
			}
		}
		for len(runs) > 1 { // pairs of neighbours, in any order of pairs
			i := rapid.IntRange(0, len(runs)-2).Draw(t, "pair")
			for key, value := range runs[i+1] {
				if mine, both := runs[i][key]; both {
					joined, err := windowed.Join(nil, mine, value)
					if err != nil {
						t.Fatal(err)
					}
					value = joined
				}
				runs[i][key] = value
			}
			runs = slices.Delete(runs, i+1, i+2)
		}
		got := []string{}
		var rules []*windowed.Rule
		for i := range cfg.Rollups {
			rules = append(rules, cfg.Rollups[i].WindowRule())
		}
		take := func(b *windowed.Rows) error { got = append(got, blockRows(b)...); return nil }
		closing := windowed.NewClosing(rules, rapid.SampledFrom([]int{1, 3, 100}).Draw(t, "rows of a block"), 1<<20, parts, nil)
		for _, key := range slices.Sorted(maps.Keys(runs[0])) {
			if err := closing.Close([]byte(key), runs[0][key], take); err != nil {
				t.Fatal(err)
			}
		}
		if err := closing.Rest(take); err != nil {
			t.Fatal(err)
		}

		slices.SortStableFunc(all, func(a, b event) int { return cmp.Compare(a.second, b.second) })
		one, want := windowedTask(cfg), []string{}
		for _, e := range all {
			step(one, now, record("acme", e.json))
		}
		step(one, now, record("acme", fmt.Sprintf(`{"time":%q,"name":"end","value":1}`, now.Format(time.RFC3339))))
		for _, b := range drain(one, now).Windows.Blocks {
			want = append(want, blockRows(b)...)
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Fatalf("got %d rows\n%q\nwant %d\n%q", len(got), got, len(want), want)
		}
	})
}

// blockRows are the rows of a block, but for their states.
func blockRows(b *windowed.Rows) (rows []string) {
	for i := range b.Tenant {
		row := fmt.Sprint(b.Tenant[i], b.Metric[i], b.Series[i], b.Labels[i], b.Start[i], b.End[i], b.Shape[i], b.Rule[i],
			b.Part[i], b.Version[i], b.Kind[i], b.Delta[i],
			b.Count[i], b.Sum[i], b.Min[i], b.Max[i])
		if b.Measures != nil && b.Measures[i] != 0 {
			row += fmt.Sprint(b.Measures[i], b.FirstTime[i], b.First[i], b.LastTime[i], b.Last[i], b.Top[i])
		}
		rows = append(rows, row)
	}
	return rows
}

// What was cut off, or is of something else, is an error and no crash.
func FuzzJoinWindows(f *testing.F) {
	task := windowedTask(windowedConfig(windowed.Window{Tumbling: 10 * time.Second}))
	step(task, start, record("acme", fmt.Sprintf(`{"time":%q,"name":"m","value":1}`, start.Format(time.RFC3339))))
	task.TakeWindows(func(_, value []byte) { f.Add(value) })
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, value []byte) {
		joined, err := windowed.Join(nil, value, value)
		if err != nil {
			return
		}
		if _, err := windowed.Join(nil, joined); err != nil {
			t.Errorf("what was joined is not read: %v", err)
		}
	})
}
