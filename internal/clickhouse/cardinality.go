package clickhouse

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/vigie-io/vigie/internal/query/promql"
	"github.com/vigie-io/vigie/internal/tenants"
)

// Cardinality counts a tenant's series of panes seen at or after since (Unix ms), by label, with the most frequent
// values of each label, at most so many. One pass over the series table; what is returned is bounded by the number of
// label names.
func (s *Store) Cardinality(ctx context.Context, tenant tenants.ID, since int64, most int) (*promql.Cardinality, error) {
	// groupArraySorted keeps the least: counts turned round, so that the most frequent come first and equal ones by
	// value.
	top := "groupArraySorted(" + strconv.Itoa(most) + ")((-toInt64(n), value))"
	query := `SELECT name, count() AS different, sum(n) AS having, sum(n * length(value)) AS bytes,
    arrayMap(t -> t.2, ` + top + ` AS top) AS values, arrayMap(t -> toUInt64(-t.1), top) AS counts
FROM (
    SELECT pair.1 AS name, pair.2 AS value, count() AS n
    FROM (
        SELECT metric::String AS metric, series_id, CAST(any(s.labels), 'Map(String, String)') AS labels
        FROM vigie.series AS s WHERE tenant = ` + literal(string(tenant)) + seen(since) + `
        GROUP BY metric, series_id
    ) ARRAY JOIN arrayConcat([('__name__', metric)], CAST(labels, 'Array(Tuple(String, String))')) AS pair
    GROUP BY name, value
) GROUP BY name ORDER BY name`
	var (
		name                     proto.ColStr
		different, having, bytes proto.ColUInt64
		values                   = proto.NewArray(new(proto.ColStr))
		counts                   = proto.NewArray(new(proto.ColUInt64))
		found                    = &promql.Cardinality{}
	)
	err := s.read(ctx, query, nil, proto.Results{
		{Name: "name", Data: &name}, {Name: "different", Data: &different}, {Name: "having", Data: &having},
		{Name: "bytes", Data: &bytes},
		{Name: "values", Data: values}, {Name: "counts", Data: counts},
	}, func(rows int) error {
		for i := range rows {
			label := promql.LabelCardinality{Name: name.Row(i), Values: different[i], Series: having[i], Bytes: bytes[i]}
			of := counts.Row(i)
			for j, value := range values.Row(i) {
				label.Top = append(label.Top, promql.ValueCount{Value: value, Series: of[j]})
			}
			found.Labels = append(found.Labels, label)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("count series of tenant %s: %w", tenant, err)
	}
	if i := slices.IndexFunc(found.Labels, func(l promql.LabelCardinality) bool { return l.Name == "__name__" }); i >= 0 {
		found.Series = found.Labels[i].Series
	}
	return found, nil
}
