package clickhouse

import (
	"context"
	"fmt"
	"strconv"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/vigie-io/vigie/internal/query/promql"
	"github.com/vigie-io/vigie/internal/tenants"
)

// Labels lists names or values of labels of series of panes and of windows, each once, ascending.
func (s *Store) Labels(ctx context.Context, tenant tenants.ID, q promql.LabelQuery) ([]string, error) {
	if len(q.Metrics) == 0 {
		return nil, nil
	}
	query, err := labelsQuery(tenant, &q)
	if err != nil {
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
	where, err := seriesWhere(tenant, q.Metrics, q.Matchers)
	if err != nil {
		return "", err
	}
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
	query := "SELECT DISTINCT label FROM (SELECT " + ofPanes + " AS label FROM vigie.series AS s WHERE " + where + seen(q.Since) +
		"\nUNION ALL\nSELECT " + of + " AS label FROM vigie.window_series AS s WHERE " + where + windowsSeen(q.Since) + ")\nWHERE label != '' ORDER BY label"
	if q.Limit > 0 {
		query += "\nLIMIT " + strconv.Itoa(q.Limit)
	}
	return query, nil
}
