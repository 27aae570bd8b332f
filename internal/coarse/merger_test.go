package coarse_test

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/internal/coarse"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/pkg/series"
	"github.com/vigie-io/vigie/pkg/sketches"
)

// oneRow is a row of rollups by itself.
type oneRow struct {
	grain                   pipeline.Grain
	tenant, metric, service string
	id                      series.ID
	start                   uint32
	count                   uint64
	sum, min, max           float64
	level                   level
	values                  []float64 // of the sketch
	state                   string    // instead of values, of a row that was read
}

type level struct {
	at    int64
	value float64
	hist  string
}

func (r *oneRow) key() string {
	return fmt.Sprintf("%s|%s|%s|%d|%v|%010d", r.tenant, r.metric, r.service, r.grain, r.id, r.start/60*60)
}

func rollups(rows ...oneRow) *coarse.Rows {
	b := &coarse.Rows{}
	for i := range rows {
		r := &rows[i]
		b.Grain, b.Tenant, b.Metric = append(b.Grain, r.grain), append(b.Tenant, r.tenant), append(b.Metric, r.metric)
		b.Service, b.Series, b.Pane = append(b.Service, r.service), append(b.Series, r.id), append(b.Pane, r.start)
		b.Count, b.Sum = append(b.Count, r.count), append(b.Sum, r.sum)
		b.Min, b.Max = append(b.Min, r.min), append(b.Max, r.max)
		b.LastTime, b.Last, b.LastHist = append(b.LastTime, r.level.at), append(b.Last, r.level.value), append(b.LastHist, r.level.hist)
		b.Sketch = append(b.Sketch, state(r.values)...)
		b.Ends = append(b.Ends, len(b.Sketch))
	}
	return b
}

func state(values []float64) string {
	var s sketches.Sketch
	for _, v := range values {
		s.Add(v)
	}
	return string(s.AppendDD(nil))
}

func split(t interface{ Fatal(...any) }, b *pipeline.Rollups) (rows []oneRow) {
	at := 0
	for i := range b.Grain {
		n, err := sketches.MeasureDD(b.Sketch[at:])
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, oneRow{grain: b.Grain[i], tenant: b.Tenant[i], metric: b.Metric[i], service: b.Service[i], id: b.Series[i],
			start: b.Pane[i], count: b.Count[i], sum: b.Sum[i], min: b.Min[i], max: b.Max[i],
			level: level{b.LastTime[i], b.Last[i], b.LastHist[i]}, state: string(b.Sketch[at : at+n])})
		at += n
	}
	if at != len(b.Sketch) {
		t.Fatal("states left over")
	}
	return rows
}

// naive is what a plain loop makes of rows.
func naive(rows []oneRow) []oneRow {
	merged := map[string]*oneRow{}
	for _, r := range rows {
		m := merged[r.key()]
		if m == nil {
			m = &oneRow{grain: r.grain, tenant: r.tenant, metric: r.metric, service: r.service, id: r.id, start: r.start / 60 * 60,
				min: math.Inf(1), max: math.Inf(-1)}
			merged[r.key()] = m
		}
		m.count += r.count
		m.sum += r.sum
		m.min, m.max = math.Min(m.min, r.min), math.Max(m.max, r.max)
		if later(r.level, m.level) {
			m.level = r.level
		}
		m.values = append(m.values, r.values...)
	}
	var out []oneRow
	for _, m := range merged {
		m.state, m.values = state(m.values), nil
		out = append(out, *m)
	}
	slices.SortFunc(out, compareRows)
	return out
}

func later(a, b level) bool {
	switch {
	case a.at != b.at:
		return a.at > b.at
	case a.value != b.value:
		return a.value > b.value
	}
	return a.hist > b.hist
}

func compareRows(a, b oneRow) int {
	return cmp.Or(strings.Compare(a.tenant, b.tenant), strings.Compare(a.metric, b.metric), strings.Compare(a.service, b.service),
		cmp.Compare(a.grain, b.grain), a.id.Compare(b.id), cmp.Compare(a.start, b.start))
}

func drawRows(t *rapid.T, label string) []oneRow {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) oneRow {
		r := oneRow{
			grain:  pipeline.Grain(rapid.IntRange(0, 1).Draw(t, "grain")),
			tenant: rapid.SampledFrom([]string{"a", "b", "ab"}).Draw(t, "tenant"),
			metric: rapid.SampledFrom([]string{"", "b", "m"}).Draw(t, "metric"), service: rapid.SampledFrom([]string{"", "b"}).Draw(t, "service"),
			id:    series.ID{Hi: uint64(rapid.IntRange(0, 2).Draw(t, "hi")), Lo: uint64(rapid.IntRange(0, 1).Draw(t, "lo"))},
			start: uint32(rapid.IntRange(0, 12).Draw(t, "pane")) * 10, min: math.Inf(1), max: math.Inf(-1),
		}
		if rapid.Bool().Draw(t, "measures") {
			r.values = rapid.SliceOfN(rapid.SampledFrom([]float64{-3, -1e-3, 0, 1e-9, 1, 1.5, 2, 1e6}), 1, 40).Draw(t, "values")
			for _, v := range r.values {
				r.count++
				r.sum += v
				r.min, r.max = min(r.min, v), max(r.max, v)
			}
		} else {
			r.level = level{int64(rapid.IntRange(0, 3).Draw(t, "at")), rapid.SampledFrom([]float64{math.Inf(-1), 0, 2}).Draw(t, "level"),
				rapid.SampledFrom([]string{"", "\x00", "h"}).Draw(t, "hist")}
			if r.level.at == 0 {
				r.level = level{}
			}
		}
		return r
	}), 0, 60).Draw(t, label)
}

// What is merged is what a plain loop over the rows says, whatever the blocks, and again after Reset.
func TestMergerIsALoop(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var m coarse.Merger
		for turn := range 2 {
			var all, got []oneRow
			for range rapid.IntRange(0, 4).Draw(t, "blocks") {
				rows := drawRows(t, "rows")
				all = append(all, rows...)
				if err := m.Add(rollups(rows...)); err != nil {
					t.Fatal(err)
				}
			}
			want := naive(all)
			if m.Rows() != len(want) {
				t.Fatalf("turn %d: got %d rows, want %d", turn, m.Rows(), len(want))
			}
			if err := m.Blocks(func(b *pipeline.Rollups) error {
				got = append(got, split(t, b)...)
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			for i := range want {
				if i >= len(got) || fmt.Sprint(got[i]) != fmt.Sprint(want[i]) {
					t.Fatalf("turn %d, row %d: got\n%+v\nwant\n%+v", turn, i, got, want)
				}
			}
			if m.Reset(); m.Rows() != 0 || m.Bytes() != 0 {
				t.Fatalf("after Reset: got %d rows in %d bytes", m.Rows(), m.Bytes())
			}
		}
	})
}

// Blocks are bounded in rows and in bytes, and together are all rows.
func TestMergerCutsBlocks(t *testing.T) {
	wide := make([]float64, 0, 4000)
	for v := 1e-9; v < 1e9; v *= 1.011 {
		wide = append(wide, v)
	}
	for name, c := range map[string]struct {
		rows   int
		values []float64
		blocks int
	}{"rows": {120_000, nil, 3}, "bytes": {600, wide, 2}} {
		var m coarse.Merger
		for i := range c.rows {
			if err := m.Add(rollups(oneRow{tenant: "a", metric: "m", id: series.ID{Lo: uint64(i)}, values: c.values})); err != nil {
				t.Fatal(err)
			}
		}
		blocks, rows := 0, 0
		if err := m.Blocks(func(b *pipeline.Rollups) error {
			blocks++
			rows += len(b.Grain)
			if len(b.Grain) > 50_000 || len(b.Sketch) > 9<<20 {
				t.Errorf("%s: got a block of %d rows and %d bytes of sketches", name, len(b.Grain), len(b.Sketch))
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if blocks < c.blocks || rows != c.rows {
			t.Errorf("%s: got %d blocks of %d rows, want %d of %d", name, blocks, rows, c.blocks, c.rows)
		}
	}
}

// A state that ends elsewhere than it is said to is an error, at the latest when rows are written.
func TestMergerChecksStates(t *testing.T) {
	good := rollups(oneRow{tenant: "a", values: []float64{1}}, oneRow{tenant: "a", values: []float64{2}})
	for name, end := range map[string]int{"short": good.Ends[0] - 1, "long": good.Ends[0] + 1} {
		bad := *good
		bad.Ends = []int{end, good.Ends[1]}
		var m coarse.Merger
		err := m.Add(&bad)
		if err == nil {
			err = m.Blocks(func(*pipeline.Rollups) error { return nil })
		}
		if err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}

// What rows hold is counted, histograms of levels, too.
func TestMergerCountsItsBytes(t *testing.T) {
	var small, large coarse.Merger
	row := oneRow{tenant: "a", metric: "m", level: level{1, 2, "h"}}
	if err := small.Add(rollups(row)); err != nil {
		t.Fatal(err)
	}
	row.level.hist = strings.Repeat("h", 1001)
	if err := large.Add(rollups(row)); err != nil {
		t.Fatal(err)
	}
	if got := large.Bytes() - small.Bytes(); got != 1000 {
		t.Errorf("a histogram of 1,000 bytes more: got %d bytes more", got)
	}
}

// What was read may be overwritten as soon as it is added.
func TestMergerKeepsNothingOfRows(t *testing.T) {
	row := oneRow{tenant: "a", metric: "m", service: "s", level: level{1, 2, "hist"}, values: []float64{1, 2}}
	text := []byte("amshist")
	at := func(from, to int) string { return unsafe.String(&text[from], to-from) }
	rows := rollups(row)
	rows.Tenant[0], rows.Metric[0], rows.Service[0], rows.LastHist[0] = at(0, 1), at(1, 2), at(2, 3), at(3, 7)
	var m coarse.Merger
	if err := m.Add(rows); err != nil {
		t.Fatal(err)
	}
	copy(text, "???????")
	clear(rows.Sketch)
	var got []oneRow
	if err := m.Blocks(func(b *pipeline.Rollups) error {
		got = split(t, b)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if want := naive([]oneRow{row}); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// A backlog has a row or two a series and minute, a steady load many.
func BenchmarkMerge(b *testing.B) {
	const n = 10_000
	rows := make([]oneRow, n)
	for i := range rows {
		rows[i] = oneRow{tenant: fmt.Sprint("t", i%200), metric: "m", service: "s", id: series.ID{Hi: uint64(i) * 0x9e3779b97f4a7c15}, count: 26}
		for j := range 26 {
			rows[i].values = append(rows[i].values, math.Exp(float64((i*j)%17)/4))
		}
	}
	slices.SortFunc(rows, compareRows)
	block := rollups(rows...)
	for _, times := range []int{1, 2, 6, 60} {
		b.Run(fmt.Sprint(times), func(b *testing.B) {
			var m coarse.Merger
			most := 0
			b.ReportAllocs()
			for b.Loop() {
				for range times {
					if err := m.Add(block); err != nil {
						b.Fatal(err)
					}
				}
				most = max(most, m.Bytes())
				if err := m.Blocks(func(*pipeline.Rollups) error { return nil }); err != nil {
					b.Fatal(err)
				}
				m.Reset()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(times*n), "ns/row")
			b.ReportMetric(float64(most)/n, "bytes/merged")
		})
	}
}
