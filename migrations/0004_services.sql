-- The same per metric and service, merged over the series before it is stored: long ranges by service cost a tenth.
{{range tiers}}
CREATE TABLE IF NOT EXISTS vigie.services_{{.Name}}{{on_cluster}}
(
    tenant LowCardinality(String),
    metric LowCardinality(String),
    service LowCardinality(String),
    ts DateTime('UTC') CODEC(DoubleDelta, ZSTD(1)),
    count SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    sum SimpleAggregateFunction(sum, Float64) CODEC(ZSTD(1)),
    min SimpleAggregateFunction(min, Float64) CODEC(ZSTD(1)),
    max SimpleAggregateFunction(max, Float64) CODEC(ZSTD(1)),
    sketch {{sketch}} CODEC(ZSTD(1))
)
ENGINE = {{engine "AggregatingMergeTree"}}
PARTITION BY {{.Partition}}
ORDER BY (tenant, metric, service, ts)
TTL ts + INTERVAL {{.TTL}}
SETTINGS ttl_only_drop_parts = 1, index_granularity = 1024, {{dedup}};

CREATE MATERIALIZED VIEW IF NOT EXISTS vigie.services_{{.Name}}_mv{{on_cluster}} TO vigie.services_{{.Name}}
DEFINER = {{owner}} SQL SECURITY DEFINER AS
SELECT
    tenant, metric, service,
    toDateTime(toStartOfInterval(r.ts, INTERVAL {{.Window}}), 'UTC') AS ts,
    r.count AS count, r.sum AS sum, r.min AS min, r.max AS max,
    r.sketch AS sketch
{{- if .Source}}
FROM vigie.services_{{.Source}} AS r
{{- else}}
FROM vigie.ingest_rollups AS r
WHERE r.grain = 1
{{- end}};
{{end}}
