package query

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/vigie-io/vigie/pkg/sketches"
)

// panel is a query, and SQL of rows (…, time, value) that gives the same numbers.
type panel struct {
	name, query, sql string
	within           float64 // of each other, relative
	plain, tsdb      bool    // also series by series, and over a TSDB: of sketches the first takes a hundred times as long, and the second was not given any
}

// panels are those of a size. {R} and the like are replaced below.
var panels = []panel{
	{"sum by service", "sum by (service) (rate(requests_total[{R}s]))", windowed("service", "{of}", "sum(r.sum)", "sum(s) OVER {w} / {R}", "vigie.services_{tier} AS r", "r.service AS service"), 1e-9, true, true},
	{"sum by region", "sum by (region) (rate(requests_total[{R}s]))", windowed("region", "{of}", "sum(r.sum)", "sum(s) OVER {w} / {R}", "vigie.rollups_{tier} AS r INNER JOIN {regions} AS l ON r.series_id = l.series_id", "l.region AS region"), 1e-9, true, true},
	{"max by region", "max by (region) (rate(requests_total[{R}s]))", "SELECT l.region, t, max(v) FROM (" + rates + ") AS x INNER JOIN {regions} AS l ON x.id = l.series_id GROUP BY l.region, t", 1e-9, true, true},
	{"topk", "topk(10, rate(requests_total[{R}s]))", "SELECT of.2, t, -of.1 FROM (SELECT t, arrayJoin(groupArraySorted(10)((-v, id))) AS of FROM (" + rates + ") GROUP BY t)", 1e-9, true, true},
	{"quantile by region", "quantile by (region) (0.9, rate(requests_total[{R}s]))",
		"SELECT l.region, t, quantileExactInclusive(0.9)(v) FROM (" + rates + ") AS x INNER JOIN {regions} AS l ON x.id = l.series_id GROUP BY l.region, t", 1e-9, true, true},
	{"gauge, avg by region", "avg by (region) (queue_depth)", "SELECT l.region, t, avg(v.2) FROM (SELECT series_id AS id, toUnixTimestamp(ts) + {W} AS t, max(r.last) AS v FROM vigie.rollups_{tier} AS r WHERE {of}" +
		" AND (t - {start}) % {S} = 0 AND t >= {start} GROUP BY id, ts) AS x INNER JOIN {regions} AS l ON x.id = l.series_id GROUP BY l.region, t", 1e-9, true, true},
	{"p99 by service", "histogram_quantile(0.99, sum by (service) (rate(latency_seconds[{R}s])))", windowed("service", "{of}", "{merge}(r.sketch)", "({final}(s) OVER {w})[1]", "vigie.services_{tier} AS r", "r.service AS service"), 0.011, false, false},
	{"p99 by region", "histogram_quantile(0.99, sum by (region) (rate(latency_seconds[{R}s])))", windowed("region", "{of}", "{merge}(r.sketch)", "({final}(s) OVER {w})[1]", "vigie.rollups_{tier} AS r INNER JOIN {regions} AS l ON r.series_id = l.series_id", "l.region AS region"), 0.011, false, false},
}

// rates are one for each series and evaluation.
var rates = windowed("id", "{of}", "sum(r.sum)", "sum(s) OVER {w} / {R}", "vigie.rollups_{tier} AS r", "r.series_id AS id")

// windowed is SQL that aggregates panes by a key and then what lies in the range of each evaluation.
func windowed(by, where, pane, window, from, key string) string {
	window = strings.Replace(window, "{w}",
		"(PARTITION BY "+by+" ORDER BY ts RANGE BETWEEN {R} - {W} PRECEDING AND CURRENT ROW)", 1)
	return "SELECT " + by + ", toUnixTimestamp(ts) + {W} AS t, v FROM (SELECT " + by + ", ts, " + window + " AS v FROM (SELECT " + key + ", r.ts AS ts, " + pane + " AS s FROM " + from +
		" WHERE " + where + " GROUP BY " + by + ", ts)) WHERE t >= {start} AND (t - {start}) % {S} = 0"
}

var metricName = regexp.MustCompile(`requests_total|queue_depth|latency_seconds`)

// over is the panel for a size.
func (p panel) over(s size, end int64) panel {
	metric := metricName.FindString(p.query)
	start := end - int64(s.span.Seconds())
	alpha := "(" + strconv.FormatFloat(sketches.Alpha, 'f', -1, 64) + ", "
	words := strings.NewReplacer(
		"{R} - {W}", fmt.Sprint((s.rng - s.pane).Seconds()), "{R}", fmt.Sprint(s.rng.Seconds()), "{W}",
		fmt.Sprint(s.pane.Seconds()), "{S}", fmt.Sprint(s.step.Seconds()), "{start}", fmt.Sprint(start), "{tier}", s.tier,
		"{of}", fmt.Sprintf("r.tenant = '%s' AND r.metric = '%s' AND r.ts >= toDateTime(%d) AND r.ts < toDateTime(%d)", s.tenant(), metric, start-int64(s.rng.Seconds()), end),
		"{regions}", fmt.Sprintf("(SELECT series_id, any(s.labels['region']) AS region FROM vigie.series AS s WHERE tenant = '%s' AND metric = '%s' GROUP BY series_id)", s.tenant(), metric),
		"{merge}", "quantilesDDMergeState"+alpha+"0.99)", "{final}", "quantilesDDMerge"+alpha+"0.99)",
	)
	p.query, p.sql = words.Replace(p.query), words.Replace(p.sql)
	return p
}
