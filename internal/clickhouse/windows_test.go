package clickhouse_test

import (
	"testing"

	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/pipeline/windowed"
	"github.com/vigie-io/vigie/pkg/series"
	"github.com/vigie-io/vigie/pkg/sketches"
)

type windowRow struct {
	part    string
	version uint32
	count   uint64
	sum     float64
	kind    windowed.Kind
	delta   uint64
}

// windowRows are rows of one series and one window of a minute.
func windowRows(tenant string, start int64, rows ...windowRow) *windowed.Rows {
	w := &windowed.Rows{}
	for _, r := range rows {
		w.Tenant = append(w.Tenant, tenant)
		w.Metric = append(w.Metric, "checkout_seconds")
		w.Service = append(w.Service, "shop")
		w.Series = append(w.Series, series.ID{Hi: 1, Lo: 2})
		w.Labels = append(w.Labels, series.Labels{{Name: "service", Value: "shop"}})
		w.Start, w.End = append(w.Start, start), append(w.End, start+60)
		w.SeriesKind = append(w.SeriesKind, 0)
		w.Shape = append(w.Shape, "tumbling 1m")
		w.Rule = append(w.Rule, 7)
		w.Part = append(w.Part, r.part)
		w.Version = append(w.Version, r.version)
		w.Kind, w.Delta = append(w.Kind, r.kind), append(w.Delta, r.delta)
		w.Count = append(w.Count, r.count)
		w.Sum = append(w.Sum, r.sum)
		w.Min = append(w.Min, 1)
		w.Max = append(w.Max, r.sum)
		var sketch sketches.Sketch
		sketch.AddN(2, float64(r.count))
		w.Sketch = sketch.AppendDD(w.Sketch)
	}
	return w
}

func insertWindows(t testing.TB, client *clickhouse.Client, token string, rows *windowed.Rows) {
	t.Helper()
	block, err := clickhouse.Encoder{}.EncodeWindows(nil, rows)
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Insert(t.Context(), pipeline.TableWindows, token, len(rows.Tenant), block); err != nil {
		t.Fatal(err)
	}
}

// A greater version replaces a lesser whatever their order, parts and deltas add up, what is retracted is gone, a token
// counts once, and no other tenant reads any of it; all of that before and after parts are merged.
func TestWindowsView(t *testing.T) {
	server, client := migrated(t, nil)
	ask(t, server, "SYSTEM STOP MERGES")
	at := int64(today(t, server))
	insertWindows(t, client, "a",
		windowRows("acme", at, windowRow{part: "t/0", version: 2, count: 5, sum: 10},
			windowRow{part: "t/1", version: 1, count: 3, sum: 6}))
	insertWindows(t, client, "b", windowRows("acme", at, windowRow{part: "t/0", version: 1, count: 4, sum: 8}))
	insertWindows(t, client, "b", windowRows("acme", at, windowRow{part: "t/0", version: 1, count: 4, sum: 8}))
	insertWindows(t, client, "d",
		windowRows("acme", at+60, windowRow{part: "t/0", version: 2, kind: windowed.Retracted},
			windowRow{part: "t/0", version: 1, count: 4, sum: 8}))
	insertWindows(t, client, "e", windowRows("acme", at+120, windowRow{part: "t/0", version: 1, count: 4, sum: 8}))
	insertWindows(t, client, "f",
		windowRows("acme", at+120, windowRow{part: "t/0", version: 3, kind: windowed.Delta, delta: 3, count: 2, sum: 4}))
	insertWindows(t, client, "g",
		windowRows("acme", at+120, windowRow{part: "t/0", version: 2, kind: windowed.Delta, delta: 2, count: 1, sum: 2}))
	insertWindows(t, client, "c", windowRows("demo", at, windowRow{part: "t/0", version: 9, count: 900, sum: 900}))
	insertWindows(t, client, "h",
		windowRows("acme", at, windowRow{part: "t/0", version: 1, kind: windowed.Late, delta: 18, count: 1, sum: 2},
			windowRow{part: "t/0", version: 1, kind: windowed.TooLate, delta: 22, count: 4, sum: 8}))
	insertWindows(t, client, "i",
		windowRows("acme", at, windowRow{part: "t/0", version: 1, kind: windowed.Late, delta: 19, count: 2, sum: 4}))
	insertWindows(t, client, "j",
		windowRows("demo", at, windowRow{part: "t/0", version: 1, kind: windowed.Late, delta: 19, count: 700, sum: 4}))
	f := func() {
		t.Helper()
		got := mustTenantSQL(t, client, "acme", `SELECT metric, service, labels, toUnixTimestamp(end) - toUnixTimestamp(start), version, count, sum, min, max,
			round(quantile_of(0.5, sketch), 1) FROM api.windows GROUP BY ALL ORDER BY version FORMAT CSV`)
		want := `"checkout_seconds","shop","{'service':'shop'}",60,2,8,16,1,10,2` + "\n" + `"checkout_seconds","shop","{'service':'shop'}",60,3,7,14,1,8,2`
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		got = mustTenantSQL(t, client, "acme", `SELECT reason, count, sum, round(quantile_of(0.5, sketch), 1) FROM api.late_windows GROUP BY ALL ORDER BY reason FORMAT CSV`)
		if want := `"late",3,6,2` + "\n" + `"too_late",4,8,2`; got != want {
			t.Errorf("late: got %s, want %s", got, want)
		}
	}
	f()
	ask(t, server, "SYSTEM START MERGES")
	ask(t, server, "OPTIMIZE TABLE vigie.windows FINAL")
	f()
}
