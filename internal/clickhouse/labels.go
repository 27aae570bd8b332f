package clickhouse

import (
	"context"
	"fmt"
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
	of := "DISTINCT s.labels[" + literal(q.Name) + "]"
	switch q.Name {
	case "":
		of = "arrayJoin(if(count() = 0, [], arrayPushBack(groupUniqArrayArray(CAST(s.labels.keys, 'Array(String)')), '__name__')))"
	case "__name__":
		of = "DISTINCT s.metric::String"
	}
	ofPanes := of
	if q.Name == "service" { // a column of its own
		ofPanes = "DISTINCT s.service::String"
	}
	list, err := eachOf(tenant, &q.SeriesQuery, "SELECT "+ofPanes+" AS label", "SELECT "+of+" AS label", func(string) string { return "" })
	if err != nil || len(list) == 0 {
		return "", err
	}
	distinct := "DISTINCT "
	if len(list) == 1 { // each is, by itself
		distinct = ""
	}
	return "SELECT " + distinct + "label FROM (" + strings.Join(list, "\nUNION ALL\n") + ")\nWHERE label != '' ORDER BY label" + limited(q.Limit) + smallRows, nil
}
