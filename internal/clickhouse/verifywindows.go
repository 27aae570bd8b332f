package clickhouse

import (
	"context"
	"fmt"
	"strings"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/vigie-io/vigie/internal/pipeline/verify"
	"github.com/vigie-io/vigie/internal/pipeline/windowed"
	"github.com/vigie-io/vigie/migrations"
	"github.com/vigie-io/vigie/pkg/series"
)

var _ verify.WindowStore = (*Store)(nil)

// WindowRows implements verify.WindowStore.
func (s *Store) WindowRows(ctx context.Context, q verify.WindowQuery, yield func(*verify.WindowRow) error) error {
	request, err := s.client.readCall(windowRowsQuery(&q), nil)
	if err != nil {
		return err
	}
	var c windowRowColumns
	if err := s.answer(ctx, request, c.results(), func(rows int) error {
		for i := range rows {
			if err := yield(c.row(i)); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return fmt.Errorf("read windows of %s…: %w", q.Parts, err)
	}
	return nil
}

func windowRowsQuery(q *verify.WindowQuery) string {
	var b strings.Builder
	b.WriteString("SELECT tenant, metric, service, id, start, end, rule, part, late, count, sum, min, max, sketch, measures," +
		" first_end.1 AS first_time, first_end.2 AS first, last_end.1 AS last_time, last_end.2 AS last, distinct_state," +
		" tops.1 AS items, tops.2 AS counts, tops.3 AS errors, floor, total FROM (\n" +
		"SELECT tenant::String AS tenant, metric::String AS metric, any(w.service)::String AS service, series_id AS id," +
		" toInt64(toUnixTimestamp(w.start)) AS start, toInt64(toUnixTimestamp(w.end)) AS end, rule, part::String AS part," +
		" sumIf(w.count, w.kind IN (3, 4)) AS late," +
		" sum(w.count) AS count, sum(w.sum) AS sum, min(w.min) AS min, max(w.max) AS max," +
		" CAST(" + migrations.MergeStates("w.sketch") + ", 'String') AS sketch, groupBitOr(w.measures) AS measures," +
		" minIf(w.first, w.first.1 != 0) AS first_end, max(w.last) AS last_end," +
		" CAST(" + migrations.MergeDistinct("w.distinct_state") + ", 'String') AS distinct_state," +
		" sumMap(w.top.items, w.top.counts, w.top.errors) AS tops, sum(w.top.floor) AS floor, sum(w.top.total) AS total\n" +
		"FROM vigie.windows AS w FINAL WHERE w.kind != 1 AND w.gen = 0 AND startsWith(w.part, " + literal(q.Parts) + ")" +
		" AND w.start >= " + seconds(q.From*1000) + " AND w.start < " + seconds(q.To*1000))
	if q.Tenant != "" {
		b.WriteString(" AND w.tenant = " + literal(string(q.Tenant)))
	}
	b.WriteString("\nGROUP BY tenant, metric, series_id, w.start, w.end, rule, part)")
	return b.String()
}

// windowRowColumns are the columns of an answer, reused from block to block.
type windowRowColumns struct {
	tenant, metric, service, part, sketch, distinct proto.ColStr
	id                                              proto.ColUInt128
	start, end, firstTime, lastTime                 proto.ColInt64
	rule, late, count                               proto.ColUInt64
	sum, low, high, first, last, floor, total       proto.ColFloat64
	measures                                        proto.ColUInt8
	items                                           *proto.ColArr[string]
	counts, errors                                  *proto.ColArr[float64]
	out                                             verify.WindowRow
}

func (c *windowRowColumns) results() proto.Results {
	c.items = proto.NewArray[string](new(proto.ColStr))
	c.counts, c.errors = proto.NewArray[float64](new(proto.ColFloat64)), proto.NewArray[float64](new(proto.ColFloat64))
	return proto.Results{
		{Name: "tenant", Data: &c.tenant}, {Name: "metric", Data: &c.metric},
		{Name: "service", Data: &c.service}, {Name: "id", Data: &c.id},
		{Name: "start", Data: &c.start}, {Name: "end", Data: &c.end}, {Name: "rule", Data: &c.rule},
		{Name: "part", Data: &c.part},
		{Name: "late", Data: &c.late}, {Name: "count", Data: &c.count}, {Name: "sum", Data: &c.sum}, {Name: "min", Data: &c.low},
		{Name: "max", Data: &c.high}, {Name: "sketch", Data: &c.sketch}, {Name: "measures", Data: &c.measures},
		{Name: "first_time", Data: &c.firstTime}, {Name: "first", Data: &c.first}, {Name: "last_time", Data: &c.lastTime},
		{Name: "last", Data: &c.last},
		{Name: "distinct_state", Data: &c.distinct}, {Name: "items", Data: c.items}, {Name: "counts", Data: c.counts},
		{Name: "errors", Data: c.errors},
		{Name: "floor", Data: &c.floor}, {Name: "total", Data: &c.total},
	}
}

// row is valid until the next one.
func (c *windowRowColumns) row(i int) *verify.WindowRow {
	c.out = verify.WindowRow{
		WindowKey: verify.WindowKey{
			Key: verify.Key{
				Tenant: c.tenant.Row(i), Metric: c.metric.Row(i), Service: c.service.Row(i),
				ID: series.ID{Hi: c.id[i].High, Lo: c.id[i].Low}, Start: c.start[i],
			},
			End: c.end[i], Rule: c.rule[i], Part: c.part.Row(i),
		},
		Late: c.late[i], Count: c.count[i], Sum: c.sum[i], Min: c.low[i], Max: c.high[i], Sketch: c.sketch.RowBytes(i),
		Measures: windowed.Measures(c.measures[i]), FirstTime: c.firstTime[i], First: c.first[i],
		LastTime: c.lastTime[i], Last: c.last[i],
		Distinct: c.distinct.RowBytes(i), Items: c.items.Row(i), Counts: c.counts.Row(i), Errors: c.errors.Row(i),
		Floor: c.floor[i], Total: c.total[i],
	}
	return &c.out
}
