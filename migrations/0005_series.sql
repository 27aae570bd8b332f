-- What a series id stands for. Announced again and again; the latest row counts. Kept as long as the widest tier.
CREATE TABLE IF NOT EXISTS vigie.series{{on_cluster}}
(
    tenant LowCardinality(String),
    metric LowCardinality(String),
    service LowCardinality(String),
    series_id UInt128 CODEC(ZSTD(1)),
    kind UInt8,
    native Bool,
    unit LowCardinality(String),
    help String CODEC(ZSTD(1)),
    labels Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    last_seen DateTime('UTC') CODEC(ZSTD(1))
)
ENGINE = {{engine "ReplacingMergeTree" "last_seen"}}
ORDER BY (tenant, metric, series_id)
TTL last_seen + INTERVAL 400 DAY
SETTINGS index_granularity = 1024, {{dedup}};

CREATE MATERIALIZED VIEW IF NOT EXISTS vigie.series_mv{{on_cluster}} TO vigie.series
DEFINER = {{owner}} SQL SECURITY DEFINER AS
SELECT tenant, metric, service, series_id, kind, native, unit, help, labels, last_seen
FROM vigie.ingest_series;
