package pipeline

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"unsafe"

	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
	"github.com/vigie-io/vigie/pkg/sketches"
)

// An active series takes two cache lines, and is nothing that the garbage collector has to look into.
func TestEntrySize(t *testing.T) {
	if got := unsafe.Sizeof(entry{}); got != 128 {
		t.Errorf("got %d bytes for an entry, want 128", got)
	}
	if got := unsafe.Sizeof(cell{}); got != 96 {
		t.Errorf("got %d bytes for a cell, want 96", got)
	}
}

// However the panes of a series follow each other, each is there once, holds what it was given, and comes in its turn.
func TestPanesOfASeries(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		task := NewTask(TaskConfig{Partition: Partition{Topic: "t"}, Signal: events.Metrics, Config: DefaultConfig()})
		out := NewOutputs(&task.cfg.Config)
		for epoch := range 3 {
			want, sums, panes := map[uint32]*sketches.Sketch{}, map[uint32]float64{}, []uint32{}
			most := rapid.SampledFrom([]uint32{2, 10, 60}).Draw(t, "panes")
			for range rapid.IntRange(1, 200).Draw(t, "events") {
				second := 1_000_000 + paneSeconds*rapid.Uint32Range(0, most).Draw(t, "pane")
				v := rapid.Float64Range(-1, 100).Draw(t, "value")
				tn, ref, e := task.series("acme", identity{kind: events.Observation, metric: "m"})
				task.observation(task.take(tn, ref, e, int64(second)*1e9), v)
				if want[second] == nil {
					want[second], panes = new(sketches.Sketch), append(panes, second)
				}
				want[second].Add(v)
				sums[second] += v
			}
			if rapid.Bool().Draw(t, "abort") {
				task.Forget()
				continue
			}
			out.Reset()
			task.Drain(out, int64(epoch)*1000)
			task.Committed(false)
			slices.Sort(panes)
			rows := out.Rollups[0]
			if got := len(rows.Pane); got != 2*len(panes) { // and the service's
				t.Fatalf("got %d rows, want 2 of each of %d panes", got, len(panes))
			}
			var states []byte
			for i, pane := range rows.Pane {
				start := panes[i%len(panes)]
				states = want[start].AppendDD(states)
				if count := uint64(want[start].Count()); pane != start || rows.Count[i] != count || rows.Sum[i] != sums[start] {
					t.Fatalf("row %d: got pane %d, count %d, sum %v, want %d, %d, %v",
						i, pane, rows.Count[i], rows.Sum[i], start, count, sums[start])
				}
			}
			if got, want := fmt.Sprintf("%x", rows.Sketch), fmt.Sprintf("%x", states); got != want {
				t.Fatalf("got sketches %s, want %s", got, want)
			}
		}
	})
}

// However many values a cell gets, its rows and those of its service are of sketches with all of them.
func TestCellsOfAnyLength(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		task := NewTask(TaskConfig{Partition: Partition{Topic: "t"}, Signal: events.Metrics, Config: DefaultConfig()})
		out := NewOutputs(&task.cfg.Config)
		for epoch := range 2 {
			want := map[series.ID]*sketches.Sketch{zeroID: new(sketches.Sketch)}
			for _, name := range []string{"a", "b"} {
				tn, ref, e := task.series("acme", identity{kind: events.Observation, metric: "m", labels: series.Labels{{Name: "n", Value: name}}})
				id := tn.id(ref)
				want[id] = new(sketches.Sketch)
				n := rapid.SampledFrom([]int{1, fewValues, fewValues + 1, manyValues, manyValues + 1, 300}).Draw(t, "values")
				odd := rapid.IntRange(-n, n).Draw(t, "the negative one, if any")
				for i := range n {
					v := rapid.Float64Range(1, 50).Draw(t, "value")
					if i == odd {
						v = -v
					}
					task.observation(task.take(tn, ref, e, 1_000_000e9), v)
					want[id].Add(v)
					want[zeroID].Add(v)
				}
			}
			out.Reset()
			task.Drain(out, int64(epoch)*1000)
			task.Committed(false)
			var states []byte
			rows := out.Rollups[0]
			for i, id := range rows.Series {
				states = want[id].AppendDD(states)
				if got, want := float64(rows.Count[i]), want[id].Count(); got != want {
					t.Fatalf("series %s: got count %v, want %v", id, got, want)
				}
			}
			if len(rows.Series) != 3 || !bytes.Equal(rows.Sketch, states) {
				t.Fatalf("got %d rows with sketches %x, want 3 with %x", len(rows.Series), rows.Sketch, states)
			}
		}
	})
}
