package query

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/query/promql"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// What TestQueries does is set by the environment; `make bench-query` sets it.
const (
	envResults = "VIGIE_BENCH_QUERY"        // file of results, to which those of this run are added; without it sizes are small and nothing is timed
	envCases   = "VIGIE_BENCH_QUERY_CASES"  // separated by spaces, as "10000/24h"
	envPanels  = "VIGIE_BENCH_QUERY_PANELS" // names of panels, "dashboard" too, separated by commas; all, and Prometheus' storage, without it
	envRounds  = "VIGIE_BENCH_QUERY_ROUNDS"
)

// answers are the values at each time (Unix seconds), of whatever series.
type answers map[int64][]float64

// bench is one database, and who asks it.
type bench struct {
	*database
	handler http.Handler
	tenant  tenants.ID
	later   atomic.Int64 // nanoseconds
	rounds  int
	full    bool
	results *results
	path    string
}

func TestQueries(t *testing.T) {
	b := &bench{database: newDatabase(t), rounds: 1, results: &results{}}
	cases := []string{"100/1h", "60/24h", "60/30d", "labels"}
	observed, labelled := 10, 5000
	if path := os.Getenv(envResults); path != "" {
		b.full, b.rounds, observed, labelled = true, 3, 1000, 1_000_000
		cases = strings.Fields(cmp.Or(os.Getenv(envCases),
			"1000/1h 10000/1h 100000/1h 1000/24h 10000/24h 1000/30d 10000/30d 100000/30d labels"))
		if n, err := strconv.Atoi(os.Getenv(envRounds)); err == nil {
			b.rounds = n
		}
		b.results = readResults(t, path)
		b.path = path
	}
	b.handler = b.service(clickhouse.NewStore(b.client))
	for _, name := range cases {
		t.Run(name, func(t *testing.T) {
			b.t = t
			if b.full {
				defer func() { b.results.write(t, b.path) }()
			}
			if name == "labels" {
				b.labels(labelled)
				return
			}
			count, span, _ := strings.Cut(name, "/")
			series, err := strconv.Atoi(count)
			i := slices.IndexFunc(spans, func(s size) bool { return strings.ReplaceAll(s.name, " ", "") == span })
			if err != nil || i < 0 {
				t.Fatalf("case %q: want series/span", name)
			}
			s := spans[i]
			s.series, s.observed = series, observed
			b.of(s)
		})
	}
}

// service is a query service whose clock stands still but for later.
func (b *bench) service(store promql.Store) http.Handler {
	limits := tenants.DefaultConfig().Defaults
	limits.QueryTimeout = time.Hour // on a busy machine what is slow would else not be measured at all
	service, err := promql.New(promql.DefaultConfig(), promql.Options{
		Store: store, Limits: func(tenants.ID) tenants.Limits { return limits },
		Now: func() time.Time { return time.Unix(b.end+30, b.later.Load()) },
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return service.Handler()
}

// of measures the panels of one size.
func (b *bench) of(s size) {
	b.tenant = tenants.ID(s.tenant())
	begin := time.Now()
	asked := slices.Clone(panels)
	only := os.Getenv(envPanels)
	if only != "" {
		asked = slices.DeleteFunc(asked, func(p panel) bool { return !slices.Contains(strings.Split(only, ","), p.name) })
	}
	dashboard := (s.series == 10_000 && s.name == "24 h" || !b.full && s.name == "24 h") &&
		(only == "" || strings.Contains(only, "dashboard"))
	tsdb := b.wants("tsdb", s) && only == ""
	b.fill(s, func(metric string) bool {
		return dashboard || tsdb || slices.ContainsFunc(asked, func(p panel) bool { return strings.Contains(p.query, metric) })
	})
	b.t.Logf("%s filled in %s", &s, time.Since(begin).Round(time.Millisecond))
	for _, p := range asked {
		b.panel(s, p.over(s, b.end))
	}
	if tsdb {
		b.prometheus(s)
	}
	if dashboard {
		b.dashboard(s)
	}
}

// wants says where the slower ones are measured, too: they took more than the rest together.
func (b *bench) wants(system string, s size) bool {
	switch {
	case system == "tsdb" && s.name == "30 d": // of samples an hour apart it has no use
		return false
	case s.name == "1 h":
		return s.series <= 10_000
	}
	return s.series <= 1000
}

// panel lets the ways to the numbers of one panel take turns, after one in which they are compared.
func (b *bench) panel(s size, p panel) {
	b.t.Helper()
	form := b.form(s, p.query)
	ways := map[string]func(){
		"pushed": func() { b.query("/query_range", form) },
		"first": func() {
			b.later.Add(int64(time.Minute)) // nothing that was kept of earlier queries serves any more
			b.query("/query_range", form)
		},
		"sql": func() { b.ask(p.sql) },
	}
	want := b.sql(p.sql)
	b.same(p.name+", pushed and SQL", b.prom(form), want, p.within)
	if p.plain && b.wants("plain", s) {
		plain := b.form(s, p.query)
		plain.Set("pushdown", "0")
		ways["plain"] = func() { b.query("/query_range", plain) }
		b.same(p.name+", plain and SQL", b.prom(plain), want, p.within)
	}
	if !b.full {
		return
	}
	best := b.turns(ways)
	here, there := b.memory(ways["pushed"])
	for way, c := range best {
		r := result{Case: s.String(), What: p.name, System: way, CPU: milliseconds(c.CPU), Wall: milliseconds(c.Wall)}
		if way == "pushed" {
			r.Here, r.There = mebibytes(here), mebibytes(there)
		}
		b.results.add(r)
		b.t.Logf("%-20s %-8s cpu %8.1f ms, wall %8.1f ms, %.1f of SQL %.0f MiB here, %.0f there", p.name, way, r.CPU, r.Wall,
			float64(c.CPU)/float64(best["sql"].CPU), r.Here, r.There)
	}
	b.results.write(b.t, b.path) // a run that is broken off has measured that much
}

// turns runs each way in turns and returns what each took at best.
func (b *bench) turns(ways map[string]func()) map[string]cost {
	best := make(map[string]cost)
	for range b.rounds {
		for way, run := range ways {
			c := b.cost(run)
			if was, measured := best[way]; measured {
				c = cost{min(c.CPU, was.CPU), min(c.Wall, was.Wall)}
			}
			best[way] = c
		}
	}
	return best
}

// prometheus measures Prometheus' own engine and storage with samples of the same.
func (b *bench) prometheus(s size) {
	db, engine := tsdbOf(b.t, s, b.end), newEngine()
	for _, p := range panels {
		if !p.tsdb {
			continue
		}
		p := p.over(s, b.end)
		// Rates of single series differ, for they are extrapolated.
		got, want := prometheus(b.t, engine, db, p.query, s, b.end), b.sql(p.sql)
		b.same(p.name+", TSDB and SQL", got, want, math.Inf(1))
		if !b.full {
			continue
		}
		c := b.turns(map[string]func(){"tsdb": func() { prometheus(b.t, engine, db, p.query, s, b.end) }})["tsdb"]
		b.results.add(result{Case: s.String(), What: p.name, System: "tsdb",
			CPU: milliseconds(c.CPU), Wall: milliseconds(c.Wall)})
		b.t.Logf("%-20s tsdb cpu %8.1f ms, wall %8.1f ms", p.name, milliseconds(c.CPU), milliseconds(c.Wall))
	}
}

// dashboard are twelve panels as a Grafana would ask for them, all at once.
var dashboard = []string{
	"sum(rate(requests_total[{R}s]))",
	"sum by (service) (rate(requests_total[{R}s]))",
	"topk(5, sum by (service) (rate(requests_total[{R}s])))",
	"sum by (service) (increase(requests_total[{R}s])) / ignoring (service) group_left () sum(increase(requests_total[{R}s]))",
	"histogram_quantile(0.5, sum(rate(latency_seconds[{R}s])))",
	"histogram_quantile(0.99, sum(rate(latency_seconds[{R}s])))",
	"histogram_quantile(0.99, sum by (service) (rate(latency_seconds[{R}s])))",
	"sum(rate(latency_seconds_sum[{R}s])) / sum(rate(latency_seconds_count[{R}s]))",
	"sum by (region) (rate(requests_total[{R}s]))",
	"sum by (version) (rate(requests_total[{R}s]))",
	"max by (region) (rate(requests_total[{R}s]))",
	"avg by (region) (queue_depth)",
}

// dashboard asks for twelve panels over connections of their own and notes when the first and the last begins to
// answer.
func (b *bench) dashboard(s size) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.handler.ServeHTTP(w, r.WithContext(tenants.NewContext(r.Context(), b.tenant)))
	}))
	defer server.Close()
	var first, last time.Duration
	load := func() {
		var (
			mu      sync.Mutex
			waiting sync.WaitGroup
		)
		first, last = math.MaxInt64, 0
		begin := time.Now()
		for _, query := range dashboard {
			waiting.Go(func() {
				took := firstByte(b.t, server.URL+"/query_range?"+b.form(s, strings.ReplaceAll(query, "{R}", fmt.Sprint(s.rng.Seconds()))).Encode(), begin)
				mu.Lock()
				first, last = min(first, took), max(last, took)
				mu.Unlock()
			})
		}
		waiting.Wait()
	}
	load()
	if !b.full {
		return
	}
	firstBest, lastBest := first, last
	c := b.turns(map[string]func(){"pushed": func() {
		load()
		firstBest, lastBest = min(firstBest, first), min(lastBest, last)
	}})["pushed"]
	here, there := b.memory(load)
	b.results.add(result{Case: s.String(), What: "dashboard of 12 panels", System: "pushed", CPU: milliseconds(c.CPU),
		Wall: milliseconds(lastBest), First: milliseconds(firstBest), Here: mebibytes(here), There: mebibytes(there)})
	b.t.Logf("dashboard: first byte after %s, that of the last panel after %s, cpu %s, %.0f MiB here", firstBest,
		lastBest, c.CPU, mebibytes(here))
}

func firstByte(t testing.TB, url string, begin time.Time) (took time.Duration) {
	trace := &httptrace.ClientTrace{GotFirstResponseByte: func() { took = time.Since(begin) }}
	request, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), http.MethodGet, url, nil)
	if err != nil {
		t.Error(err)
		return 0
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Error(err)
		return 0
	}
	defer response.Body.Close()
	if body, err := io.ReadAll(response.Body); err != nil || response.StatusCode != http.StatusOK {
		t.Errorf("%v: %s", err, body)
	}
	return took
}

// labels asks for names and values of labels of a tenant with so many series of ten metrics.
func (b *bench) labels(series int) {
	b.tenant = "labels"
	b.ask(fmt.Sprintf(`INSERT INTO vigie.ingest_series (tenant, metric, service, series_id, kind, labels, last_seen)
SELECT 'labels', concat('m', toString(s %% 10), '_total'), concat('s', toString(s %% 500)), toUInt128(cityHash64(s)), 1,
    map('env', 'prod', 'instance', concat('10.0.0.', toString(s)), 'region', concat('r', toString(s %% 10)), 'service', concat('s', toString(s %% 500)), 'version', concat('v', toString(s %% 4))), toDateTime(%d)
FROM (SELECT number AS s FROM numbers(%d))`, b.end, series))
	recent := url.Values{"start": {fmt.Sprint(b.end - 3600)}, "end": {fmt.Sprint(b.end)}}
	with := func(more url.Values) url.Values {
		for name, values := range recent {
			more[name] = values
		}
		return more
	}
	for _, ask := range []struct {
		what, path string
		form       url.Values
		want       int
	}{
		{"values of a label of few", "/label/region/values", with(url.Values{}), 10},
		{"values of a label of 500", "/label/service/values", with(url.Values{}), 500},
		{"the same of one metric", "/label/service/values", with(url.Values{"match[]": {"m1_total"}}), 50},
		{"the same where another label is r1", "/label/service/values", with(url.Values{"match[]": {`m1_total{region="r1"}`}}), 50},
		{"values of a label of its own for each series, 1000 at most", "/label/instance/values", with(url.Values{"limit": {"1000"}}), 1000},
		{"names of metrics", "/label/__name__/values", with(url.Values{}), 10},
		{"names of labels", "/labels", with(url.Values{}), 6},
		{"series where a label is r1 and another s1, 100 at most", "/series", with(url.Values{"match[]": {`{region="r1",service="s1"}`}, "limit": {"100"}}), min(100, series/500)},
	} {
		var body struct{ Data []json.RawMessage }
		run := func() {
			if err := json.Unmarshal(b.query(ask.path, ask.form), &body); err != nil {
				b.t.Fatal(err)
			}
		}
		if run(); len(body.Data) != ask.want {
			b.t.Errorf("%s: got %d, want %d", ask.what, len(body.Data), ask.want)
		}
		if b.full {
			c := b.turns(map[string]func(){"pushed": run})["pushed"]
			here, there := b.memory(run)
			b.results.add(result{Case: "labels", What: ask.what, System: "pushed", CPU: milliseconds(c.CPU),
				Wall: milliseconds(c.Wall), Here: mebibytes(here), There: mebibytes(there)})
			b.t.Logf("%-60s cpu %8.1f ms, wall %8.1f ms", ask.what, milliseconds(c.CPU), milliseconds(c.Wall))
		}
	}
}

func (b *bench) form(s size, query string) url.Values {
	return url.Values{"query": {query}, "start": {fmt.Sprint(b.end - int64(s.span.Seconds()))}, "end": {fmt.Sprint(b.end)},
		"step": {fmt.Sprint(s.step.Seconds())}}
}

// query asks the query service, in the process.
func (b *bench) query(path string, form url.Values) []byte {
	b.t.Helper()
	request, answer := httptest.NewRequest("GET", path+"?"+form.Encode(), nil), httptest.NewRecorder()
	b.handler.ServeHTTP(answer, request.WithContext(tenants.NewContext(request.Context(), b.tenant)))
	if answer.Code != http.StatusOK {
		b.t.Fatalf("%s: %s", form.Get("query"), answer.Body)
	}
	return answer.Body.Bytes()
}

// prom are the values of a range query.
func (b *bench) prom(form url.Values) answers {
	b.t.Helper()
	var body struct {
		Data struct{ Result []struct{ Values [][2]any } }
	}
	if err := json.Unmarshal(b.query("/query_range", form), &body); err != nil {
		b.t.Fatal(err)
	}
	got := answers{}
	for _, series := range body.Data.Result {
		for _, v := range series.Values {
			at := int64(v[0].(float64))
			got[at] = append(got[at], number(b.t, v[1].(string)))
		}
	}
	return got
}

func (b *bench) sql(query string) answers {
	b.t.Helper()
	got := answers{}
	for line := range strings.Lines(b.ask(query)) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		at := int64(number(b.t, fields[1]))
		got[at] = append(got[at], number(b.t, fields[2]))
	}
	return got
}

func number(t testing.TB, text string) float64 {
	t.Helper()
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// same compares values at each time, in whatever order series come.
func (b *bench) same(what string, got, want answers, within float64) {
	b.t.Helper()
	if len(got) != len(want) || len(want) == 0 {
		b.t.Fatalf("%s: got answers at %d times, want %d", what, len(got), len(want))
	}
	for at, values := range want {
		mine := got[at]
		slices.Sort(values)
		slices.Sort(mine)
		if len(mine) != len(values) {
			b.t.Fatalf("%s: at %d got %d values, want %d", what, at, len(mine), len(values))
		}
		for i, v := range values {
			if math.Abs(mine[i]-v) > within*math.Abs(v) {
				b.t.Fatalf("%s: at %d got %v, want %v", what, at, mine[i], v)
			}
		}
	}
}
