package clickhouse

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/vigie-io/vigie/internal/query/promql"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/migrations"
)

// partsOf are the queries of one tier each that have all rows of a query: itself, or one for each of its finer tiers.
func partsOf(q *promql.PaneQuery) (list []promql.PaneQuery) {
	if q.Finer == nil {
		return []promql.PaneQuery{*q}
	}
	for i, stretch := range q.Finer {
		part := *q
		part.Tier, part.From, part.Finer = stretch.Tier, stretch.From, nil
		if i+1 < len(q.Finer) {
			part.To = q.Finer[i+1].From
		}
		list = append(list, part)
	}
	return list
}

// paneRows is where the rows r of a query come from, and the condition on them: those that which says, of one tenant. Of
// finer tiers, r are rows of all of them, with the columns that are named and ts, the start of the query's own window.
// Generations are judged outside of them, in one place: a statement sees the old rows or the new.
func paneRows(tenant tenants.ID, q *promql.PaneQuery, which string, columns ...string) (from, where string, err error) {
	visible := migrations.Visible("r", literal(string(tenant)))
	if q.Finer == nil {
		from, err = tableOf(q)
		return from, panesWhere(tenant, q, which) + " AND " + visible, err
	}
	list := strings.Join(columns, ", ") + ", r.metric, r.gen, toDateTime(" + windowStart(q.Tier) + ", 'UTC') AS ts"
	var parts []string
	for _, part := range partsOf(q) {
		table, err := tableOf(&part)
		if err != nil {
			return "", "", err
		}
		parts = append(parts, "SELECT "+list+" FROM "+table+" WHERE "+panesWhere(tenant, &part, which))
	}
	return "(" + strings.Join(parts, "\nUNION ALL ") + ") AS r", visible, nil
}

// windowStart is the start of the window of a tier that a row r of a finer one is in, Unix seconds.
func windowStart(tier promql.Tier) string {
	width := strconv.FormatInt(int64(time.Duration(tier).Seconds()), 10)
	return "intDiv(toUnixTimestamp(r.ts), " + width + ") * " + width
}

// tableOf is the table of its tier that a query reads, as r.
func tableOf(q *promql.PaneQuery) (string, error) {
	name, known := map[promql.Tier]string{promql.Tier10s: "10s", promql.Tier1m: "1m", promql.Tier1h: "1h"}[q.Tier]
	switch {
	case !known:
		return "", fmt.Errorf("read panes: tier %s: want 10s, 1m or 1h", time.Duration(q.Tier))
	case q.Services != nil:
		return "vigie.services_" + name + " AS r", nil
	}
	return "vigie.rollups_" + name + " AS r", nil
}

// panesWhere is the condition on rows r of rollups, generations left out: of a tenant, metrics and a time, those that
// which says.
func panesWhere(tenant tenants.ID, q *promql.PaneQuery, which string) string {
	return strings.Join([]string{"tenant = " + literal(string(tenant)), amongMetrics("metric", q.Metrics), which,
		"r.ts >= " + seconds(q.From), "r.ts < " + seconds(q.To)}, " AND ")
}
