package clickhouse

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"mime/multipart"
	"slices"
	"strconv"
	"strings"

	"github.com/vigie-io/vigie/internal/query/promql"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/migrations"
	"github.com/vigie-io/vigie/pkg/series"
)

const (
	// readBlockRows bounds a block of an answer, and so what is held here of it: 4096 sketches are about 4 MB.
	readBlockRows = 4096
	// smallRows ends a statement whose rows are small. The server reads in blocks of that many rows, too, which take
	// twice as long in small ones.
	smallRows = "\nSETTINGS max_block_size = 65536"
	// idsPerRead bounds the series of one statement, and so what the server sorts. Series lie in the order of their
	// ids below a service, so that a run of ids is a run of rows.
	idsPerRead = 4096
)

// Panes calls yield for every pane of the asked series, series by ID and panes by Start ascending. The pane is valid
// during the call only. It reads in several statements when there are many series: rows that are inserted between two
// of them are seen for some series only, which the clamp to the watermark hides. An error of yield ends the read.
func (s *Store) Panes(ctx context.Context, tenant tenants.ID, q promql.PaneQuery,
	yield func(id series.ID, p *promql.Pane) error) error {
	query, err := panesQuery(tenant, &q)
	if err != nil || len(q.IDs) == 0 && len(q.Services) == 0 || q.From >= q.To {
		return err
	}
	if q.Services != nil {
		columns, joined := newPaneColumns(&q), &paneJoiner{yield: yield}
		err := s.read(ctx, query, nil, columns.results, func(rows int) error { return columns.yield(rows, joined.add) })
		if err == nil {
			err = joined.end()
		}
		if err != nil {
			return fmt.Errorf("read panes of %d services of %s of tenant %s: %w", len(q.Services), naming(q.Metrics), tenant, err)
		}
		return nil
	}
	if q.Groups != nil {
		return s.folded(ctx, tenant, query, &q, yield)
	}
	ids := slices.Clone(q.IDs)
	slices.SortFunc(ids, series.ID.Compare)
	ids = slices.Compact(ids)
	columns := newPaneColumns(&q)
	for some := range slices.Chunk(ids, idsPerRead) {
		err := s.read(ctx, query, some, columns.results, func(rows int) error { return columns.yield(rows, yield) })
		if err != nil {
			return fmt.Errorf("read panes of %s of tenant %s: %w", naming(q.Metrics), tenant, err)
		}
	}
	return nil
}

// folded reads the panes of groups, in one statement: there are few of them.
func (s *Store) folded(ctx context.Context, tenant tenants.ID, query string, q *promql.PaneQuery,
	yield func(id series.ID, p *promql.Pane) error) error {
	if len(q.Groups) != len(q.IDs) {
		return fmt.Errorf("read panes of %s: %d groups for %d series", naming(q.Metrics), len(q.Groups), len(q.IDs))
	}
	table := make([]byte, 0, 20*len(q.IDs))
	for i, id := range q.IDs {
		table = binary.LittleEndian.AppendUint32(appendID(table, id), q.Groups[i])
	}
	promql.TraceOf(ctx).Statement(query, len(q.IDs))
	request, err := s.client.readCall(query, &external{"series_id UInt128, group UInt32", table})
	if err != nil {
		return err
	}
	columns := newPaneColumns(q)
	err = s.answer(ctx, request, columns.results, func(rows int) error { return columns.yield(rows, yield) })
	if err != nil {
		return fmt.Errorf("read panes of %d series of %s of tenant %s: %w", len(q.IDs), naming(q.Metrics), tenant, s.nameLimit(err))
	}
	return nil
}

func panesQuery(tenant tenants.ID, q *promql.PaneQuery) (string, error) {
	if q.Services != nil && !q.Together && q.Sketch {
		return statesQuery(tenant, q)
	}
	of, key, join, which := "r.series_id", "r.series_id", "", "r.series_id IN (SELECT series_id FROM ids)"
	switch {
	case q.Services != nil:
		of, key, which = "r.service", "r.service", amongServices(q)
		if q.Together {
			key = "''::LowCardinality(String)"
		}
	case q.Groups != nil:
		key, join = "g.group", " INNER JOIN ids AS g ON r.series_id = g.series_id"
		which = "indexHint(" + which + ")" // the join looks every row up already
	}
	from, where, err := paneRows(tenant, q, which, append(asked(q), of)...)
	if err != nil {
		return "", err
	}
	s := paneSelection(key, "toUnixTimestamp(r.ts)")
	by, end := "\nGROUP BY key, ts", smallRows
	if q.Sketch || q.Last {
		end = ""
	}
	if q.Services != nil && !q.Together {
		by = ""
		s.read(q.Count, "r.count::UInt64 AS count", "count")
		s.read(q.Sum, "r.sum::Float64 AS sum", "sum")
	} else {
		s.read(q.Count, "sum(r.count) AS count", "count")
		s.read(q.Sum, "sum(r.sum) AS sum", "sum")
		s.read(q.Last, "max(r.last) AS level, level.1 AS last_time, level.2 AS last, level.3 AS last_hist",
			"last_time", "last", "last_hist")
		s.read(q.Sketch, "CAST("+migrations.MergeStates("r.sketch")+", 'String') AS sketch", "sketch")
	}
	return s.outOf(s.rows(from+join, where+by)+" ORDER BY key, r.ts") + end, nil
}

// statesQuery is panesQuery for the states of services apart. Of the rows of a pane there are few: to have states merged
// would cost the server as much again as to read them. As they are, they lie in the projection states, in the order of
// services and panes. Two threads take twice as long. Each finer tier is grouped by itself: what is grouped after it was
// put together is not read from the projections.
func statesQuery(tenant tenants.ID, q *promql.PaneQuery) (string, error) {
	start := "toUnixTimestamp(r.ts)"
	if q.Finer != nil {
		start = "toUInt32(" + windowStart(q.Tier) + ")"
	}
	s := paneSelection("r.service", start)
	s.read(q.Count, "sum(r.count) AS count", "count")
	s.read(q.Sum, "sum(r.sum) AS sum", "sum")
	s.read(true, "arrayStringConcat(groupArray(CAST(r.sketch, 'String'))) AS sketch", "sketch")
	var parts []string
	for _, part := range partsOf(q) {
		from, where, err := paneRows(tenant, &part, amongServices(q))
		if err != nil {
			return "", err
		}
		parts = append(parts, s.rows(from, where+"\nGROUP BY r.service, r.ts"))
	}
	const end = "\nSETTINGS optimize_aggregation_in_order = 1, max_threads = 1"
	if q.Finer == nil { // sorted as they lie
		return s.outOf(parts[0]+" ORDER BY key, r.ts") + end, nil
	}
	return s.outOf(strings.Join(parts, "\nUNION ALL ")) + " ORDER BY key, start" + end, nil
}

func amongServices(q *promql.PaneQuery) string { return "r.service IN (" + literals(q.Services) + ")" }

// selection is what a statement reads of panes: expressions over rows r, and the columns of the answer among their names.
type selection struct{ columns, expressions []string }

func paneSelection(key, start string) *selection {
	return &selection{[]string{"key", "start"}, []string{key + " AS key", start + " AS start"}}
}

func (s *selection) read(asked bool, expression string, columns ...string) {
	if asked {
		s.columns, s.expressions = append(s.columns, columns...), append(s.expressions, expression)
	}
}

// rows is the statement that computes the expressions.
func (s *selection) rows(from, where string) string {
	return "SELECT " + strings.Join(s.expressions, ", ") + "\nFROM " + from + " WHERE " + where
}

// outOf is the statement that gives the columns out of such rows.
func (s *selection) outOf(rows string) string {
	return "SELECT " + strings.Join(s.columns, ", ") + " FROM (" + rows + ")"
}

// asked are the columns of what a query asks for.
func asked(q *promql.PaneQuery) (columns []string) {
	for _, one := range []struct {
		asked bool
		name  string
	}{{q.Count, "r.count"}, {q.Sum, "r.sum"}, {q.Last, "r.last"}, {q.Sketch, "r.sketch"}} {
		if one.asked {
			columns = append(columns, one.name)
		}
	}
	return columns
}

// seconds is the first pane start at or after a time.
func seconds(millis int64) string {
	up := (max(millis, 0) + 999) / 1000
	return "toDateTime(" + strconv.FormatInt(min(up, 1<<32-1), 10) + ", 'UTC')"
}

// external is a table that is sent along with a statement, under the name ids, in RowBinary.
type external struct {
	structure string
	rows      []byte
}

func externalIDs(ids []series.ID) *external {
	rows := make([]byte, 0, 16*len(ids))
	for _, id := range ids {
		rows = appendID(rows, id)
	}
	return &external{"series_id UInt128", rows}
}

func appendID(dst []byte, id series.ID) []byte {
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(dst, id.Lo), id.Hi)
}

// form is the table in the form that ClickHouse's HTTP interface takes.
func (e *external) form() (body []byte, contentType string, err error) {
	return tableForm("ids", e.rows)
}

// tableForm is an external table in the form that ClickHouse's HTTP interface takes.
func tableForm(name string, rows []byte) (body []byte, contentType string, err error) {
	var out bytes.Buffer
	form := multipart.NewWriter(&out)
	part, err := form.CreateFormFile(name, name)
	if err == nil {
		_, err = part.Write(rows)
	}
	if err == nil {
		err = form.Close()
	}
	if err != nil {
		return nil, "", fmt.Errorf("write table %s: %w", name, err)
	}
	return out.Bytes(), form.FormDataContentType(), nil
}
