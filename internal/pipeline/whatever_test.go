package pipeline_test

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/pipeline/rollup"
	"github.com/vigie-io/vigie/internal/pipeline/windowed"
	"github.com/vigie-io/vigie/pkg/events"
)

// What a task writes of its state a task reads, whatever names, labels and values producers choose. Else one of them
// could stop a partition, and every tenant on it, at the next start.
func TestStateOfWhateverComes(t *testing.T) {
	of := func(cfg *pipeline.TaskConfig) {
		cfg.Config.Rollups = []rollup.Declared{
			{Name: "i_total", From: events.Metrics, Measure: "increase", By: []string{"service", "a"}},
			{Name: "w", From: events.Metrics, By: []string{"service", "a"}, Window: &windowed.Window{Tumbling: time.Minute},
				Keep: &windowed.Keep{First: true, Last: true, Distinct: "a", Top: &windowed.Top{Of: "a", K: 2}}},
			{Name: "s", From: events.Metrics, By: []string{"service"}, Window: &windowed.Window{Session: &windowed.Session{Gap: time.Minute, By: []string{"a"}}}},
			{Name: "h", From: events.Metrics, By: []string{"a"}, Window: &windowed.Window{Hopping: &windowed.Hopping{Size: time.Minute, Every: 20 * time.Second}}},
		}
	}
	text := rapid.OneOf(rapid.SampledFrom([]string{"", "a", "\x00", "a\x00b", "\u2028", "\"", "\\", "{}", "\U0010ffff"}),
		rapid.String())
	kinds := map[byte]bool{}
	rapid.Check(t, func(t *rapid.T) {
		task, log := newTask(of), stateLog{}
		for i := range rapid.IntRange(1, 8).Draw(t, "events") {
			labels := map[string]string{}
			for _, name := range []string{"service", "a"} {
				if rapid.Bool().Draw(t, "has "+name) {
					labels[name] = text.Draw(t, name)
				}
			}
			if name := text.Draw(t, "label"); name != "" {
				labels[name] = text.Draw(t, "value of label")
			}
			value, err := json.Marshal(map[string]any{
				"time": start.Add(time.Duration(i) * 13 * time.Second).Format(time.RFC3339Nano),
				"name": text.Draw(t, "name"), "labels": labels,
				"kind":  rapid.SampledFrom([]string{"observation", "delta", "gauge", "cumulative"}).Draw(t, "kind"),
				"value": rapid.OneOf(rapid.SampledFrom([]float64{0, math.Copysign(0, -1), 1e308, -1e308, 5e-324}), rapid.Float64()).Draw(t, "value"),
			})
			if err != nil {
				continue // NaN and infinities
			}
			r := record("acme", string(value))
			step(task, start.Add(2*time.Minute), r)
		}
		log.append(drain(task, start.Add(2*time.Minute)).State)
		log.restore(t, newTask(of))
		for key := range log {
			kinds[key[0]] = true
		}
	})
	for _, kind := range []byte{1, 2, 5, 6} { // watermarks, windows, rates, counters: docs/format/state.md
		if !kinds[kind] {
			t.Errorf("got no state of kind %d, want some", kind)
		}
	}
}
