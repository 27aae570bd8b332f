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

// stretch is the time of which a query reads rows of a tier, [from, to), Unix ms.
type stretch struct {
	tier     promql.Tier
	from, to int64
}

// stretches are those of a query that are not empty, ascending.
func stretches(q *promql.PaneQuery) (list []stretch) {
	tier, from := q.Tier, q.From
	add := func(to int64) {
		if from < to {
			list = append(list, stretch{tier, from, to})
		}
	}
	for _, finer := range q.Finer {
		add(min(finer.From, q.To))
		tier, from = finer.Tier, max(from, finer.From)
	}
	add(q.To)
	return list
}

// paneRows is where the rows r of a query come from, and the condition on them: those that which says, of one tenant. Where
// finer tiers stand for the query's, r are rows of all of them, with the columns that are named and ts, the start of the
// query's own window. Generations are judged outside of them, in one place: a statement sees the old rows or the new.
func paneRows(tenant tenants.ID, q *promql.PaneQuery, which string, columns ...string) (from, where string, err error) {
	if len(q.Finer) == 0 {
		from, err = tableOf(q, q.Tier)
		return from, panesWhere(tenant, q, which), err
	}
	width := strconv.FormatInt(int64(time.Duration(q.Tier).Seconds()), 10)
	list := strings.Join(columns, ", ") + ", r.metric, r.gen, toDateTime(intDiv(toUnixTimestamp(r.ts), " + width + ") * " + width +
		", 'UTC') AS ts"
	var parts []string
	for _, s := range stretches(q) {
		table, err := tableOf(q, s.tier)
		if err != nil {
			return "", "", err
		}
		parts = append(parts, "SELECT "+list+" FROM "+table+" WHERE "+within(tenant, q, which, s.from, s.to))
	}
	return "(" + strings.Join(parts, "\nUNION ALL ") + ") AS r", migrations.Visible("r", literal(string(tenant))), nil
}

// tableOf is the table of a tier that a query reads, as r.
func tableOf(q *promql.PaneQuery, tier promql.Tier) (string, error) {
	name, known := map[promql.Tier]string{promql.Tier10s: "10s", promql.Tier1m: "1m", promql.Tier1h: "1h"}[tier]
	switch {
	case !known:
		return "", fmt.Errorf("read panes: tier %s: want 10s, 1m or 1h", time.Duration(tier))
	case q.Services != nil:
		return "vigie.services_" + name + " AS r", nil
	}
	return "vigie.rollups_" + name + " AS r", nil
}

// panesWhere is the condition on rows r of rollups: of a tenant, metrics and a time, those that which says, and no
// others' generations.
func panesWhere(tenant tenants.ID, q *promql.PaneQuery, which string) string {
	return within(tenant, q, which, q.From, q.To) + " AND " + migrations.Visible("r", literal(string(tenant)))
}

// within is panesWhere for some of the time, without generations.
func within(tenant tenants.ID, q *promql.PaneQuery, which string, from, to int64) string {
	return strings.Join([]string{"tenant = " + literal(string(tenant)), amongMetrics("metric", q.Metrics), which,
		"r.ts >= " + seconds(from), "r.ts < " + seconds(to)}, " AND ")
}
