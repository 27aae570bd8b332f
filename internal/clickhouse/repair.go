package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/vigie-io/vigie/internal/pipeline/verify"
	"github.com/vigie-io/vigie/migrations"
)

// ErrRepairing says that another repair of the table is under way, or was cut off before it changed anything for good.
var ErrRepairing = errors.New("another repair is under way")

// Repair puts the missing part of a block into its table, and into no other: the rows are inserted into a table of the
// same form that nothing reads, and its partition is attached, which no materialized view sees. The attachment is atomic;
// a repair that is cut off leaves the empty or filled side table behind, which has to be dropped before the next, and
// it is the next audit that says whether the part is there. Replicated tables have nothing to repair.
func (c *Client) Repair(ctx context.Context, missing verify.Missing) error {
	if c.cfg.Cluster != "" {
		return fmt.Errorf("repair %s: %w", missing.Table.Name, errors.New("replicated tables write token and part at once: what is missing there was lost otherwise"))
	}
	table, side := Database+"."+missing.Table.Name, Database+".repair_"+missing.Table.Name
	if err := c.exec(ctx, "CREATE TABLE "+side+" AS "+table); err != nil {
		var exception *Error
		if errors.As(err, &exception) && exception.Code == codeTableExists {
			return fmt.Errorf("repair %s: %w: if none is, DROP TABLE %s and audit again", table, ErrRepairing, side)
		}
		return fmt.Errorf("repair %s: %w", table, err)
	}
	err := c.fill(ctx, side, &missing)
	if err == nil {
		err = c.exec(ctx, "ALTER TABLE "+table+" ATTACH PARTITION ID '"+missing.Group+"' FROM "+side)
	}
	if dropped := c.exec(context.WithoutCancel(ctx), "DROP TABLE "+side+" SYNC"); err == nil {
		err = dropped
	}
	if err != nil {
		return fmt.Errorf("repair %s: %w", table, err)
	}
	return nil
}

// fill inserts the block's rows that belong into one partition of the table.
func (c *Client) fill(ctx context.Context, side string, missing *verify.Missing) error {
	params := c.settings(repairStatement(side, missing))
	for name, value := range insertSettings {
		params.Set(name, value)
	}
	params.Set("deduplicate_insert", "disable")
	_, err := c.fetch(ctx, &call{as: c.service, method: http.MethodPost, params: params, header: http.Header{}, body: missing.Bytes})
	return err
}

func repairStatement(side string, missing *verify.Missing) string {
	id, last, grain := "series_id, ", "last, ", "0"
	if missing.Table.Service {
		id, last, grain = "", "", "1"
	}
	day := "toYYYYMMDD"
	if missing.Table.Monthly() {
		day = "toYYYYMM"
	}
	columns := "tenant, metric, service, " + id + "ts, count, sum, min, max, " + last + "sketch"
	selected := strings.Replace(columns, "ts,", fmt.Sprintf("toDateTime(toStartOfInterval(r.ts, INTERVAL %d SECOND), 'UTC') AS ts,", missing.Table.Width), 1)
	return "INSERT INTO " + side + " (" + columns + ") SELECT " + selected + " FROM input('grain UInt8, tenant LowCardinality(String), metric LowCardinality(String)," +
		" service LowCardinality(String), series_id UInt128, ts DateTime(\\'UTC\\'), count UInt64, sum Float64, min Float64, max Float64," +
		" last Tuple(Int64, Float64, String), sketch " + migrations.SketchType() + "') AS r WHERE r.grain = " + grain +
		" AND toString(" + day + "(r.ts)) = '" + missing.Group + "' FORMAT Native"
}
