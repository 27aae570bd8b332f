-- What the series of closed windows are, for readers that have to know it before they read windows: one row a series, as
-- vigie.series has one for panes. A rollup may have panes and windows of one name, so they are apart.
ALTER TABLE vigie.ingest_windows{{on_cluster}}
    ADD COLUMN IF NOT EXISTS series_kind UInt8 COMMENT '0 observation, 1 delta',
    ADD COLUMN IF NOT EXISTS shape LowCardinality(String) COMMENT 'tumbling 1h, hopping 5m every 1m, calendar day Europe/Paris, session 30m';

CREATE TABLE IF NOT EXISTS vigie.window_series{{on_cluster}}
(
    tenant LowCardinality(String),
    metric LowCardinality(String),
    series_id UInt128 CODEC(ZSTD(1)),
    kind UInt8,
    shape LowCardinality(String),
    labels Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    last_seen DateTime64(0, 'UTC') COMMENT 'end of its latest window' CODEC(ZSTD(1))
)
ENGINE = {{engine "ReplacingMergeTree" "last_seen"}}
ORDER BY (tenant, metric, series_id)
TTL toDateTime(last_seen) + INTERVAL 400 DAY
SETTINGS index_granularity = 1024, {{dedup}};

CREATE MATERIALIZED VIEW IF NOT EXISTS vigie.window_series_mv{{on_cluster}} TO vigie.window_series
DEFINER = {{owner}} SQL SECURITY DEFINER AS
SELECT tenant, metric, series_id, series_kind AS kind, shape, labels, end AS last_seen
FROM vigie.ingest_windows
WHERE shape != '';
