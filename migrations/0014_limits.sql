-- What tenants may use, have used and have lost, a minute at a time. A row is what one source partition (part) says of one
-- reason; parts add up, and the rows of a minute merge.
CREATE TABLE IF NOT EXISTS vigie.ingest_limits{{on_cluster}}
(
    tenant LowCardinality(String),
    signal LowCardinality(String),
    reason LowCardinality(String) COMMENT 'why events are lost at the limit',
    part LowCardinality(String) COMMENT 'topic/partition of the source',
    ts DateTime('UTC') COMMENT 'start of the minute, processing time',
    told Int64 COMMENT 'Unix milliseconds, processing time',
    most UInt64 COMMENT 'the limit in force at told; 0 when the reason is no number',
    used UInt64 COMMENT 'of it, at told',
    dropped UInt64 COMMENT 'events, since the row before'
)
ENGINE = Null;

CREATE TABLE IF NOT EXISTS vigie.limits{{on_cluster}}
(
    tenant LowCardinality(String),
    signal LowCardinality(String),
    reason LowCardinality(String),
    part LowCardinality(String),
    ts DateTime('UTC') CODEC(DoubleDelta, ZSTD(1)),
    most SimpleAggregateFunction(max, Tuple(told Int64, value UInt64)) CODEC(ZSTD(1)),
    used SimpleAggregateFunction(max, UInt64) CODEC(T64, ZSTD(1)),
    dropped SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1))
)
ENGINE = {{engine "AggregatingMergeTree"}}
PARTITION BY toYYYYMM(ts)
ORDER BY (tenant, ts, reason, signal, part)
TTL ts + INTERVAL 90 DAY
SETTINGS ttl_only_drop_parts = 1, index_granularity = 1024, {{dedup}};

CREATE MATERIALIZED VIEW IF NOT EXISTS vigie.limits_mv{{on_cluster}} TO vigie.limits
DEFINER = {{owner}} SQL SECURITY DEFINER AS
SELECT tenant, signal, reason, part, ts, (l.told, l.most) AS most, used, dropped
FROM vigie.ingest_limits AS l;

CREATE OR REPLACE VIEW api.limits{{on_cluster}}
DEFINER = {{view_owner}} SQL SECURITY DEFINER AS
SELECT
    tenant, ts, signal, reason,
    transform(reason,
        ['rate_events', 'rate_bytes', 'series_limit', 'too_many_labels'],
        ['stream_events_per_second', 'stream_bytes_per_second', 'active_series', 'max_labels'], '') AS limit_name,
    nullIf(max(p.most).2, 0) AS in_force,
    -- Rates are of all partitions together, series of each.
    if(reason IN ('rate_events', 'rate_bytes'), sum(p.used), max(p.used)) AS used,
    sum(p.dropped) AS dropped
FROM
(
    SELECT tenant, ts, signal, reason, part, max(l.most) AS most, max(l.used) AS used, sum(l.dropped) AS dropped
    FROM vigie.limits AS l
    GROUP BY tenant, ts, signal, reason, part
) AS p
GROUP BY tenant, ts, signal, reason;
