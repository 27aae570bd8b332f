-- Closed windows of declared rollups. A row is what one source partition (part) and one version of a rule have of a series
-- and window; a greater version replaces it, and parts and rules add up.
CREATE TABLE IF NOT EXISTS vigie.ingest_windows{{on_cluster}}
(
    tenant LowCardinality(String),
    metric LowCardinality(String),
    service LowCardinality(String),
    series_id UInt128,
    labels Map(LowCardinality(String), String),
    start DateTime64(0, 'UTC'),
    end DateTime64(0, 'UTC') COMMENT 'exclusive',
    rule UInt64,
    part LowCardinality(String) COMMENT 'topic/partition of the source',
    version UInt32,
    count UInt64,
    sum Float64,
    min Float64,
    max Float64,
    sketch {{sketch}}
)
ENGINE = Null;

CREATE TABLE IF NOT EXISTS vigie.windows{{on_cluster}}
(
    tenant LowCardinality(String),
    metric LowCardinality(String),
    service LowCardinality(String),
    series_id UInt128 CODEC(ZSTD(1)),
    labels Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    start DateTime64(0, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    end DateTime64(0, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    rule UInt64 CODEC(ZSTD(1)),
    part LowCardinality(String),
    version UInt32 CODEC(T64, ZSTD(1)),
    count UInt64 CODEC(T64, ZSTD(1)),
    sum Float64 CODEC(ZSTD(1)),
    min Float64 CODEC(ZSTD(1)),
    max Float64 CODEC(ZSTD(1)),
    sketch {{sketch}} CODEC(ZSTD(1))
)
ENGINE = {{engine "ReplacingMergeTree" "version"}}
PARTITION BY toYYYYMM(start)
ORDER BY (tenant, metric, series_id, start, end, rule, part)
TTL toDateTime(end) + INTERVAL 400 DAY
SETTINGS ttl_only_drop_parts = 1, index_granularity = 1024, {{dedup}};

CREATE MATERIALIZED VIEW IF NOT EXISTS vigie.windows_mv{{on_cluster}} TO vigie.windows
DEFINER = {{owner}} SQL SECURITY DEFINER AS
SELECT tenant, metric, service, series_id, labels, start, end, rule, part, version, count, sum, min, max, sketch
FROM vigie.ingest_windows;

CREATE OR REPLACE VIEW api.windows{{on_cluster}}
DEFINER = {{view_owner}} SQL SECURITY DEFINER AS
SELECT
    tenant, metric, any(w.service) AS service, series_id, any(w.labels) AS labels, start, end, max(w.version) AS version,
    sum(w.count) AS count, sum(w.sum) AS sum, min(w.min) AS min, max(w.max) AS max,
    {{merge "w.sketch"}} AS sketch
FROM vigie.windows AS w FINAL
GROUP BY tenant, metric, series_id, start, end;
