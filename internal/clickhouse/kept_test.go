package clickhouse_test

import (
	"context"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/pipeline/verify"
	"github.com/vigie-io/vigie/internal/pipeline/windowed"
	"github.com/vigie-io/vigie/pkg/series"
)

// keptBlocks are result records of windows or series, all inserted.
type keptBlocks []*verify.Block

func (k keptBlocks) Span(context.Context, time.Time) (verify.Span, error) {
	return verify.Span{From: verify.Offsets{0: 0}, To: verify.Offsets{0: int64(len(k))}}, nil
}

func (k keptBlocks) Settle(context.Context, verify.Offsets) error { return nil }

func (k keptBlocks) Blocks(_ context.Context, from, to verify.Offsets, fn func(*verify.Block) error) error {
	for offset := from[0]; offset < to[0]; offset++ {
		if err := fn(k[offset]); err != nil {
			return err
		}
	}
	return nil
}

// Rows that replace each other are found missing, in each table by itself, and come back as they were; a row that a
// later one has replaced is not missing.
func TestAuditOfRowsThatReplaceEachOther(t *testing.T) {
	server, client := migrated(t, nil)
	at := int64(today(t, server))
	encoder := clickhouse.Encoder{}
	var windows, announced keptBlocks
	add := func(to *keptBlocks, table string, rows int, block []byte, err error) {
		t.Helper()
		b := &verify.Block{Offset: int64(len(*to)), Token: table + "/" + time.Now().String(), Rows: rows, Bytes: block}
		if err == nil {
			err = client.Insert(t.Context(), table, b.Token, rows, block)
		}
		if err != nil {
			t.Fatal(err)
		}
		*to = append(*to, b)
	}
	for _, rows := range []*windowed.Rows{
		windowRows("acme", at, windowRow{part: "t/0", version: 1, count: 2, sum: 3},
			windowRow{part: "t/1", version: 1, count: 4, sum: 5}),
		windowRows("acme", at, windowRow{part: "t/0", version: 2, count: 3, sum: 9}),
		windowRows("acme", at, windowRow{part: "t/0", kind: windowed.Delta, delta: 1, count: 1, sum: 1}),
		windowRows("acme", at, windowRow{part: "t/0", kind: windowed.Delta, delta: 2, count: 1, sum: 1}),
	} {
		block, err := encoder.EncodeWindows(nil, rows)
		add(&windows, pipeline.TableWindows, len(rows.Tenant), block, err)
	}
	for i := range 3 {
		rows := &pipeline.SeriesRows{
			Tenant: []string{"acme"}, Metric: []string{"m"}, Service: []string{"s"}, ID: []series.ID{{Lo: uint64(i % 2)}},
			Kind: []uint8{0}, Native: []bool{false},
			Unit: []string{""}, Help: []string{""}, Labels: []series.Labels{{{Name: "service", Value: "s"}}},
			LastSeen: []uint32{uint32(at) + uint32(i)},
		}
		block, err := encoder.EncodeSeries(nil, rows)
		add(&announced, pipeline.TableSeries, 1, block, err)
	}
	content := func() string {
		return ask(t, server, "SELECT (SELECT groupArray(tuple(*)) FROM (SELECT part, delta, version, count, sum FROM vigie.windows FINAL ORDER BY part, delta)),"+
			" (SELECT groupArray(tuple(*)) FROM (SELECT metric, series_id, last_seen, shape FROM vigie.window_series FINAL)),"+
			" (SELECT groupArray(tuple(*)) FROM (SELECT series_id, last_seen FROM vigie.series FINAL ORDER BY series_id)),"+
			" (SELECT groupArray(tuple(*)) FROM (SELECT name, value, metric, last_seen FROM vigie.label_values FINAL ORDER BY name))")
	}
	whole := content()
	f := func(table string, repair bool, missing ...int64) {
		t.Helper()
		blocks := windows
		if table == verify.KeptSeries || table == verify.KeptLabelValues {
			blocks = announced
		}
		found, err := verify.AuditKept(t.Context(), verify.AuditConfig{Since: time.Unix(at, 0)}, verify.KeptTable{Name: table, Results: blocks}, clickhouse.NewKept(client), repair)
		if err != nil {
			t.Fatal(err)
		}
		var got []int64
		for _, m := range found.Missing {
			got = append(got, m.Offset)
		}
		equalOffsets(t, table, got, missing)
	}
	f(verify.KeptWindows, true)
	f(verify.KeptWindowSeries, true)
	f(verify.KeptSeries, true)
	f(verify.KeptLabelValues, true)
	ask(t, server, "OPTIMIZE TABLE vigie.windows FINAL") // what is replaced is gone
	f(verify.KeptWindows, false)
	for _, lost := range []struct {
		table, where string
		missing      []int64
	}{
		{verify.KeptWindows, "delta = 1", []int64{2}},
		{verify.KeptWindows, "part = 't/0' AND delta = 0", []int64{0, 1}}, // and version 1 is put back with it, to be replaced
		{verify.KeptWindows, "part = 't/1'", []int64{0}},
		{verify.KeptWindowSeries, "1", []int64{0, 1, 2, 3}},
		{verify.KeptSeries, "series_id = 0", []int64{0, 2}},
		{verify.KeptSeries, "series_id = 1", []int64{1}},
		{verify.KeptLabelValues, "name = '__name__'", []int64{0, 1, 2}},
		{verify.KeptLabelValues, "1", []int64{0, 1, 2}},
	} {
		ask(t, server, "ALTER TABLE vigie."+lost.table+" DELETE WHERE "+lost.where+" SETTINGS mutations_sync = 2")
		if content() == whole {
			t.Fatalf("%s where %s: nothing was lost", lost.table, lost.where)
		}
		f(lost.table, false, lost.missing...)
		if lost.table == verify.KeptWindowSeries {
			lost.missing = lost.missing[:1] // the first brings back what all say
		}
		if lost.where == "series_id = 0" {
			lost.missing = []int64{0, 2}
		}
		f(lost.table, true, lost.missing...)
		f(lost.table, false)
		if got := content(); got != whole {
			t.Errorf("%s where %s: got %s, want %s", lost.table, lost.where, got, whole)
		}
	}
}

func equalOffsets(t *testing.T, what string, got, want []int64) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: got records %v missing, want %v", what, got, want)
		return
	}
	for i := range got {
		if got[i] != want[i] {
			t.Errorf("%s: got records %v missing, want %v", what, got, want)
			return
		}
	}
}
