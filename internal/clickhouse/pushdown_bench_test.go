package clickhouse_test

import (
	"fmt"
	"net/http/httptest"
	"net/url"
	"strconv"
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

// BenchmarkPushdown is one panel over an hour of 10 s windows: series one by one, added up by ClickHouse, from the tier by service, and SQL that
// gives the same numbers, bare.
func BenchmarkPushdown(b *testing.B) {
	for _, series := range []int{1000, 10_000} {
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
		panel := func(query, pushdown, how string) {
			b.Run(fmt.Sprintf("series=%d/%s", series, how), func(b *testing.B) {
				b.ReportAllocs()
				form := url.Values{"query": {query}, "start": {fmt.Sprint(at + 600)}, "end": {fmt.Sprint(at + 3500)}, "step": {"30"}, "pushdown": {pushdown}}
				for b.Loop() {
					request, answer := httptest.NewRequest("GET", "/query_range?"+form.Encode(), nil), httptest.NewRecorder()
					handler.ServeHTTP(answer, request.WithContext(tenants.NewContext(request.Context(), "acme")))
					if answer.Code != 200 {
						b.Fatal(answer.Body)
					}
				}
			})
		}
		raw := func(how, statement string) {
			b.Run(fmt.Sprintf("series=%d/%s", series, how), func(b *testing.B) {
				for b.Loop() {
					ask(b, server, statement)
				}
			})
		}
		where := fmt.Sprintf(" WHERE r.tenant = 'acme' AND r.metric = 'hits_total' AND r.ts >= toDateTime(%d) AND r.ts < toDateTime(%d)", at+300, at+3500)
		panel("sum by (region) (rate(hits_total[50s]))", "0", "by=region/plain")
		panel("sum by (region) (rate(hits_total[50s]))", "1", "by=region/pushed")
		raw("by=region/sql", "SELECT l.region, r.ts, sum(r.sum) FROM vigie.rollups_10s AS r INNER JOIN (SELECT series_id, any(s.labels['region']) AS region FROM vigie.series AS s"+
			" WHERE tenant = 'acme' AND metric = 'hits_total' GROUP BY series_id) AS l ON r.series_id = l.series_id"+where+" GROUP BY l.region, r.ts FORMAT Null")
		panel("sum by (service) (rate(hits_total[50s]))", "0", "by=service/plain")
		panel("sum by (service) (rate(hits_total[50s]))", "1", "by=service/pushed")
		raw("by=service/sql", "SELECT r.service, r.ts, sum(r.sum) FROM vigie.services_10s AS r"+where+" GROUP BY r.service, r.ts FORMAT Null")
	}
}
