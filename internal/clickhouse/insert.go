package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/vigie-io/vigie/internal/coarse"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/sink"
)

var _ sink.Inserter = (*Client)(nil)

// insertSettings are sent with every insert, as servers differ in their defaults and what is exactly once stands on
// them. One request holds one block: several could be cut in other places when it is sent again, and then be taken
// twice.
var insertSettings = map[string]string{
	"deduplicate_insert": "enable",
	"deduplicate_blocks_in_dependent_materialized_views": "1",
	"async_insert":                     "0",
	"materialized_views_ignore_errors": "0",
	"parallel_view_processing":         "0",
	"input_format_parallel_parsing":    "0",
	"optimize_on_insert":               "1", // see migrations/0003_rollups.sql
	"min_insert_block_size_rows":       "0",
	"min_insert_block_size_bytes":      "0",
	// Lateness is bounded by what ingest admits; a block that spans more days than usual is still one block.
	"max_partitions_per_insert_block": "1000",
}

// Insert stores one native block in one of the ingest tables of database vigie, or finds that it was stored before
// under the same token (and then does not look at the rows). It returns when every table behind has its part. An error
// that wraps sink.ErrRefused means that the block itself is at fault; after any other the same call may be repeated.
func (c *Client) Insert(ctx context.Context, table, token string, rows int, block []byte) error {
	switch table {
	case pipeline.TableRollups, pipeline.TablePanes, pipeline.TableSeries, pipeline.TableProgress, pipeline.TableWindows,
		pipeline.TableLimits, pipeline.TableLetters, coarse.TableMinutes, coarse.TableProgress, coarse.TableMerged:
	default:
		return fmt.Errorf("insert into %q: want one of the ingest tables: %w", table, sink.ErrRefused)
	}
	return c.insert(ctx, table, token, rows, block, nil)
}

// insert is Insert into any table of database vigie, with more settings.
func (c *Client) insert(ctx context.Context, table, token string, rows int, block []byte, more map[string]string) error {
	if token == "" {
		// Without one the server would drop equal deltas as duplicates.
		return fmt.Errorf("insert %d rows into %s: %w", rows, table, errors.New("BUG: no token"))
	}
	if rows == 0 {
		return nil
	}
	params := c.settings("INSERT INTO " + Database + "." + table + " FORMAT Native")
	for name, value := range insertSettings {
		params.Set(name, value)
	}
	for name, value := range more {
		params.Set(name, value)
	}
	params.Set("insert_deduplication_token", token)
	params.Set("max_execution_time", strconv.Itoa(int(c.cfg.InsertTimeout.Seconds())))
	params.Set("max_insert_block_size", strconv.Itoa(max(rows, 1<<20)))
	if c.cfg.Cluster != "" {
		params.Set("insert_quorum", "auto")
	}
	header := http.Header{}
	if c.encoder != nil {
		header.Set("Content-Encoding", "zstd")
		block = c.encoder.EncodeAll(block, nil)
	}
	_, err := c.fetch(ctx,
		&call{as: c.service, method: http.MethodPost, params: params, header: header, body: block, limit: c.cfg.InsertTimeout})
	if err != nil {
		return fmt.Errorf("insert %d rows into %s: %w", rows, table, err)
	}
	return nil
}
