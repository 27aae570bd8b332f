package clickhouse

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/vigie-io/vigie/internal/query/promql"
	"github.com/vigie-io/vigie/internal/tenants"
)

// Labels lists names or values of labels of series of panes and of windows, each once, ascending.
func (s *Store) Labels(ctx context.Context, tenant tenants.ID, q promql.LabelQuery) ([]string, error) {
	query, err := labelsQuery(tenant, &q)
	if err != nil || query == "" {
		return nil, err
	}
	var (
		label proto.ColStr
		found []string
	)
	err = s.read(ctx, query, nil, proto.Results{{Name: "label", Data: &label}}, func(rows int) error {
		for i := range rows {
			found = append(found, label.Row(i))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list values of label %q of tenant %s: %w", q.Name, tenant, err)
	}
	return found, nil
}

func labelsQuery(tenant tenants.ID, q *promql.LabelQuery) (string, error) {
	var list []string
	bySeries := q.SeriesQuery
	if len(q.Metrics) > 0 && !slices.ContainsFunc(q.Matchers, func(m promql.Matcher) bool { return m.Name != q.Name }) {
		values, err := valuesQuery(tenant, q)
		if err != nil {
			return "", err
		}
		list, bySeries.Metrics = append(list, values), nil
	}
	of := "DISTINCT s.labels[" + literal(q.Name) + "]"
	switch q.Name {
	case "":
		const names = "groupUniqArrayArray(CAST(s.labels.keys, 'Array(String)'))"
		of = "arrayJoin(if(count() = 0, [], arrayPushBack(" + names + ", '__name__')))"
	case "__name__":
		of = "DISTINCT s.metric::String"
	}
	ofPanes := of
	if q.Name == "service" { // a column of its own
		ofPanes = "DISTINCT s.service::String"
	}
	more, err := eachOf(tenant, &bySeries, "SELECT "+ofPanes+" AS label", "SELECT "+of+" AS label",
		func(string) string { return "" })
	if list = append(list, more...); err != nil || len(list) == 0 {
		return "", err
	}
	distinct := "DISTINCT "
	if len(list) == 1 { // each is, by itself
		distinct = ""
	}
	return "SELECT " + distinct + "label FROM (" + strings.Join(list, "\nUNION ALL\n") + ")\nWHERE label != '' ORDER BY label" +
		limitClause(q.Limit) + smallRows, nil
}

// valuesQuery lists from the table of values, which knows of each what metrics have it, but not what other labels.
func valuesQuery(tenant tenants.ID, q *promql.LabelQuery) (string, error) {
	of, where := "s.value", " AND s.name = "+literal(q.Name)
	if q.Name == "" {
		of, where = "s.name::String", ""
	}
	for _, m := range q.Matchers {
		condition, err := conditionOn(of, m)
		if err != nil {
			return "", err
		}
		where += "\nAND " + condition
	}
	// Values lie in order: no more of them are read than are wanted.
	return "SELECT " + of + " AS label FROM vigie.label_values AS s WHERE " +
		ofMetrics(tenant, q.Metrics) + where + seen(q.Since) +
		"\nORDER BY " + of + " LIMIT 1 BY " + of + limitClause(q.Limit), nil
}
