package clickhouse

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/vigie-io/vigie/internal/pipeline/windowed"
	"github.com/vigie-io/vigie/migrations"
	"github.com/vigie-io/vigie/pkg/windows"
)

// metRows is how many rows are asked for in one query, whose text stays within what a server takes.
const metRows = 1000

// Meets implements backfill.Store.
func (b *Backfill) Meets(ctx context.Context, rows *windowed.Rows, of []int) ([]int, error) {
	return b.meets(ctx, rows, of, "1")
}

// meets is Meets for windows that are stored and meet a condition.
func (b *Backfill) meets(ctx context.Context, rows *windowed.Rows, of []int, where string) (met []int, err error) {
	for some := range slices.Chunk(of, metRows) {
		stored, err := b.overlapping(ctx, rows, some, where)
		if err != nil {
			return nil, fmt.Errorf("look for windows that are stored: %w", err)
		}
		for _, i := range some {
			sessions, row := strings.HasPrefix(rows.Shape[i], "session "), windows.Window{Start: rows.Start[i], End: rows.End[i]}
			if slices.ContainsFunc(stored[windowOwner(rows, i)], func(w windows.Window) bool {
				return w == row || sessions && w.Start < row.End && w.End > row.Start
			}) {
				met = append(met, i)
			}
		}
	}
	return met, nil
}

// windowOwner is what has the windows of a row.
func windowOwner(rows *windowed.Rows, i int) string {
	return fmt.Sprintf("%s\t%s\t%s\t%d", rows.Tenant[i], rows.Metric[i], rows.Series[i], rows.Rule[i])
}

// overlapping are the windows, in Unix seconds, that others have stored of the series of some rows, about the time of
// these.
func (b *Backfill) overlapping(ctx context.Context, rows *windowed.Rows, some []int,
	where string) (map[string][]windows.Window, error) {
	from, to := int64(math.MaxInt64), int64(math.MinInt64)
	sets := map[string]map[string]bool{}
	add := func(column, value string) {
		if sets[column] == nil {
			sets[column] = map[string]bool{}
		}
		sets[column][value] = true
	}
	for _, i := range some {
		from, to = min(from, rows.Start[i]), max(to, rows.End[i])
		add("tenant", literal(rows.Tenant[i]))
		add("metric", literal(rows.Metric[i]))
		add("series_id", "reinterpretAsUInt128(reverse(unhex("+literal(rows.Series[i].String())+")))")
		add("rule", fmt.Sprint(rows.Rule[i]))
		add("part NOT", literal(rows.Part[i]))
	}
	where += fmt.Sprintf(" AND kind IN (0, 2) AND start < %s AND end > %s AND ", seconds(to*1000), seconds(from*1000)) +
		migrations.VisibleWindows("windows", "")
	for _, column := range slices.Sorted(maps.Keys(sets)) {
		where += " AND " + column + " IN (" + strings.Join(slices.Sorted(maps.Keys(sets[column])), ", ") + ")"
	}
	stored := map[string][]windows.Window{}
	query := "SELECT tenant, metric, leftPad(lower(hex(series_id)), 32, '0'), rule," +
		" toUnixTimestamp(start), toUnixTimestamp(end) FROM vigie.windows FINAL WHERE " + where + " FORMAT TabSeparated"
	err := b.client.tabbed(ctx, query, 6, func(fields []string) error {
		var w windows.Window
		_, err := fmt.Sscan(fields[4]+" "+fields[5], &w.Start, &w.End)
		owner := strings.Join(fields[:4], "\t")
		stored[owner] = append(stored[owner], w)
		return err
	})
	return stored, err
}
