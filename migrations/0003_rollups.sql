-- Deltas per series and pane. Parts hold several rows of one key until they are merged: always read with sum(), min(),
-- max() and merged states. The views pass rows on without grouping them: a block holds a key once or a few times, and what is
-- equal is merged as the part is written (optimize_on_insert), one state at a time.
{{range tiers}}
CREATE TABLE IF NOT EXISTS vigie.rollups_{{.Name}}{{on_cluster}}
(
    tenant LowCardinality(String),
    metric LowCardinality(String),
    service LowCardinality(String),
    series_id UInt128 CODEC(ZSTD(1)),
    ts DateTime('UTC') CODEC(DoubleDelta, ZSTD(1)),
    count SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    sum SimpleAggregateFunction(sum, Float64) CODEC(ZSTD(1)),
    min SimpleAggregateFunction(min, Float64) CODEC(ZSTD(1)),
    max SimpleAggregateFunction(max, Float64) CODEC(ZSTD(1)),
    last SimpleAggregateFunction(max, Tuple(Int64, Float64, String)) CODEC(ZSTD(1)),
    sketch {{sketch}} CODEC(ZSTD(1))
)
ENGINE = {{engine "AggregatingMergeTree"}}
PARTITION BY {{.Partition}}
ORDER BY (tenant, metric, service, series_id, ts)
TTL ts + INTERVAL {{.TTL}}
SETTINGS ttl_only_drop_parts = 1, index_granularity = 1024, {{dedup}};

CREATE MATERIALIZED VIEW IF NOT EXISTS vigie.rollups_{{.Name}}_mv{{on_cluster}} TO vigie.rollups_{{.Name}}
DEFINER = {{owner}} SQL SECURITY DEFINER AS
SELECT
    tenant, metric, service, series_id,
    toDateTime(toStartOfInterval(r.ts, INTERVAL {{.Window}}), 'UTC') AS ts,
    r.count AS count, r.sum AS sum, r.min AS min, r.max AS max, r.last AS last,
    r.sketch AS sketch
{{- if .Source}}
FROM vigie.rollups_{{.Source}} AS r
{{- else}}
FROM vigie.ingest_rollups AS r
WHERE r.grain = 0
{{- end}};
{{end}}
