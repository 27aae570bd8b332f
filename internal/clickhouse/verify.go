package clickhouse

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/vigie-io/vigie/internal/pipeline/verify"
	"github.com/vigie-io/vigie/migrations"
	"github.com/vigie-io/vigie/pkg/series"
)

var _ verify.Store = (*Store)(nil)

// Rows implements verify.Store. The server merges in the order of the table, so that it holds little at a time.
func (s *Store) Rows(ctx context.Context, q verify.Query, yield func(*verify.Row) error) error {
	query, err := verifyQuery(&q)
	if err != nil {
		return err
	}
	var (
		tenant, metric, service, lastHist, sketch proto.ColStr
		id                                        proto.ColUInt128
		start                                     proto.ColUInt32
		count                                     proto.ColUInt64
		sum, low, high, last                      proto.ColFloat64
		lastTime                                  proto.ColInt64
	)
	request, err := s.client.readCall(query, nil)
	if err != nil {
		return err
	}
	request.params.Set("optimize_aggregation_in_order", "1")
	columns := proto.Results{
		{Name: "tenant", Data: &tenant}, {Name: "metric", Data: &metric}, {Name: "service", Data: &service},
		{Name: "id", Data: &id}, {Name: "start", Data: &start}, {Name: "count", Data: &count}, {Name: "sum", Data: &sum},
	}
	if !q.Amounts {
		columns = append(columns, proto.Results{
			{Name: "min", Data: &low}, {Name: "max", Data: &high}, {Name: "last_time", Data: &lastTime},
			{Name: "last", Data: &last}, {Name: "last_hist", Data: &lastHist}, {Name: "sketch", Data: &sketch},
		}...)
	}
	err = s.answer(ctx, request, columns, func(rows int) error {
		for i := range rows {
			row := verify.Row{
				Key: verify.Key{
					Tenant: tenant.Row(i), Metric: metric.Row(i), Service: service.Row(i),
					ID: series.ID{Hi: id[i].High, Lo: id[i].Low}, Start: int64(start[i]),
				},
				Count: count[i], Sum: sum[i],
			}
			if !q.Amounts {
				row.Min, row.Max, row.LastTime, row.Last = low[i], high[i], lastTime[i], last[i]
				row.LastHist, row.Sketch = lastHist.Row(i), sketch.RowBytes(i)
			}
			if err := yield(&row); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read %s from %d to %d: %w", q.Table.Name, q.From, q.To, err)
	}
	return nil
}

// Next implements verify.Store.
func (s *Store) Next(ctx context.Context, q verify.Query) (start int64, found bool, err error) {
	from, err := verifyFrom(&q)
	if err != nil {
		return 0, false, err
	}
	var (
		first proto.ColUInt32
		rows  proto.ColUInt64
	)
	results := proto.Results{{Name: "first", Data: &first}, {Name: "rows", Data: &rows}}
	query := "SELECT toUnixTimestamp(min(r.ts)) AS first, count() AS rows" + from
	err = s.read(ctx, query, nil, results, func(n int) error {
		for i := range n {
			start, found = int64(first[i]), rows[i] > 0
		}
		return nil
	})
	if err != nil {
		return 0, false, fmt.Errorf("look for rows of %s from %d to %d: %w", q.Table.Name, q.From, q.To, err)
	}
	return start, found, nil
}

func verifyQuery(q *verify.Query) (string, error) {
	from, err := verifyFrom(q)
	if err != nil {
		return "", err
	}
	keys, id, last := "tenant, metric, service, series_id, ts", "series_id", "max(r.last)"
	if q.Table.Service {
		keys, id, last = "tenant, metric, service, ts", "toUInt128(0)", "(0::Int64, 0::Float64, '')"
	}
	columns, rest := "tenant, metric, service, id, start, count, sum", ""
	if !q.Amounts {
		columns += ", min, max, last_time, last, last_hist, sketch"
		rest = ", toFloat64(min(r.min)) AS min, toFloat64(max(r.max)) AS max, " + last + " AS level," +
			" level.1 AS last_time, level.2 AS last, level.3 AS last_hist," +
			" CAST(" + migrations.MergeStates("r.sketch") + ", 'String') AS sketch"
	}
	return "SELECT " + columns + " FROM (SELECT tenant::String AS tenant, metric::String AS metric, service::String AS service, " +
		id + " AS id, toUnixTimestamp(ts) AS start, sum(r.count) AS count, sum(r.sum) AS sum" + rest + from +
		"\nGROUP BY " + keys + ")", nil
}

// verifyFrom is from where, and which rows: only what the stream wrote, for replacements are of no topic.
func verifyFrom(q *verify.Query) (string, error) {
	if !slices.Contains(verify.Tables(), q.Table) {
		return "", fmt.Errorf("read table %q: want one that holds rollups", q.Table.Name)
	}
	var b strings.Builder
	b.WriteString("\nFROM vigie." + q.Table.Name + " AS r WHERE r.gen = 0" +
		" AND ts >= " + seconds(q.From*1000) + " AND ts < " + seconds(q.To*1000))
	if q.Tenant != "" {
		b.WriteString(" AND r.tenant = " + literal(string(q.Tenant)))
	}
	if len(q.Metrics) > 0 {
		in := " IN ("
		if q.Except {
			in = " NOT IN ("
		}
		b.WriteString(" AND r.metric" + in + literals(q.Metrics) + ")")
	}
	return b.String(), nil
}
