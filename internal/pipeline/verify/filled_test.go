package verify_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/pipeline/verify"
	"github.com/vigie-io/vigie/pkg/series"
	"github.com/vigie-io/vigie/pkg/sketches"
)

// block is one row of a pane.
func block(t *testing.T, pane time.Time, count uint64) (rows *pipeline.Rollups, encoded []byte) {
	t.Helper()
	var sketch sketches.Sketch
	rows = &pipeline.Rollups{
		Grain: []pipeline.Grain{0}, Tenant: []string{"acme"}, Metric: []string{"m"},
		Service: []string{"s"}, Series: []series.ID{{Lo: 1}},
		Pane: []uint32{uint32(pane.Unix() / 10 * 10)}, Count: []uint64{count}, Sum: []float64{float64(count)},
		Min: []float64{1}, Max: []float64{1},
		LastTime: []int64{0}, Last: []float64{0}, LastHist: []string{""}, Sketch: sketch.AppendDD(nil),
	}
	encoded, err := json.Marshal(rows)
	if err != nil {
		t.Fatal(err)
	}
	return rows, encoded
}

// growingStore is a store of which somebody else stores a block just before it is read for the first time.
type growingStore struct {
	fakeStore
	once func()
}

func (g *growingStore) Rows(ctx context.Context, q verify.Query, yield func(*verify.Row) error) error {
	if once := g.once; once != nil {
		g.once = nil
		once()
	}
	return g.fakeStore.Rows(ctx, q, yield)
}

// Rows that are stored while an audit reads do not hide what is missing in a pane that can still grow: it is left out
// until its last rows are there, and no other is.
func TestAuditLeavesOutWhatGrows(t *testing.T) {
	minute := now.Truncate(time.Minute)
	for _, test := range []struct {
		name    string
		at      time.Time
		delay   time.Duration
		missing int
	}{
		{"the last rows may come", minute.Add(74 * time.Second), 5 * time.Second, 0},
		{"they have", minute.Add(75 * time.Second), 5 * time.Second, 1},
		{"merged rows come later", minute.Add(104 * time.Second), 35 * time.Second, 0},
		{"they have come", minute.Add(105 * time.Second), 35 * time.Second, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			results, store := &fakeResults{}, &growingStore{fakeStore: fakeStore{rows: map[string]map[verify.Key]*row{}}}
			_, lost := block(t, minute, 5)
			results.blocks = append(results.blocks, lost)
			store.once = func() {
				rows, encoded := block(t, minute.Add(time.Minute), 7)
				results.blocks = append(results.blocks, encoded)
				store.insert(rows)
				if test.missing == 0 { // it hides the loss
					rows, encoded := block(t, minute, 7)
					results.blocks = append(results.blocks, encoded)
					store.insert(rows)
				}
			}
			table := verify.Filled{Table: verify.Tables()[1], Results: []verify.Results{results}, Delay: test.delay}
			found, err := verify.Audit(t.Context(), verify.AuditConfig{Table: table, Since: minute, Now: test.at, Decode: decode}, store)
			if err != nil || len(found.Missing) != test.missing {
				t.Errorf("got %+v, %v, want %d missing", found, err, test.missing)
			}
			if test.missing == 0 && found.To > minute.Unix() {
				t.Errorf("got panes up to %d compared, want none from %d on", found.To, minute.Unix())
			}
		})
	}
}

// A pane is looked at from where the results of the audit's own sink brought something, and all that fills the table
// counts there.
func TestAuditCountsAllThatFillsATable(t *testing.T) {
	old, fresh := now.Add(-time.Hour), now.Add(-10*time.Minute)
	own, other, store := &fakeResults{ingest: "own"}, &fakeResults{ingest: "other"}, &fakeStore{rows: map[string]map[verify.Key]*row{}}
	put := func(into *fakeResults, pane time.Time, count uint64, lost bool) {
		rows, encoded := block(t, pane, count)
		if into.blocks = append(into.blocks, encoded); !lost {
			store.insert(rows)
		}
	}
	put(other, fresh, 7, false)
	put(other, old, 9, true)
	put(own, old, 1, false)
	put(own, fresh, 5, true)
	f := func(after verify.Offsets, of []verify.Results, want ...string) {
		t.Helper()
		found, err := verify.Audit(t.Context(), verify.AuditConfig{Table: filled(verify.Tables()[1], of...), Since: now.Add(-2 * time.Hour),
			Now: now, After: after, Decode: decode}, store)
		if err != nil || len(found.Missing) != len(want) {
			t.Fatalf("after %v: got %+v, %v, want %v", after, found, err, want)
		}
		for i, m := range found.Missing {
			if m.Ingest != want[i] {
				t.Errorf("after %v: got %v, want %v", after, found.Missing, want)
			}
		}
	}
	f(verify.Offsets{0: 1}, []verify.Results{own, other}, "own")
	f(verify.Offsets{0: 0}, []verify.Results{own, other}, "own", "other")
	f(nil, []verify.Results{other, own}, "other", "own")
	f(verify.Offsets{0: 2}, []verify.Results{own, other})
	f(verify.Offsets{}, []verify.Results{other, own})
}

// Merged rows come later than those of an epoch: so does the audit of the tables that they fill. Two auditors share the
// metrics, and a table is as wrong as both say.
func TestAuditorsOfTwoSinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := fakeStore{rows: map[string]map[verify.Key]*row{}, mu: new(sync.Mutex)}
		sinks := []*installation{{rows: store, known: map[string]verify.Offsets{}}, {rows: store, known: map[string]verify.Offsets{}}}
		reg := prometheus.NewRegistry()
		metrics := verify.NewAuditMetrics(reg)
		table := verify.Tables()[1]
		of := func(own, other *installation, delay time.Duration) {
			a := verify.NewAuditor(verify.AuditorConfig{Range: 3 * time.Hour, Decode: decode,
				Tables: []verify.Filled{{Table: table, Results: []verify.Results{own, other}, Delay: delay}}},
				own, own, own, own, metrics, slog.New(slog.NewTextHandler(io.Discard, nil)))
			a.Doubt()
			go a.Run(t.Context(), own.stored)
		}
		of(sinks[0], sinks[1], 5*time.Second)
		of(sinks[1], sinks[0], 35*time.Second)
		sinks[0].add(t, time.Now(), 3, false)
		sinks[1].add(t, time.Now(), 5, true)
		time.Sleep(time.Minute + 20*time.Second)
		if got := []int64{sinks[0].knownOf(table.Name), sinks[1].knownOf(table.Name)}; got[0] != -1 || got[1] != -1 {
			t.Errorf("got known up to %v, want neither: the first finds a loss, the second waits", got)
		}
		if got := gauge(t, reg, "vigie_sink_audit_unrepaired", table.Name); got != 1 {
			t.Errorf("after the first audit: got %v unrepaired, want 1", got)
		}
		time.Sleep(30 * time.Second)
		if got := gauge(t, reg, "vigie_sink_audit_unrepaired", table.Name); got != 2 {
			t.Errorf("after both: got %v unrepaired, want 2", got)
		}
		rows, _ := block(t, time.Now().Add(-110*time.Second), 5)
		store.insertInto(table, rows)
		time.Sleep(3 * time.Hour)
		if got := gauge(t, reg, "vigie_sink_audit_unrepaired", table.Name); got != 0 {
			t.Errorf("put back: got %v unrepaired, want 0", got)
		}
	})
}

// Panes that deleted records can have been for are left out, whether or not the topic has blocks for the table behind them.
func TestAuditLeavesOutWhatRetentionHasCut(t *testing.T) {
	own, other, store := &fakeResults{ingest: "own"}, &fakeResults{ingest: "other"}, &fakeStore{rows: map[string]map[verify.Key]*row{}}
	for _, age := range []time.Duration{3 * time.Hour, 2 * time.Hour, time.Hour} {
		_, lost := block(t, now.Add(-age), 5)
		own.blocks = append(own.blocks, lost)
	}
	f := func(cut time.Time, missing int) {
		t.Helper()
		other.cut = cut
		cfg := verify.AuditConfig{Table: filled(verify.Tables()[1], own, other), Since: now.Add(-4 * time.Hour), Now: now,
			MaxFuture: 10 * time.Minute, Decode: decode}
		found, err := verify.Audit(t.Context(), cfg, store)
		if err != nil || len(found.Missing) != missing {
			t.Errorf("cut at %s: got %d missing, %v, want %d", cut, len(found.Missing), err, missing)
		}
	}
	f(time.Time{}, 3)
	f(now.Add(-2*time.Hour-11*time.Minute), 2)
	f(now.Add(-2*time.Hour-9*time.Minute), 1)
}
