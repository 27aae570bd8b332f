package clickhouse_test

import (
	"fmt"
	"net/http/httptest"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/query/promql"
	"github.com/vigie-io/vigie/internal/tenants"
)

// fillHour writes an hour of 10 s panes of so many series in 50 services and 10 regions, in the database itself.
func fillHour(b *testing.B, ask func(string) string, at uint32, series int) {
	b.Helper()
	of := fmt.Sprintf("(SELECT number %% %d AS s, intDiv(number, %d) AS p, concat('s', toString(s %% 50)) AS name FROM numbers(%d))", series, series, series*360)
	columns := "(grain, tenant, metric, service, series_id, ts, count, sum, min, max)"
	ask("INSERT INTO vigie.ingest_series (tenant, metric, service, series_id, kind, labels, last_seen) SELECT 'acme', 'hits_total', concat('s', toString(number % 50)), " +
		"toUInt128(cityHash64(number)), 1, map('instance', toString(number), 'region', concat('r', toString(number % 10)), 'service', concat('s', toString(number % 50))), " +
		"toDateTime(" + fmt.Sprint(at+3600) + ") FROM numbers(" + strconv.Itoa(series) + ")")
	ask("INSERT INTO vigie.ingest_rollups " + columns + " SELECT 0, 'acme', 'hits_total', name, toUInt128(cityHash64(s)), toDateTime(" + fmt.Sprint(at) + " + 10 * p), 1, 1 + s % 7, 1, 9 FROM " + of)
	ask("INSERT INTO vigie.ingest_rollups " + columns + " SELECT 1, 'acme', 'hits_total', name, 0, toDateTime(" + fmt.Sprint(at) + " + 10 * p), count(), sum(1 + s % 7), 1, 9 FROM " + of + " GROUP BY name, p")
}

// benchPanel is one panel in PromQL and SQL that gives the same numbers, bare: %s are its conditions.
type benchPanel struct{ name, query, sql string }

// benchPanels are of metric; its rows lie in table, of panes of so many seconds.
func benchPanels(metric, table, rng string, pane int) []benchPanel {
	regions := "(SELECT series_id, any(s.labels['region']) AS region FROM vigie.series AS s WHERE tenant = 'acme' AND metric = '" + metric + "' GROUP BY series_id)"
	perSeries := "(SELECT r.series_id AS id, r.ts AS ts, sum(r.sum) AS v FROM vigie.rollups_" + table + " AS r WHERE %s GROUP BY id, ts)"
	rates := "(SELECT id, ts, sum(v) OVER (PARTITION BY id ORDER BY ts RANGE BETWEEN " + strconv.Itoa(4*pane) + " PRECEDING AND CURRENT ROW) AS v FROM " + perSeries + ")"
	return []benchPanel{
		{"sum by region", "sum by (region) (rate(" + metric + "[" + rng + "]))",
			"SELECT l.region, r.ts, sum(r.sum) FROM vigie.rollups_" + table + " AS r INNER JOIN " + regions + " AS l ON r.series_id = l.series_id WHERE %s GROUP BY l.region, r.ts"},
		{"sum by service", "sum by (service) (rate(" + metric + "[" + rng + "]))",
			"SELECT r.service, r.ts, sum(r.sum) FROM vigie.services_" + table + " AS r WHERE %s GROUP BY r.service, r.ts"},
		{"max by region", "max by (region) (rate(" + metric + "[" + rng + "]))",
			"SELECT l.region, x.ts, max(x.v) FROM " + rates + " AS x INNER JOIN " + regions + " AS l ON x.id = l.series_id GROUP BY l.region, x.ts"},
		{"topk", "topk(10, rate(" + metric + "[" + rng + "]))",
			"SELECT x.ts, arrayResize(arrayReverseSort(groupArray((x.v, x.id))), 10) FROM " + rates + " AS x GROUP BY x.ts"},
		{"quantile by region", "quantile by (region) (0.9, rate(" + metric + "[" + rng + "]))",
			"SELECT l.region, x.ts, quantileExact(0.9)(x.v) FROM " + rates + " AS x INNER JOIN " + regions + " AS l ON x.id = l.series_id GROUP BY l.region, x.ts"},
	}
}

// BenchmarkPushdown is panels over an hour of 10 s windows: series one by one, as they are pushed down, and SQL that gives the same numbers, bare.
// VIGIE_BENCH_SERIES=100000 adds a size.
func BenchmarkPushdown(b *testing.B) {
	sizes := []int{1000, 10_000}
	if more, err := strconv.Atoi(os.Getenv("VIGIE_BENCH_SERIES")); err == nil {
		sizes = append(sizes, more)
	}
	for _, series := range sizes {
		server, client := migrated(b, nil)
		at := today(b, server)
		fillHour(b, func(statement string) string { return ask(b, server, statement) }, at, series)
		limits := tenants.DefaultConfig().Defaults
		service, err := promql.New(promql.DefaultConfig(), promql.Options{
			Store: clickhouse.NewStore(client), Limits: func(tenants.ID) tenants.Limits { return limits }, Now: func() time.Time { return time.Unix(int64(at)+3600, 0) },
		})
		if err != nil {
			b.Fatal(err)
		}
		handler := service.Handler() // once: it is what a process has
		where := fmt.Sprintf("r.tenant = 'acme' AND r.metric = 'hits_total' AND r.ts >= toDateTime(%d) AND r.ts < toDateTime(%d)", at+600, at+3500)
		for _, panel := range benchPanels("hits_total", "10s", "50s", 10) {
			for _, pushdown := range []string{"0", "1"} {
				b.Run(fmt.Sprintf("series=%d/%s/pushdown=%s", series, panel.name, pushdown), func(b *testing.B) {
					b.ReportAllocs()
					form := url.Values{"query": {panel.query}, "start": {fmt.Sprint(at + 600)}, "end": {fmt.Sprint(at + 3500)}, "step": {"30"}, "pushdown": {pushdown}}
					for b.Loop() {
						request, answer := httptest.NewRequest("GET", "/query_range?"+form.Encode(), nil), httptest.NewRecorder()
						handler.ServeHTTP(answer, request.WithContext(tenants.NewContext(request.Context(), "acme")))
						if answer.Code != 200 {
							b.Fatal(answer.Body)
						}
					}
				})
			}
			b.Run(fmt.Sprintf("series=%d/%s/sql", series, panel.name), func(b *testing.B) {
				for b.Loop() {
					ask(b, server, strings.ReplaceAll(panel.sql, "%s", where)+" FORMAT Null")
				}
			})
		}
	}
}
