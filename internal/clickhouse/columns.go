package clickhouse

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/vigie-io/vigie/internal/query/promql"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/series"
)

// panesPerBlock is about how many panes one block of Columns' answer holds.
const panesPerBlock = 1 << 18

// Columns calls yield once for every asked series that has panes. The server neither sorts nor merges: it appends the
// rows of each series to arrays, which costs little more than to read them; rows of one pane that are not merged yet
// are merged here. q asks for one of Count, Sum and Last.
func (s *Store) Columns(ctx context.Context, tenant tenants.ID, q promql.PaneQuery,
	yield func(id series.ID, c *promql.PaneColumn) error) error {
	query, err := columnsQuery(tenant, &q)
	if err != nil || len(q.IDs) == 0 || q.From >= q.To {
		return err
	}
	promql.TraceOf(ctx).Statement(query, len(q.IDs))
	request, err := s.client.readCall(query, externalIDs(q.IDs))
	if err != nil {
		return err
	}
	// Of the answer, not of what is read for it: that says so itself.
	panes := int64(1)
	for _, part := range partsOf(&q) {
		panes += (part.To - part.From) / time.Duration(part.Tier).Milliseconds()
	}
	request.params.Set("max_block_size", strconv.FormatInt(min(max(panesPerBlock/panes, 8), readBlockRows), 10))
	c := newColumnReader(&q)
	err = s.answer(ctx, request, c.results, func(rows int) error { return c.yield(rows, yield) })
	if err != nil {
		return fmt.Errorf("read columns of %d series of %s of tenant %s: %w",
			len(q.IDs), naming(q.Metrics), tenant, s.nameLimit(err))
	}
	return nil
}

func columnsQuery(tenant tenants.ID, q *promql.PaneQuery) (string, error) {
	read, column := "r.sum", ""
	switch {
	case q.Count == q.Sum && q.Sum == q.Last, q.Count && q.Sum, q.Sum && q.Last, q.Count && q.Last:
		return "", fmt.Errorf("read columns of %s: want one of Count, Sum and Last", naming(q.Metrics))
	case q.Last:
		read, column = "r.last", "groupArray(r.last.2) AS value, groupArray(r.last.1) AS time"
	case q.Count:
		read, column = "r.count", "groupArray(toFloat64(r.count)) AS value"
	default:
		column = "groupArray(toFloat64(r.sum)) AS value"
	}
	from, where, err := paneRows(tenant, q, "r.series_id IN (SELECT series_id FROM ids)", "r.series_id", read)
	if err != nil {
		return "", err
	}
	return "SELECT r.series_id AS series_id, groupArray(toUnixTimestamp(r.ts)) AS start, " + column +
		"\nFROM (SELECT r.series_id, r.ts, " + read + " FROM " + from + " WHERE " + where + smallRows + ") AS r\nGROUP BY r.series_id", nil
}

// columnReader takes the answer of Columns, block by block, and merges the rows of each pane.
type columnReader struct {
	results proto.Results
	query   *promql.PaneQuery
	id      proto.ColUInt128
	start   *proto.ColArr[uint32]
	value   *proto.ColArr[float64]
	time    *proto.ColArr[int64]

	starts proto.ColUInt32
	values proto.ColFloat64
	times  proto.ColInt64
	order  []uint64 // of rows: start and position
	column promql.PaneColumn
}

func newColumnReader(q *promql.PaneQuery) *columnReader {
	c := &columnReader{query: q}
	c.start, c.time = proto.NewArray[uint32](&c.starts), proto.NewArray[int64](&c.times)
	c.value = proto.NewArray[float64](&c.values)
	c.results = proto.Results{{Name: "series_id", Data: &c.id}, {Name: "start", Data: c.start}, {Name: "value", Data: c.value}}
	if q.Last {
		c.results = append(c.results, proto.ResultColumn{Name: "time", Data: c.time})
	}
	return c
}

func (c *columnReader) yield(rows int, yield func(series.ID, *promql.PaneColumn) error) error {
	from := 0
	for i := range rows {
		to := int(c.start.Offsets[i])
		starts, values := c.starts[from:to], c.values[from:to]
		var times []int64
		if c.query.Last {
			times = c.times[from:to]
		}
		c.merge(starts, values, times)
		if err := yield(series.ID{Hi: c.id[i].High, Lo: c.id[i].Low}, &c.column); err != nil {
			return err
		}
		from = to
	}
	return nil
}

// merge fills column with the rows of a series. Times are of levels, of which the latest counts, and the greatest of
// those; else values add up.
func (c *columnReader) merge(starts []uint32, values []float64, times []int64) {
	out := &c.column
	out.Starts, out.Values, out.Times = out.Starts[:0], out.Values[:0], out.Times[:0]
	if ascending(starts) { // as rows of one part are
		for _, start := range starts {
			out.Starts = append(out.Starts, int64(start)*1000)
		}
		out.Values, out.Times = append(out.Values, values...), append(out.Times, times...)
		return
	}
	c.order = c.order[:0]
	for i, start := range starts {
		c.order = append(c.order, uint64(start)<<32|uint64(i))
	}
	slices.Sort(c.order)
	for _, one := range c.order {
		i, start, last := uint32(one), int64(one>>32)*1000, len(out.Starts)-1
		switch {
		case last < 0 || out.Starts[last] != start:
			out.Starts, out.Values = append(out.Starts, start), append(out.Values, values[i])
			if times != nil {
				out.Times = append(out.Times, times[i])
			}
		case times == nil:
			out.Values[last] += values[i]
		case cmp.Or(cmp.Compare(times[i], out.Times[last]), cmp.Compare(values[i], out.Values[last])) > 0:
			out.Values[last], out.Times[last] = values[i], times[i]
		}
	}
}

// ascending tells whether no start is there twice, and the earlier come first.
func ascending(starts []uint32) bool {
	for i := 1; i < len(starts); i++ {
		if starts[i] <= starts[i-1] {
			return false
		}
	}
	return true
}
