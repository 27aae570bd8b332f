package clickhouse_test

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/backfill"
	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/pipeline/rollup"
	"github.com/vigie-io/vigie/internal/pipeline/windowed"
	"github.com/vigie-io/vigie/internal/query/promql"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
	"github.com/vigie-io/vigie/pkg/sketches"
	"github.com/vigie-io/vigie/pkg/windows"
)

// measured is an event as the windows of the test see it.
type measured struct {
	part, series int
	second       int64
	value        float64
}

// closedRule is a declared rollup of the test.
type closedRule struct {
	metric, shape string
	kind          events.Kind
}

var closedRules = []closedRule{
	{"w_tumbling", "tumbling 1m", events.Observation},
	{"w_hopping", "hopping 1m30s every 40s", events.Observation},
	{"w_sum", "tumbling 50s", events.Delta},
	{"w_day", "calendar day UTC", events.Observation},
}

// of returns the windows that hold an event, and every window is found by the one before.
func (r *closedRule) of(t testing.TB, second int64) (list []windows.Window) {
	t.Helper()
	shape, err := windows.ParseShape(r.shape)
	if err != nil {
		t.Fatal(err)
	}
	first, last := shape.Aligned.Span(shape.Aligned.Slice(second * 1e9))
	for w := first; ; w = shape.Aligned.Next(w) {
		list = append(list, windows.Window{Start: w.Start / 1e9, End: w.End / 1e9})
		if w == last {
			return list
		}
	}
}

// next is the end of the window after w, seconds.
func (r *closedRule) next(w windows.Window) int64 {
	shape, _ := windows.ParseShape(r.shape)
	n, _ := shape.Next(windows.Window{Start: w.Start * 1e9, End: w.End * 1e9})
	return n.End / 1e9
}

// recount groups events by series and window.
func recount(t testing.TB, r *closedRule, evs []measured) map[int]map[windows.Window][]measured {
	out := map[int]map[windows.Window][]measured{}
	for _, e := range evs {
		if out[e.series] == nil {
			out[e.series] = map[windows.Window][]measured{}
		}
		for _, w := range r.of(t, e.second) {
			out[e.series][w] = append(out[e.series][w], e)
		}
	}
	return out
}

// versions are the rows that source partitions write for a window: of each one or several versions, the last of which
// has all of its events.
func versions(random *rand.Rand, r *closedRule, of int, w windows.Window, evs []measured) (rows []*windowed.Rows) {
	parts := map[int][]measured{}
	for _, e := range evs {
		parts[e.part] = append(parts[e.part], e)
	}
	for part, held := range parts {
		n := min(1+random.IntN(3), len(held))
		for version := 1; version <= n; version++ {
			some := held[:len(held)-(n-version)]
			row := &windowed.Rows{
				Tenant: []string{"acme"}, Metric: []string{r.metric}, Service: []string{"shop"},
				Labels: []series.Labels{labelsOf(of)},
				Series: []series.ID{series.Hash(series.AppendKey(nil, byte(r.kind), r.metric, labelsOf(of)))},
				Start:  []int64{w.Start}, End: []int64{w.End}, SeriesKind: []uint8{uint8(r.kind)}, Shape: []string{r.shape},
				Rule: []uint64{7}, Part: []string{fmt.Sprint("t/", part)}, Version: []uint32{uint32(version)},
				Kind: []windowed.Kind{0}, Delta: []uint64{0}, Count: []uint64{uint64(len(some))},
				Sum: []float64{0}, Min: []float64{math.Inf(1)}, Max: []float64{math.Inf(-1)},
			}
			var sketch sketches.Sketch
			for _, e := range some {
				row.Sum[0] += e.value
				row.Min[0], row.Max[0] = min(row.Min[0], e.value), max(row.Max[0], e.value)
				if r.kind == events.Observation {
					sketch.Add(e.value)
				}
			}
			row.Sketch = sketch.AppendDD(nil)
			rows = append(rows, row)
		}
	}
	return rows
}

func labelsOf(of int) series.Labels {
	return series.Labels{{Name: "route", Value: fmt.Sprint("/", of)}, {Name: "service", Value: "shop"}}
}

// asker asks PromQL over the database.
type asker struct {
	t       testing.TB
	service *promql.Service
}

func newAsker(t testing.TB, client *clickhouse.Client, now time.Time) *asker {
	t.Helper()
	limits := tenants.DefaultConfig().Defaults
	service, err := promql.New(promql.DefaultConfig(), promql.Options{
		Store: clickhouse.NewStore(client), Limits: func(tenants.ID) tenants.Limits { return limits },
		Now: func() time.Time { return now },
	})
	if err != nil {
		t.Fatal(err)
	}
	return &asker{t, service}
}

// matrix returns the values of a range query by route and second.
func (a *asker) matrix(query string, from, to, step int64) map[string]map[int64]float64 {
	a.t.Helper()
	form := url.Values{"query": {query}, "start": {fmt.Sprint(from)}, "end": {fmt.Sprint(to)}, "step": {fmt.Sprint(step)}}
	request := httptest.NewRequest("GET", "/query_range?"+form.Encode(), nil)
	answer := httptest.NewRecorder()
	a.service.Handler().ServeHTTP(answer, request.WithContext(tenants.NewContext(request.Context(), "acme")))
	var body struct {
		Status string
		Data   struct {
			Result []struct {
				Metric map[string]string
				Values [][2]any
			}
		}
	}
	if err := json.Unmarshal(answer.Body.Bytes(), &body); err != nil || body.Status != "success" {
		a.t.Fatalf("%s: %v: %s", query, err, answer.Body)
	}
	out := map[string]map[int64]float64{}
	for _, s := range body.Data.Result {
		of := map[int64]float64{}
		for _, v := range s.Values {
			f, err := strconv.ParseFloat(v[1].(string), 64)
			if err != nil {
				a.t.Fatal(err)
			}
			of[int64(v[0].(float64))] = f
		}
		out[s.Metric["route"]] = of
	}
	return out
}

// Closed windows in PromQL equal a plain loop over the events: whatever the partitions they came from, versions and
// order of their rows, at every time between their ends, and nothing that some partition has not closed.
func TestClosedWindowsInPromQL(t *testing.T) {
	server, client := migrated(t, nil)
	base := int64(today(t, server))
	const span = 1800
	now, closed := base+span+600, base+span+230
	random := rand.New(rand.NewPCG(3, 9))
	var evs []measured
	for second := int64(0); second < span+400; second += int64(1 + random.IntN(1+random.IntN(150))) {
		evs = append(evs, measured{random.IntN(3), random.IntN(3), base + second, float64(1+random.IntN(4000)) / 64})
	}
	var rows []*windowed.Rows
	for i := range closedRules {
		for of, held := range recount(t, &closedRules[i], evs) {
			for w, in := range held {
				rows = append(rows, versions(random, &closedRules[i], of, w, in)...)
			}
		}
	}
	random.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
	for i, some := range slices.Collect(slices.Chunk(rows, 200)) {
		block := &windowed.Rows{}
		for _, r := range some {
			joinWindowRows(block, r)
		}
		insertWindows(t, client, fmt.Sprint("closed/", i), block)
	}
	insertProgress(t, client, now, map[string]int64{"": now, "acme": closed, "other": base})

	ask := newAsker(t, client, time.Unix(now, 0))
	for i := range closedRules {
		checkClosed(t, ask, &closedRules[i], recount(t, &closedRules[i], evs), base, now, closed)
	}
	// The whole day is not over: it is not there.
	if got := ask.matrix("w_day_count", base, now, 60); len(got) != 0 {
		t.Errorf("an open day: got %v", got)
	}
}

// Windows of a backfill stand in PromQL where a plain loop over the rows of the files has them, in whatever order these
// are.
func TestBackfilledWindowsInPromQL(t *testing.T) {
	server, client := migrated(t, nil)
	base := int64(today(t, server))
	const span = 1800
	now, closed := base+span+600, base+span+230
	random := rand.New(rand.NewPCG(4, 9))
	var evs []measured
	for second := int64(0); second < span+400; second += int64(1 + random.IntN(1+random.IntN(150))) {
		evs = append(evs, measured{random.IntN(3), random.IntN(3), base + second, float64(1+random.IntN(4000)) / 64})
	}
	dir := t.TempDir()
	files := make([][]byte, 3) // parts of the events, shuffled
	for _, i := range random.Perm(len(evs)) {
		e := evs[i]
		for name, kind := range map[string]events.Kind{"m": events.Observation, "d": events.Delta} {
			m := events.Metric{Tenant: "acme", Time: e.second * 1e9, Kind: kind, Name: name,
				Value: e.value, Labels: labelsOf(e.series)}
			files[e.part] = append(events.AppendMetric(files[e.part], &m), '\n')
		}
	}
	for i, text := range files {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i, ".ndjson")), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	job := backfill.Config{
		Job: "windows", Signal: events.Metrics, Patterns: []string{filepath.Join(dir, "*.ndjson")}, Parallel: 2,
		MaxPast: 400 * 24 * time.Hour, MaxFuture: time.Minute, Runs: filepath.Join(dir, "runs"),
	}
	shapes := map[string]windowed.Window{
		"w_tumbling": {Tumbling: time.Minute},
		"w_hopping":  {Hopping: &windowed.Hopping{Size: 90 * time.Second, Every: 40 * time.Second}},
		"w_sum":      {Tumbling: 50 * time.Second},
		"w_day":      {Calendar: &windowed.Calendar{Unit: "day", Zone: "UTC"}},
	}
	for _, r := range closedRules {
		w, of := shapes[r.metric], map[events.Kind]string{events.Observation: "m", events.Delta: "d"}[r.kind]
		job.Rollups = append(job.Rollups, rollup.Declared{
			Name: r.metric, From: events.Metrics, Where: fmt.Sprintf("name == %q", of),
			By: []string{"route", "service"}, Window: &w,
		})
	}
	clock := func() time.Time { return time.Unix(now, 0) }
	if _, err := backfill.New(job, clickhouse.NewBackfill(client), clickhouse.Encoder{}, noOutput{}, clock).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	insertProgress(t, client, now, map[string]int64{"": now, "acme": closed})
	ask := newAsker(t, client, clock())
	for i := range closedRules {
		checkClosed(t, ask, &closedRules[i], recount(t, &closedRules[i], evs), base, now, closed)
	}
	if got := ask.matrix("w_day_count", base, now, 60); len(got) != 0 {
		t.Errorf("a day that is not over: got %v", got)
	}
}

// noOutput is told what a backfill does, and tells nobody.
type noOutput struct{}

func (noOutput) Note(string)                   {}
func (noOutput) Reject(*backfill.Reject) error { return nil }
func (noOutput) Flush() error                  { return nil }
func (noOutput) Progress(int64, int64, uint64) {}

func joinWindowRows(to, from *windowed.Rows) {
	to.Tenant, to.Metric, to.Service = append(to.Tenant, from.Tenant...), append(to.Metric, from.Metric...), append(to.Service, from.Service...)
	to.Series, to.Labels, to.Start, to.End = append(to.Series, from.Series...), append(to.Labels, from.Labels...), append(to.Start, from.Start...), append(to.End, from.End...)
	to.SeriesKind, to.Shape = append(to.SeriesKind, from.SeriesKind...), append(to.Shape, from.Shape...)
	to.Kind, to.Delta = append(to.Kind, from.Kind...), append(to.Delta, from.Delta...)
	to.Rule, to.Part, to.Version = append(to.Rule, from.Rule...), append(to.Part, from.Part...), append(to.Version, from.Version...)
	to.Count, to.Sum, to.Min, to.Max = append(to.Count, from.Count...), append(to.Sum, from.Sum...), append(to.Min, from.Min...), append(to.Max, from.Max...)
	to.Sketch = append(to.Sketch, from.Sketch...)
}

func insertProgress(t testing.TB, client *clickhouse.Client, now int64, times map[string]int64) {
	t.Helper()
	rows := &pipeline.ProgressRows{}
	for tenant, at := range times {
		rows.Topic, rows.Partition, rows.Tenant = append(rows.Topic, "t"), append(rows.Partition, 0), append(rows.Tenant, tenant)
		rows.Time, rows.Updated = append(rows.Time, at*1000), append(rows.Updated, now*1000)
	}
	block, err := clickhouse.Encoder{}.EncodeProgress(nil, rows)
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Insert(t.Context(), pipeline.TableProgress, "progress", len(rows.Topic), block); err != nil {
		t.Fatal(err)
	}
}

// idle is how far behind a silent tenant is taken to be, on the grid.
const idle = 20

// checkClosed compares every facet at every ten seconds.
func checkClosed(t *testing.T, ask *asker, r *closedRule, held map[int]map[windows.Window][]measured, from, to, closed int64) {
	t.Helper()
	facets := map[string]func([]float64) float64{
		"histogram_count(%s)": func(v []float64) float64 { return float64(len(v)) },
		"%s_count":            func(v []float64) float64 { return float64(len(v)) },
		"%s_sum":              sumOf, "histogram_sum(%s)": sumOf,
		"%s_min": slices.Min[[]float64], "%s_max": slices.Max[[]float64],
		`%s_bucket{le="+Inf"}`: func(v []float64) float64 { return float64(len(v)) },
	}
	if r.kind == events.Delta {
		facets = map[string]func([]float64) float64{"%s": sumOf}
	}
	for pattern, facet := range facets {
		query := strings.ReplaceAll(pattern, "%s", r.metric)
		got := ask.matrix(query, from, to, 10)
		values := 0
		for of, byWindow := range held {
			at := got[labelsOf(of).Get("route")]
			for second := from; second <= to; second += 10 {
				want, stands := standing(r, byWindow, second, closed, facet)
				have, there := at[second]
				if stands {
					values++
				}
				if second > to-idle {
					stands = false // the query's own clamp
				}
				if stands != there || stands && math.Abs(have-want) > 1e-9*math.Abs(want) {
					t.Fatalf("%s of route %d at %d: got %v, %v, want %v, %v", query, of, second-from, have, there, want, stands)
				}
			}
		}
		if values < 100 && r.metric != "w_day" {
			t.Errorf("%s: got %d values to compare, want many", query, values)
		}
	}
}

// standing is the result that stands at a time: that of the latest window that has ended and is closed everywhere,
// unless the next is closed too and was empty.
func standing(r *closedRule, byWindow map[windows.Window][]measured, second, closed int64,
	facet func([]float64) float64) (value float64, stands bool) {
	var latest windows.Window
	for w := range byWindow {
		if w.End <= second && w.End <= closed && w.End > latest.End {
			latest = w
		}
	}
	if latest.End == 0 {
		return 0, false
	}
	if next := r.next(latest); next <= second && next <= closed {
		return 0, false
	}
	var values []float64
	for _, e := range byWindow[latest] {
		values = append(values, e.value)
	}
	return facet(values), true
}

func sumOf(values []float64) (sum float64) {
	for _, v := range values {
		sum += v
	}
	return sum
}
