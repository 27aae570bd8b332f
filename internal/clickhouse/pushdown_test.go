package clickhouse_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/query/promql"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/internal/testkit"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
)

// traffic is series with panes, and the rows of their services, as the stream writes them.
type traffic struct {
	series *pipeline.SeriesRows
	rows   []row
	merged map[[2]string]map[uint32][]float64 // by metric and service, and pane
}

func (tr *traffic) add(tenant, metric string, kind events.Kind, labels series.Labels, panes map[uint32][]float64) {
	id := series.Hash(series.AppendKey(nil, byte(kind), metric, labels))
	service := labels.Get("service")
	var last uint32
	for _, pane := range slices.Sorted(maps.Keys(panes)) {
		r := row{tenant: tenant, metric: metric, service: service, id: id, pane: pane, values: panes[pane]}
		if kind >= events.Gauge {
			r.last, r.lastTime = r.values[len(r.values)-1], int64(pane)*1e9+int64(len(r.values))*1e9
		}
		tr.rows = append(tr.rows, r)
		key := [2]string{metric, service}
		if tr.merged[key] == nil {
			tr.merged[key] = make(map[uint32][]float64)
		}
		tr.merged[key][pane] = append(tr.merged[key][pane], r.values...)
		last = pane
	}
	s := tr.series
	s.Tenant, s.Metric, s.Service, s.ID = append(s.Tenant, tenant), append(s.Metric, metric), append(s.Service, service), append(s.ID, id)
	s.Kind, s.Native, s.Unit, s.Help = append(s.Kind, uint8(kind)), append(s.Native, false), append(s.Unit, ""), append(s.Help, "")
	s.Labels, s.LastSeen = append(s.Labels, labels), append(s.LastSeen, last)
}

// all are the rows of series and of services, in random order.
func (tr *traffic) all(tenant string, random *rand.Rand) []row {
	rows := slices.Clone(tr.rows)
	for key, panes := range tr.merged {
		for pane, values := range panes {
			rows = append(rows, row{grain: pipeline.GrainService, tenant: tenant, metric: key[0], service: key[1], pane: pane, values: values})
		}
	}
	random.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
	return rows
}

func (tr *traffic) insert(t testing.TB, client *clickhouse.Client, tenant string, random *rand.Rand) {
	t.Helper()
	insertSeries(t, client, tenant+"/series", tr.series)
	for i, some := range slices.Collect(slices.Chunk(tr.all(tenant, random), 1500)) {
		insertRollups(t, client, fmt.Sprint(tenant, "/rollups/", i), some...)
	}
}

// of is the same traffic of another tenant.
func (tr *traffic) of(tenant string) *traffic {
	known := *tr.series
	known.Tenant = slices.Repeat([]string{tenant}, len(known.Tenant))
	other := &traffic{series: &known, rows: slices.Clone(tr.rows), merged: tr.merged}
	for i := range other.rows {
		other.rows[i].tenant = tenant
	}
	return other
}

// shopTraffic is two hours of testkit.PromQL's metrics with pauses; values are dyadic, so that sums are exact in any
// order.
func shopTraffic(t testing.TB, client *clickhouse.Client, tenant string, at uint32, random *rand.Rand) {
	t.Helper()
	drawTraffic(tenant, at, random).insert(t, client, tenant, random)
}

func drawTraffic(tenant string, at uint32, random *rand.Rand) *traffic {
	tr := &traffic{series: &pipeline.SeriesRows{}, merged: map[[2]string]map[uint32][]float64{}}
	for i := range 10 {
		labels := series.Labels{{Name: "instance", Value: fmt.Sprint(i)},
			{Name: "region", Value: []string{"x", "y"}[random.IntN(2)]}}
		if service := []string{"a", "b", "c", ""}[random.IntN(4)]; service != "" {
			labels = append(labels, series.Label{Name: "service", Value: service})
		}
		for metric, kind := range map[string]events.Kind{"hits_total": events.Delta,
			"latency_seconds": events.Observation, "level": events.Gauge} {
			panes := map[uint32][]float64{}
			for pane := 10 * random.IntN(300); pane < 7200; pane += 10 * (1 + random.IntN(1+random.IntN(1+random.IntN(400)))) {
				for range 1 + random.IntN(3) {
					panes[at+uint32(pane)] = append(panes[at+uint32(pane)], float64(1+random.IntN(4096))/64)
				}
			}
			tr.add(tenant, metric, kind, labels, panes)
		}
	}
	return tr
}

// promqlOver is PromQL over the database, with every tier in the last two hours.
func promqlOver(t testing.TB, client *clickhouse.Client, now time.Time) *promql.Service {
	t.Helper()
	return promqlOf(t, clickhouse.NewStore(client), now)
}

func promqlOf(t testing.TB, store promql.Store, now time.Time) *promql.Service {
	t.Helper()
	cfg, limits := promql.DefaultConfig(), tenants.DefaultConfig().Defaults
	cfg.Retention10s, cfg.Retention1m = 40*time.Minute, 80*time.Minute
	service, err := promql.New(cfg, promql.Options{
		Store: store, Limits: func(tenants.ID) tenants.Limits { return limits },
		Now: func() time.Time { return now },
	})
	if err != nil {
		t.Fatal(err)
	}
	return service
}

func askPromQL(service *promql.Service, path string, form url.Values) *httptest.ResponseRecorder {
	return askPromQLAs("acme", service, path, form)
}

func askPromQLAs(tenant tenants.ID, service *promql.Service, path string, form url.Values) *httptest.ResponseRecorder {
	request := httptest.NewRequest("GET", path+"?"+form.Encode(), nil)
	answer := httptest.NewRecorder()
	service.Handler().ServeHTTP(answer, request.WithContext(tenants.NewContext(request.Context(), tenant)))
	return answer
}

// What ClickHouse adds up is what the engine makes of single series: same series, same times, values within 1e-9 of
// each other, same warnings, on random queries over unmerged parts of every tier, with late rows, beside another tenant
// with the same series.
func TestPushedEqualsPlain(t *testing.T) {
	server, client := migrated(t, nil)
	ask(t, server, "SYSTEM STOP MERGES")
	at := today(t, server)
	random := rand.New(rand.NewPCG(5, 11))
	shopTraffic(t, client, "acme", at, random)
	shopTraffic(t, client, "demo", at, random)
	service := promqlOver(t, client, time.Unix(int64(at)+7200, 0))
	queries := testkit.PromQL{Ranges: []string{"10s", "30s", "1m", "90s", "5m", "17m", "1h", "2h"},
		Offsets: []string{"10s", "1m", "30m"}}
	pushed := map[string]int{}
	cases := rapid.Custom(func(rt *rapid.T) url.Values {
		form := url.Values{"query": {queries.Draw(rt)},
			"start": {fmt.Sprint(at + 10*uint32(rapid.IntRange(0, 720).Draw(rt, "start")))}, "end": {fmt.Sprint(at + 7200)}}
		form.Set("step", rapid.SampledFrom([]string{"10", "30", "60", "420", "1200"}).Draw(rt, "step"))
		return form
	})
	for i := range 80 { // of which most reach the server several times
		form := cases.Example(i)
		got := askPromQL(service, "/query_range", form)
		form.Set("pushdown", "0")
		want := askPromQL(service, "/query_range", form)
		for _, how := range []string{"of tiers by service", "sum", "_over_time", "gauges", "none"} {
			if strings.Contains(got.Header().Get(promql.HeaderPushdown), how) {
				pushed[how]++
			}
		}
		if difference := testkit.DifferPromQL(got.Body.Bytes(), want.Body.Bytes()); difference != "" || want.Code != 200 {
			t.Fatalf("%s: %d: %s", form.Encode(), want.Code, difference)
		}
	}
	for _, how := range []string{"of tiers by service", "sum", "_over_time", "gauges", "none"} {
		if pushed[how] == 0 {
			t.Errorf("got %v, want some %s", pushed, how)
		}
	}
}

// explain=1 tells the plan and the statements, which name the asking tenant and no other.
func TestExplain(t *testing.T) {
	server, client := migrated(t, nil)
	at := today(t, server)
	shopTraffic(t, client, "acme", at, rand.New(rand.NewPCG(5, 12)))
	service := promqlOver(t, client, time.Unix(int64(at)+7200, 0))
	for query, want := range map[string]struct{ pushdown, table string }{
		`sum by (service) (rate(latency_seconds_count[10s]))`:                              {"sum by (service) of tiers by service", "vigie.services_10s"},
		`histogram_quantile(0.9, sum by (le, region) (rate(latency_seconds_bucket[10s])))`: {"sum by (le, region)", "vigie.rollups_10s"},
		`max by (region) (rate(hits_total[10s]))`:                                          {"max by (region) of rate", "vigie.rollups_10s"},
		`max_over_time(rate(hits_total[10s])[1m:10s])`:                                     {"", "vigie.rollups_10s"},
		`sum by (service) (rate(latency_seconds_count[5m] offset 1h))`:                     {"sum by (service) of tiers by service", "vigie.services_1m"},
	} {
		answer := askPromQL(service, "/query", url.Values{"query": {query}, "time": {fmt.Sprint(at + 7200)}, "explain": {"1"}})
		var body struct {
			Status string
			Data   struct {
				Selectors  []struct{ Pushdown string }
				Statements []struct{ SQL string }
			}
		}
		if err := json.Unmarshal(answer.Body.Bytes(), &body); err != nil || body.Status != "success" ||
			len(body.Data.Selectors) != 1 || len(body.Data.Statements) == 0 {
			t.Fatalf("%s: %v: %s", query, err, answer.Body)
		}
		if got := body.Data.Selectors[0].Pushdown; got != want.pushdown {
			t.Errorf("%s: got %q, want %q", query, got, want.pushdown)
		}
		found := false
		for _, s := range body.Data.Statements {
			found = found || strings.Contains(s.SQL, want.table+" ")
			if !strings.Contains(s.SQL, "'acme'") {
				t.Errorf("%s: got %s, want the tenant in it", query, s.SQL)
			}
		}
		if !found {
			t.Errorf("%s: got %v, want a read of %s", query, body.Data.Statements, want.table)
		}
	}
}
