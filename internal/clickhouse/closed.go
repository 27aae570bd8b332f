package clickhouse

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/vigie-io/vigie/internal/query/promql"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/migrations"
	"github.com/vigie-io/vigie/pkg/series"
)

// Windows calls yield for every closed window of the asked series, series by ID and windows by end and start ascending,
// parts and rules added up as api.windows does. The window is valid during the call only. An error of yield ends the
// read.
func (s *Store) Windows(ctx context.Context, tenant tenants.ID, q promql.WindowQuery,
	yield func(id series.ID, w *promql.Closed) error) error {
	if len(q.IDs) == 0 || q.From > q.To {
		return nil
	}
	ids := slices.Clone(q.IDs)
	slices.SortFunc(ids, series.ID.Compare)
	ids = slices.Compact(ids)
	var (
		id             proto.ColUInt128
		start, end     proto.ColInt64
		count          proto.ColUInt64
		sum, low, high proto.ColFloat64
		sketch         proto.ColStr
		kept           keptColumns
	)
	results := proto.Results{
		{Name: "series_id", Data: &id}, {Name: "from", Data: &start}, {Name: "to", Data: &end}, {Name: "count", Data: &count},
		{Name: "sum", Data: &sum}, {Name: "min", Data: &low}, {Name: "max", Data: &high},
	}
	if q.Sketch {
		results = append(results, proto.ResultColumn{Name: "sketch", Data: &sketch})
	}
	if q.Kept != 0 {
		results = append(results, kept.results()...)
	}
	query := windowsQuery(tenant, &q)
	for some := range slices.Chunk(ids, idsPerRead) {
		err := s.read(ctx, query, some, results, func(rows int) error {
			for i := range rows {
				w := promql.Closed{
					Start: start[i] * 1000, End: end[i] * 1000, Count: count[i], Sum: sum[i], Min: low[i], Max: high[i],
				}
				if q.Sketch {
					w.Sketch = sketch.RowBytes(i)
				}
				if q.Kept != 0 {
					kept.row(i, &w)
				}
				if err := yield(series.ID{Hi: id[i].High, Lo: id[i].Low}, &w); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("read windows of %s of tenant %s: %w", naming(q.Metrics), tenant, err)
		}
	}
	return nil
}

func windowsQuery(tenant tenants.ID, q *promql.WindowQuery) string {
	at := func(millis int64) string {
		return "toDateTime64(" + strconv.FormatInt(min(max(millis, 0)/1000, 1<<32-1), 10) + ", 0, 'UTC')"
	}
	columns, sketch := "series_id, from, to, count, sum, min, max", ""
	if q.Sketch {
		columns, sketch = columns+", sketch", ", CAST("+migrations.MergeStates("w.sketch")+", 'String') AS sketch"
	}
	kept := ""
	if q.Kept != 0 {
		columns, kept = columns+keptOuter, keptInner()
	}
	of := literal(string(tenant))
	where := "tenant = " + of + " AND " + migrations.VisibleWindows("w", of) + " AND " +
		amongMetrics("metric", q.Metrics) + " AND series_id IN ids" +
		" AND end >= " + at(q.From+999) + " AND end <= " + at(q.To)
	if q.Longest > 0 {
		// The start is in the sort key and the partition, the end in neither.
		where += " AND start >= " + at(q.From-q.Longest.Milliseconds())
	}
	return "SELECT " + columns +
		" FROM (SELECT series_id, toInt64(toUnixTimestamp(start)) AS from, toInt64(toUnixTimestamp(end)) AS to," +
		" sum(w.count) AS count, sum(w.sum) AS sum, min(w.min) AS min, max(w.max) AS max" + sketch + kept +
		"\nFROM vigie.windows AS w FINAL WHERE w.kind IN (0, 2) AND " + where +
		"\nGROUP BY series_id, start, end HAVING count > 0 ORDER BY series_id, end, start)"
}

// keptColumns are what rules keep in windows, as windowsQuery reads it.
type keptColumns struct {
	measures    proto.ColUInt8
	first, last proto.ColFloat64
	distinct    proto.ColStr
	items       *proto.ColArr[string]
	counts      *proto.ColArr[float64]
}

const keptOuter = ", measures, first, last, distinct," +
	" arraySlice(arraySort(x -> (-x.2, x.1), arrayZip(tops.1, tops.2)), 1, top_k).1 AS items," +
	" arrayMap(x -> x.2 + top_floor, arraySlice(arraySort(x -> (-x.2, x.1), arrayZip(tops.1, tops.2)), 1, top_k)) AS counts"

func keptInner() string {
	return ",\ngroupBitOr(w.measures) AS measures," +
		" if(countIf(w.first.1 != 0) = 0, nan, minIf(w.first, w.first.1 != 0).2) AS first," +
		" if(max(w.last).1 = 0, nan, max(w.last).2) AS last," +
		" CAST(" + migrations.MergeDistinct("w.distinct_state") + ", 'String') AS distinct," +
		" sumMap(w.top.items, w.top.counts) AS tops, sum(w.top.floor) AS top_floor, max(w.top.k) AS top_k"
}

func (k *keptColumns) results() proto.Results {
	k.items, k.counts = proto.NewArray[string](new(proto.ColStr)), proto.NewArray[float64](new(proto.ColFloat64))
	return proto.Results{
		{Name: "measures", Data: &k.measures}, {Name: "first", Data: &k.first}, {Name: "last", Data: &k.last},
		{Name: "distinct", Data: &k.distinct},
		{Name: "items", Data: k.items}, {Name: "counts", Data: k.counts},
	}
}

func (k *keptColumns) row(i int, w *promql.Closed) {
	w.Kept, w.First, w.Last, w.Distinct = promql.Kept(k.measures[i]), k.first[i], k.last[i], k.distinct.RowBytes(i)
	w.Items, w.Counts = k.items.Row(i), k.counts.Row(i)
}
