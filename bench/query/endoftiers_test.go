package query

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/query/promql"
	"github.com/vigie-io/vigie/internal/tenants"
)

// reaching is a store whose wider tiers have what happened before a time, and the tier of 10 s all before the end.
type reaching struct {
	promql.Store
	end, upTo time.Time
}

func (s reaching) Progress(context.Context, []tenants.ID) ([]promql.Progress, error) {
	const idle = 15 * time.Second // what comes in order is no older
	end := s.end.UnixMilli()
	return []promql.Progress{{Topic: "events", Time: end, Updated: end, Coarse: s.upTo.Add(idle).UnixMilli()}}, nil
}

// What it costs that the last two minutes of minutes and of hours come from the tier of 10 s, in turns with the same from
// one tier: processor time of query and ClickHouse together, at best.
func BenchmarkEndOfTiers(b *testing.B) {
	of := &bench{database: newDatabase(b)}
	end, store := time.Unix(of.end, 0), clickhouse.NewStore(of.client)
	handlers := [2]http.Handler{of.service(reaching{store, end, end}), of.service(reaching{store, end, end.Add(-2 * time.Minute)})}
	for _, s := range spans[1:] {
		s.series, s.observed = 1000, 1000
		of.t, of.tenant = b, tenants.ID(s.tenant())
		of.fill(s, func(metric string) bool { return metric != "queue_depth" })
		of.fillEnd(s)
		for _, span := range []time.Duration{s.span, s.span / 24} {
			for _, query := range []string{
				"histogram_quantile(0.99, sum by (region) (rate(latency_seconds[{R}s])))",
				"histogram_quantile(0.99, sum by (service) (rate(latency_seconds[{R}s])))",
				"sum by (region) (rate(requests_total[{R}s]))",
				"max by (region) (rate(requests_total[{R}s]))",
			} {
				query = strings.ReplaceAll(query, "{R}", fmt.Sprint(s.rng.Seconds()))
				form := url.Values{"query": {query}, "start": {fmt.Sprint(end.Add(-span).Unix())}, "end": {fmt.Sprint(of.end)},
					"step": {fmt.Sprint(s.step.Seconds())}}
				b.Run(fmt.Sprintf("%s/%s", span, query), func(b *testing.B) { of.inTurns(b, handlers, form) })
			}
		}
	}
}

// inTurns reports what a request costs each of two services, at best and together.
func (b *bench) inTurns(t *testing.B, handlers [2]http.Handler, form url.Values) {
	var best [2]time.Duration
	for i, h := range handlers { // which also keep the list of series from here on
		b.t, b.handler = t, h
		explained := url.Values{"explain": {"1"}}
		for name, values := range form {
			explained[name] = values
		}
		if finer := strings.Contains(string(b.query("/query_range", explained)), "finer_from"); finer != (i == 1) {
			t.Fatalf("%s: finer tiers are read: %v", form.Get("query"), finer)
		}
	}
	for n := 0; t.Loop(); n++ {
		for i := range handlers {
			b.handler = handlers[i]
			cpu := b.cost(func() { b.query("/query_range", form) }).CPU
			if n == 0 || cpu < best[i] {
				best[i] = cpu
			}
		}
	}
	t.ReportMetric(milliseconds(best[0]), "ms-of-one-tier")
	t.ReportMetric(milliseconds(best[1]), "ms-with-seam")
	t.ReportMetric(float64(best[1])/float64(best[0]), "ratio")
}

// fillEnd writes rows of the last ten minutes into the tier of 10 s, and of the last hour into that of minutes, as parts
// of those of the tier above are.
func (d *database) fillEnd(s size) {
	d.t.Helper()
	if s.tier == "1h" {
		d.divide(s, "1h", "1m", 60, time.Hour)
	}
	d.divide(s, "1m", "10s", 6, 10*time.Minute)
}

// divide writes each row of a tier that ends lately as so many rows of a finer one.
func (d *database) divide(s size, from, into string, parts int, lately time.Duration) {
	d.t.Helper()
	width := map[string]int{"1h": 3600, "1m": 60}[from] / parts
	for _, of := range []struct{ table, columns string }{{"rollups", "series_id, last, "}, {"services", ""}} {
		d.ask(fmt.Sprintf(`INSERT INTO vigie.%[1]s_%[2]s (tenant, metric, service, %[3]sts, count, sum, min, max, sketch)
SETTINGS min_insert_block_size_rows = 50000, max_block_size = 8192, min_insert_block_size_bytes = 0, max_insert_threads = 1,
    optimize_on_insert = 0
SELECT tenant, metric, service, %[3]sts + toIntervalSecond(%[4]d * part) AS ts, 1 + intDiv(count, %[5]d), sum / %[5]d, min, max, sketch
FROM vigie.%[1]s_%[6]s ARRAY JOIN range(%[5]d) AS part WHERE tenant = '%[7]s' AND ts >= toDateTime(%[8]d)`,
			of.table, into, of.columns, width, parts, from, s.tenant(), d.end-int64(lately.Seconds())))
	}
}
