package clickhouse

import (
	"context"
	"fmt"
	"time"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/vigie-io/vigie/internal/query/querylog"
)

var _ querylog.Store = (*Client)(nil)

const tableQueries = "queries"

// InsertQueries writes rows of api.queries, once a token.
func (c *Client) InsertQueries(ctx context.Context, token string, entries []querylog.Entry) error {
	if len(entries) == 0 {
		return nil
	}
	block, err := encodeQueries(entries)
	if err != nil {
		return err
	}
	return c.insert(ctx, tableQueries, token, len(entries), block, nil)
}

func encodeQueries(entries []querylog.Entry) ([]byte, error) {
	b := begin(nil, len(entries), 17)
	b.lowCardinality("tenant", column(entries, func(e *querylog.Entry) string { return string(e.Tenant) }))
	numberColumn(b, "ts", typeTimeMilli, column(entries, func(e *querylog.Entry) int64 { return millis(e.Time) }))
	b.lowCardinality("kind", column(entries, func(e *querylog.Entry) string { return string(e.Kind) }))
	b.column("query", proto.ColumnTypeString)
	b.strings(column(entries, func(e *querylog.Entry) string { return e.Text }))
	numberColumn(b, "start", typeTimeMilli, column(entries, func(e *querylog.Entry) int64 { return millis(e.Start) }))
	numberColumn(b, "end", typeTimeMilli, column(entries, func(e *querylog.Entry) int64 { return millis(e.End) }))
	numberColumn(b, "step_ms", proto.ColumnTypeInt64,
		column(entries, func(e *querylog.Entry) int64 { return e.Step.Milliseconds() }))
	b.floatColumn("waited_ms", column(entries, func(e *querylog.Entry) float64 { return e.Waited.Seconds() * 1000 }))
	b.floatColumn("duration_ms", column(entries, func(e *querylog.Entry) float64 { return e.Took.Seconds() * 1000 }))
	numberColumn(b, "series", proto.ColumnTypeInt64, column(entries, func(e *querylog.Entry) int64 { return int64(e.Series) }))
	numberColumn(b, "samples", proto.ColumnTypeInt64, column(entries, func(e *querylog.Entry) int64 { return e.Samples }))
	numberColumn(b, "read_rows", proto.ColumnTypeInt64, column(entries, func(e *querylog.Entry) int64 { return e.Read.Rows }))
	numberColumn(b, "read_bytes", proto.ColumnTypeInt64, column(entries, func(e *querylog.Entry) int64 { return e.Read.Bytes }))
	numberColumn(b, "result_bytes", proto.ColumnTypeInt64,
		column(entries, func(e *querylog.Entry) int64 { return e.ResultBytes }))
	b.lowCardinality("status", column(entries, func(e *querylog.Entry) string { return e.Status }))
	b.column("pushdown", proto.ColumnTypeString)
	b.strings(column(entries, func(e *querylog.Entry) string { return e.Pushdown }))
	b.column("plan", proto.ColumnTypeString)
	b.strings(column(entries, func(e *querylog.Entry) string { return e.Plan }))
	block, err := b.end(tableQueries)
	if err != nil {
		return nil, fmt.Errorf("log queries: %w", err)
	}
	return block, nil
}

// column is one value of each entry.
func column[T any](entries []querylog.Entry, of func(*querylog.Entry) T) []T {
	out := make([]T, len(entries))
	for i := range entries {
		out[i] = of(&entries[i])
	}
	return out
}

// millis is Unix milliseconds, 0 for no time and for what DateTime64 cannot hold.
func millis(t time.Time) int64 {
	if y := t.Year(); t.IsZero() || y < 1970 || y > 2262 {
		return 0
	}
	return t.UnixMilli()
}
