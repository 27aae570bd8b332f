package pipeline_test

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/pipeline/windowed"
)

// A task that has aborted an epoch is as one that has been restored from the log: what it writes of whatever comes next
// is the same, bit for bit, with any shape of windows, any late policy, and measures with records of their own.
func TestAbortIsAsRestored(t *testing.T) {
	windows := []windowed.Window{
		{Tumbling: 10 * time.Second},
		{Hopping: &windowed.Hopping{Size: 20 * time.Second, Every: 5 * time.Second}},
		{Session: &windowed.Session{Gap: 7 * time.Second}},
	}
	rapid.Check(t, func(t *rapid.T) {
		w := rapid.SampledFrom(windows).Draw(t, "window")
		w.Late = rapid.SampledFrom([]string{"recompute", "merge", "divert"}).Draw(t, "late")
		if w.Session != nil && w.Late == "merge" {
			w.Late = "recompute"
		}
		w.AllowedLateness = time.Duration(rapid.SampledFrom([]int64{0, 10, 1 << 20}).Draw(t, "lateness")) * time.Second
		cfg := windowedConfig(w)
		if rapid.Bool().Draw(t, "keep") {
			cfg = keepConfig(w)
		}
		if err := cfg.Validate(); err != nil {
			t.Fatal(err)
		}
		task, state := windowedTask(cfg), stateLog{}
		if rapid.Bool().Draw(t, "another rule first") {
			more := cfg
			old := cfg.Rollups[0]
			old.Name = "old"
			more.Rollups = append(more.Rollups[:1:1], old)
			state.epoch(t, windowedTask(more))
			state.restore(t, task)
		}
		for range rapid.IntRange(1, 6).Draw(t, "epochs") {
			if rapid.Bool().Draw(t, "commit") {
				state.epoch(t, task)
				continue
			}
			for range rapid.IntRange(1, 2).Draw(t, "aborts") {
				play(task, someEvents(t))
				if rapid.Bool().Draw(t, "drained") {
					drain(task, start.Add(time.Minute))
				}
				task.Forget()
			}
			restored := windowedTask(cfg)
			state.restore(t, restored)
			for range 2 {
				next := someEvents(t)
				play(task, next)
				play(restored, next)
				got, want := drain(task, start.Add(time.Minute)), drain(restored, start.Add(time.Minute))
				if got, want := windowChanges(got), windowChanges(want); !slices.Equal(got, want) {
					t.Fatalf("got changes\n%q\nwant, as restored,\n%q", got, want)
				}
				if !reflect.DeepEqual(got.Windows.Blocks, want.Windows.Blocks) {
					t.Fatalf("got windows %+v, want, as restored, %+v", got.Windows.Blocks, want.Windows.Blocks)
				}
				state.append(got.State)
				task.Committed(true)
				restored.Committed(true)
			}
		}
	})
}

// epoch commits one.
func (s stateLog) epoch(t *rapid.T, task *pipeline.Task) {
	play(task, someEvents(t))
	s.append(drain(task, start.Add(time.Minute)).State)
	task.Committed(true)
}

func someEvents(t *rapid.T) []keptEvent {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) keptEvent {
		return keptEvent{
			0, rapid.SampledFrom([]string{"s", "r"}).Draw(t, "service"), rapid.Int64Range(0, 60).Draw(t, "second"),
			float64(rapid.IntRange(1, 64).Draw(t, "value")) / 8, float64(rapid.IntRange(0, 20).Draw(t, "bytes")) / 2,
			rapid.SampledFrom([]string{"", "ann", "bob"}).Draw(t, "user"),
			rapid.SampledFrom([]string{"", "a", "b", "c", "d", "e"}).Draw(t, "item"),
		}
	}), 0, 6).Draw(t, "events")
}

func play(task *pipeline.Task, evs []keptEvent) {
	for i := range evs {
		step(task, start.Add(time.Minute), record("acme", evs[i].json()))
	}
}

// windowChanges are the changes of windows among those of state.
func windowChanges(out *pipeline.Outputs) (changes []string) {
	for i := range out.State {
		if m := &out.State[i]; m.Key[0] == 2 {
			changes = append(changes, fmt.Sprintf("%x=%x %v", m.Key, m.Value, m.Value == nil))
		}
	}
	return changes
}
