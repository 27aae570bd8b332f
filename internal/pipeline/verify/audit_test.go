package verify_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/pipeline/verify"
	"github.com/vigie-io/vigie/pkg/series"
	"github.com/vigie-io/vigie/pkg/sketches"
)

// fakeResults are blocks in memory, as JSON, for an ingest table.
type fakeResults struct {
	blocks [][]byte
	ingest string
	cut    time.Time // of the first record left, where some were deleted
}

func (f *fakeResults) Span(context.Context, time.Time) (verify.Span, error) {
	span := verify.Span{From: verify.Offsets{0: 0}, To: verify.Offsets{0: int64(len(f.blocks))}, Cut: map[int32]time.Time{}}
	if !f.cut.IsZero() {
		span.Cut[0] = f.cut
	}
	return span, nil
}

func (f *fakeResults) Settle(context.Context, verify.Offsets) error { return nil }

func (f *fakeResults) Blocks(_ context.Context, from, to verify.Offsets, fn func(*verify.Block) error) error {
	for offset := from[0]; offset < to[0]; offset++ {
		if err := fn(&verify.Block{Offset: offset, Ingest: f.ingest, Bytes: f.blocks[offset]}); err != nil {
			return err
		}
	}
	return nil
}

func filled(table verify.Table, by ...verify.Results) verify.Filled {
	return verify.Filled{Table: table, Results: by}
}

func decode(block []byte) (*pipeline.Rollups, error) {
	rows := new(pipeline.Rollups)
	return rows, json.Unmarshal(block, rows)
}

// drawBlock draws a block of rows whose counts tell it from others, mostly.
func drawBlock(t *rapid.T) *pipeline.Rollups {
	rows := &pipeline.Rollups{}
	var sketch sketches.Sketch
	seen := map[[2]int]bool{}
	for range rapid.IntRange(1, 6).Draw(t, "rows") {
		id, pane := rapid.IntRange(1, 3).Draw(t, "series"), rapid.IntRange(0, 3).Draw(t, "pane")
		if seen[[2]int{id, pane}] {
			continue
		}
		seen[[2]int{id, pane}] = true
		rows.Grain, rows.Tenant, rows.Metric, rows.Service = append(rows.Grain, 0), append(rows.Tenant, "acme"), append(rows.Metric, "m"), append(rows.Service, "s")
		rows.Series, rows.Pane = append(rows.Series, series.ID{Lo: uint64(id)}), append(rows.Pane, uint32(now.Add(-time.Minute).Unix()+int64(10*pane)))
		rows.Count, rows.Sum = append(rows.Count, rapid.Uint64Range(1, 50).Draw(t, "count")), append(rows.Sum, rapid.Float64Range(0.1, 9).Draw(t, "sum"))
		rows.Min, rows.Max = append(rows.Min, 0), append(rows.Max, 9)
		rows.LastTime, rows.Last, rows.LastHist = append(rows.LastTime, 0), append(rows.Last, 0), append(rows.LastHist, "")
		rows.Sketch = sketch.AppendDD(rows.Sketch)
	}
	return rows
}

// An audit names exactly the blocks that a table has not, of all results that fill it, or says that it cannot tell; it
// never names another.
func TestAuditNamesWhatIsMissing(t *testing.T) {
	resolved, audits := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		store := &fakeStore{rows: map[string]map[verify.Key]*row{}}
		both := []*fakeResults{{ingest: "a"}, {ingest: "b"}}
		want := map[string]bool{}
		for range rapid.IntRange(1, 8).Draw(t, "blocks") {
			rows := drawBlock(t)
			results := rapid.SampledFrom(both).Draw(t, "results")
			block, err := json.Marshal(rows)
			if err != nil {
				t.Fatal(err)
			}
			results.blocks = append(results.blocks, block)
			if len(want) < 2 && rapid.IntRange(0, 4).Draw(t, "lost") == 0 {
				want[fmt.Sprint(results.ingest, len(results.blocks)-1)] = true
				continue
			}
			store.insert(rows)
		}
		found, err := verify.Audit(context.Background(), verify.AuditConfig{
			Table: filled(verify.Tables()[rapid.IntRange(0, 2).Draw(t, "table")], both[0], both[1]),
			Since: now.Add(-2 * time.Hour), Now: now, Decode: decode,
		}, store)
		audits++
		if errors.Is(err, verify.ErrUnresolved) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		resolved++
		if len(found.Missing) != len(want) {
			t.Fatalf("got %v missing, want %v", found.Missing, want)
		}
		for _, m := range found.Missing {
			if !want[fmt.Sprint(m.Ingest, m.Offset)] {
				t.Fatalf("got block %d of %s named, want %v", m.Offset, m.Ingest, want)
			}
		}
	})
	if 2*resolved < audits {
		t.Errorf("got %d of %d audits resolved, want most", resolved, audits)
	}
}

// What other numbers were put in the place of is not missing, and a block that has rows there and elsewhere is found by
// the rest.
func TestAuditSkipsWhatWasReplaced(t *testing.T) {
	results, store := &fakeResults{}, &fakeStore{rows: map[string]map[verify.Key]*row{}}
	old, fresh := now.Add(-90*time.Minute).Unix()/10*10, now.Add(-time.Minute).Unix()/10*10
	for _, panes := range [][]int64{{old}, {old, fresh}, {fresh}} {
		rows := &pipeline.Rollups{}
		var sketch sketches.Sketch
		for i, pane := range panes {
			rows.Grain, rows.Tenant, rows.Metric, rows.Service = append(rows.Grain, 0), append(rows.Tenant, "acme"), append(rows.Metric, "m"), append(rows.Service, "s")
			rows.Series, rows.Pane = append(rows.Series, series.ID{Lo: 1}), append(rows.Pane, uint32(pane))
			rows.Count, rows.Sum = append(rows.Count, uint64(10*len(panes)+i+1)), append(rows.Sum, 1)
			rows.Min, rows.Max = append(rows.Min, 0), append(rows.Max, 1)
			rows.LastTime, rows.Last, rows.LastHist = append(rows.LastTime, 0), append(rows.Last, 0), append(rows.LastHist, "")
			rows.Sketch = sketch.AppendDD(rows.Sketch)
		}
		block, err := json.Marshal(rows)
		if err != nil {
			t.Fatal(err)
		}
		results.blocks = append(results.blocks, block)
		if len(results.blocks) == 3 {
			store.insert(rows) // the others are lost, or were deleted when they were replaced
		}
	}
	f := func(replaced func(tenant, metric string, start int64) bool, want int) {
		t.Helper()
		found, err := verify.Audit(t.Context(), verify.AuditConfig{
			Table: filled(verify.Tables()[0], results), Since: now.Add(-2 * time.Hour), Now: now, Decode: decode, Replaced: replaced,
		}, store)
		if err != nil || len(found.Missing) != want {
			t.Errorf("got %v, %v, want %d missing", found.Missing, err, want)
		}
	}
	f(nil, 2)
	f(func(tenant, metric string, start int64) bool {
		return tenant == "acme" && metric == "m" && start == old
	}, 1)
	f(func(string, string, int64) bool { return true }, 0)
}
