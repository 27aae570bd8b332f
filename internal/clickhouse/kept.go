package clickhouse

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/pipeline/verify"
	"github.com/vigie-io/vigie/migrations"
)

// kept is a table whose rows replace each other.
type kept struct {
	ingest  string // the table that its blocks are inserted into
	columns string // of a block that the query needs
	// query counts the rows of table block that the table has not, nor a later one in their place. Rows that it may
	// have dropped for their age, or that a backfill has replaced, are skipped.
	query string
}

var keptTables = map[string]kept{
	verify.KeptWindows: {
		ingest: pipeline.TableWindows,
		columns: "tenant LowCardinality(String), metric LowCardinality(String), series_id UInt128," +
			" start DateTime64(0, 'UTC'), end DateTime64(0, 'UTC')," +
			" rule UInt64, part LowCardinality(String), version UInt32, delta UInt64",
		query: `SELECT count() FROM block AS b LEFT ANY JOIN (
	SELECT tenant, metric, series_id, start, end, rule, part, delta, max(w.version) + 1 AS has FROM vigie.windows AS w
	WHERE (tenant, metric, series_id) IN (SELECT tenant, metric, series_id FROM block)
		AND start >= (SELECT min(start) FROM block) AND start <= (SELECT max(start) FROM block)
	GROUP BY tenant, metric, series_id, start, end, rule, part, delta
) AS h USING (tenant, metric, series_id, start, end, rule, part, delta)
WHERE h.has <= b.version AND b.end > now() - INTERVAL 399 DAY AND ` + migrations.WindowGeneration("b", "") + ` = 0`,
	},
	verify.KeptWindowSeries: {
		ingest: pipeline.TableWindows,
		columns: "tenant LowCardinality(String), metric LowCardinality(String), series_id UInt128," +
			" end DateTime64(0, 'UTC'), shape LowCardinality(String)",
		query: `SELECT count() FROM (
	SELECT tenant, metric, series_id, max(end) AS seen FROM block WHERE shape != '' GROUP BY tenant, metric, series_id
) AS b LEFT ANY JOIN (
	SELECT tenant, metric, series_id, max(s.last_seen) AS has FROM vigie.window_series AS s
	WHERE (tenant, metric, series_id) IN (SELECT tenant, metric, series_id FROM block) GROUP BY tenant, metric, series_id
) AS h USING (tenant, metric, series_id)
WHERE h.has < b.seen AND b.seen > now() - INTERVAL 399 DAY`,
	},
	verify.KeptSeries: {
		ingest:  pipeline.TableSeries,
		columns: "tenant LowCardinality(String), metric LowCardinality(String), series_id UInt128, last_seen DateTime('UTC')",
		query: `SELECT count() FROM block AS b LEFT ANY JOIN (
	SELECT tenant, metric, series_id, max(s.last_seen) AS has FROM vigie.series AS s
	WHERE (tenant, metric, series_id) IN (SELECT tenant, metric, series_id FROM block) GROUP BY tenant, metric, series_id
) AS h USING (tenant, metric, series_id)
WHERE h.has < b.last_seen AND b.last_seen > now() - INTERVAL 399 DAY`,
	},
	verify.KeptLabelValues: {
		ingest: pipeline.TableSeries,
		columns: "tenant LowCardinality(String), metric LowCardinality(String)," +
			" labels Map(LowCardinality(String), String), last_seen DateTime('UTC')",
		query: `WITH found AS (
	SELECT tenant, name, value, metric, max(s.last_seen) AS seen FROM block AS s ` + migrations.LabelValues("s") + `
	GROUP BY tenant, name, value, metric
)
SELECT count() FROM found AS b LEFT ANY JOIN (
	SELECT tenant, name, value, metric, max(s.last_seen) AS has FROM vigie.label_values AS s
	WHERE (tenant, name, value, metric) IN (SELECT tenant, name, value, metric FROM found) GROUP BY tenant, name, value, metric
) AS h USING (tenant, name, value, metric)
WHERE h.has < b.seen AND b.seen > now() - INTERVAL 399 DAY`,
	},
}

// Kept audits tables whose rows replace each other.
type Kept struct{ client *Client }

var _ verify.KeptStore = Kept{}

// NewKept reads and writes through client.
func NewKept(client *Client) Kept { return Kept{client} }

// Lacks implements verify.KeptStore. The block goes to the server, which compares.
func (k Kept) Lacks(ctx context.Context, table string, b *verify.Block) (int, error) {
	of, known := keptTables[table]
	if !known {
		return 0, fmt.Errorf("compare with table %q: want one whose rows replace each other", table)
	}
	body, contentType, err := tableForm("block", b.Bytes)
	if err != nil {
		return 0, err
	}
	params := k.client.settings(of.query)
	params.Set("block_format", "Native")
	params.Set("block_structure", of.columns)
	params.Set("input_format_skip_unknown_fields", "1")
	answer, err := k.client.fetch(ctx,
		&call{as: k.client.service, method: http.MethodPost, params: params,
			header: http.Header{"Content-Type": {contentType}}, body: body})
	if err != nil {
		return 0, fmt.Errorf("compare result record %d/%d with %s: %w", b.Partition, b.Offset, table, err)
	}
	return strconv.Atoi(strings.TrimSpace(string(answer)))
}

// Again implements verify.KeptStore. The token is another than the sink's, which the table may know without the rows.
func (k Kept) Again(ctx context.Context, table string, b *verify.Block) error {
	token := b.Token + "/again/" + strconv.FormatInt(time.Now().UnixNano(), 10)
	return k.client.Insert(ctx, keptTables[table].ingest, token, b.Rows, b.Bytes)
}
