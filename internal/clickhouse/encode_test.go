package clickhouse_test

import (
	"encoding/hex"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/coarse"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/pkg/series"
)

// The bytes are those of docs/format/results.md: they lie in Kafka, so an old record must stay readable.
func TestGoldenBlocks(t *testing.T) {
	rollupRows := rollups(
		row{tenant: "acme", metric: "m", service: "shop", id: series.ID{Hi: 1, Lo: 2}, pane: 1_800_000_000,
			values: []float64{1, 2, 0, -3}},
		row{grain: pipeline.GrainService, tenant: "acme", metric: "m", service: "shop",
			pane: 1_800_000_000, values: []float64{1}},
		row{tenant: "demo", metric: "g", id: series.ID{Hi: math.MaxUint64}, pane: 1_800_000_010,
			lastTime: 1_800_000_010_000_000_001, last: 2.5, lastHist: "\x00h"},
	)
	seriesRows := &pipeline.SeriesRows{
		Tenant: []string{"acme", "acme"}, Metric: []string{"m", "n"}, Service: []string{"shop", ""},
		ID:   []series.ID{{Hi: 1, Lo: 2}, {Lo: 3}},
		Kind: []uint8{0, 3}, Native: []bool{false, true}, Unit: []string{"s", ""}, Help: []string{"a help", ""},
		Labels:   []series.Labels{{{Name: "route", Value: "/"}, {Name: "service", Value: "shop"}}, nil},
		LastSeen: []uint32{1_800_000_000, 1},
	}
	progress := &pipeline.ProgressRows{
		Topic: []string{"t", "t"}, Partition: []int32{0, -1}, Tenant: []string{"", "acme"},
		Time: []int64{1_800_000_000_123, 0}, Updated: []int64{1, -1},
	}
	limits := &pipeline.LimitRows{
		Tenant: []string{"acme", "demo"}, Signal: []string{"metrics", "metrics"},
		Reason: []string{"rate_events", "too_long"}, Part: []string{"t/0", "t/0"},
		Minute: []uint32{1_800_000_000, 60}, Told: []int64{1_800_000_012_345, 61_000}, Most: []uint64{500, 0},
		Used: []uint64{250, 0}, Dropped: []uint64{0, 7},
	}
	letters := []pipeline.LetterRow{
		{
			Tenant: "acme", Signal: "metrics", Reason: "bad_value", Topic: "t", Partition: 3, Offset: 1 << 40,
			Time: 1_800_000_012_345, Letters: 1, Events: 2,
			Bytes: 300, Detail: "event 0: value: NaN", Excerpt: `{"value":NaN}`,
		},
		{Tenant: "demo", Signal: "metrics", Reason: "too_old", Topic: "t", Partition: 3, Offset: -1, Time: 1_800_000_000_000, Letters: 7, Events: 8, Bytes: 9},
	}
	encoder := clickhouse.Encoder{}
	windowRows := windowRows("acme", 1_800_000_000, windowRow{part: "t/0", version: 1, count: 2, sum: 2.5},
		windowRow{part: "t/1", version: 3, count: 1, sum: 4})
	measured := keptRows(1_800_000_000)
	for name, encode := range map[string]func(dst []byte) ([]byte, error){
		"rollups":  func(dst []byte) ([]byte, error) { return encoder.EncodeRollups(dst, rollupRows) },
		"series":   func(dst []byte) ([]byte, error) { return encoder.EncodeSeries(dst, seriesRows) },
		"windows":  func(dst []byte) ([]byte, error) { return encoder.EncodeWindows(dst, windowRows) },
		"measures": func(dst []byte) ([]byte, error) { return encoder.EncodeWindows(dst, measured) },
		"merged": func(dst []byte) ([]byte, error) {
			return encoder.EncodeMerged(dst, coarse.Position{Topic: "--__AQIDBAUGBwgJCgsMDQ", Partition: 3, Next: 1 << 40})
		},
		"limits":   func(dst []byte) ([]byte, error) { return encoder.EncodeLimits(dst, limits) },
		"letters":  func(dst []byte) ([]byte, error) { return encoder.EncodeLetters(dst, letters) },
		"progress": func(dst []byte) ([]byte, error) { return encoder.EncodeProgress(dst, progress) },
	} {
		got, err := encode([]byte("before"))
		if err != nil || !strings.HasPrefix(string(got), "before") {
			t.Fatalf("%s: got %q, %v, want it appended", name, got, err)
		}
		text := hex.Dump(got[len("before"):])
		path := filepath.Join("testdata", name+".golden")
		if *update {
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil || text != string(want) {
			t.Errorf("%s: got\n%swant\n%s%v", name, text, want, err)
		}
	}
}

func TestEncoderErrors(t *testing.T) {
	encoder := clickhouse.Encoder{}
	if _, err := encoder.EncodeRollups(nil, &pipeline.Rollups{}); err == nil {
		t.Error("no rows: got no error")
	}
	bad := rollups(row{tenant: "acme", values: []float64{1}})
	bad.Max = nil
	if _, err := encoder.EncodeRollups(nil, bad); err == nil {
		t.Error("a short column: got no error")
	}
}

// What is encoded comes back as it was, also with more distinct strings than a byte or two can number, and when no
// series of a block has labels.
func TestEncoderRoundTrip(t *testing.T) {
	server, client := migrated(t, nil)
	at := today(t, server)
	for _, n := range []int{1, 256, 257, 65536, 65537} {
		tenant := fmt.Sprint("t", n)
		rows := &pipeline.SeriesRows{}
		for i := range n {
			rows.Tenant = append(rows.Tenant, tenant)
			rows.Metric = append(rows.Metric, fmt.Sprint("metric", i))
			rows.Service = append(rows.Service, "")
			rows.ID = append(rows.ID, series.ID{Hi: uint64(i), Lo: uint64(n)})
			rows.Kind = append(rows.Kind, uint8(i%4))
			rows.Native = append(rows.Native, i%3 == 0)
			rows.Unit = append(rows.Unit, "")
			rows.Help = append(rows.Help, fmt.Sprint("help", i))
			rows.Labels = append(rows.Labels, nil)
			rows.LastSeen = append(rows.LastSeen, at)
		}
		insertSeries(t, client, tenant, rows)
		got := ask(t, server, `SELECT count(), countIf(metric = 'metric' || toString(bitShiftRight(series_id, 64)) AND help = 'help' || toString(bitShiftRight(series_id, 64))
			AND kind = bitShiftRight(series_id, 64) % 4 AND native = (bitShiftRight(series_id, 64) % 3 = 0) AND empty(labels)) FROM vigie.series FINAL WHERE tenant = '`+tenant+"'")
		if want := fmt.Sprintf("%d\t%d", n, n); got != want {
			t.Errorf("%d rows: got %s stored and right, want %s", n, got, want)
		}
	}
}

func BenchmarkEncodeRollups(b *testing.B) {
	const n = 10_000
	rows := make([]row, n)
	for i := range rows {
		values := make([]float64, 30)
		for j := range values {
			values[j] = math.Exp(float64(j) / 10)
		}
		rows[i] = row{tenant: fmt.Sprint("tenant", i/4000), metric: fmt.Sprint("metric", i/100),
			service: fmt.Sprint("service", i/20%8), id: series.ID{Hi: uint64(i), Lo: 1}, pane: 1_800_000_000, values: values}
	}
	block := rollups(rows...)
	var dst []byte
	var err error
	b.ReportAllocs()
	for b.Loop() {
		if dst, err = (clickhouse.Encoder{}).EncodeRollups(dst[:0], block); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/row")
	b.ReportMetric(float64(len(dst))/n, "B/row")
	b.ReportMetric(float64(len(block.Sketch))/n, "sketchB/row")
}

func BenchmarkEncodeSeries(b *testing.B) {
	const n = 10_000
	rows := &pipeline.SeriesRows{}
	for i := range n {
		rows.Tenant = append(rows.Tenant, "acme")
		rows.Metric = append(rows.Metric, fmt.Sprint("metric", i/100))
		rows.Service = append(rows.Service, fmt.Sprint("service", i%8))
		rows.ID = append(rows.ID, series.ID{Hi: uint64(i)})
		rows.Kind = append(rows.Kind, 0)
		rows.Native = append(rows.Native, false)
		rows.Unit = append(rows.Unit, "s")
		rows.Help = append(rows.Help, "")
		rows.Labels = append(rows.Labels,
			series.Labels{{Name: "route", Value: fmt.Sprint(i)}, {Name: "service", Value: "shop"},
				{Name: "status", Value: "200"}})
		rows.LastSeen = append(rows.LastSeen, 1)
	}
	for name, keep := range map[string]bool{"used buffer": true, "new buffer": false} {
		b.Run(name, func(b *testing.B) {
			var dst []byte
			b.ReportAllocs()
			for b.Loop() {
				block, err := (clickhouse.Encoder{}).EncodeSeries(dst[:0], rows)
				if err != nil {
					b.Fatal(err)
				}
				if keep {
					dst = block
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/row")
		})
	}
}
