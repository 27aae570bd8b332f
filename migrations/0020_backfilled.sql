-- The hours that plain backfills have added to: what is stored there of a metric is more than what the source topics say.
CREATE TABLE IF NOT EXISTS vigie.backfilled{{on_cluster}}
(
    tenant LowCardinality(String),
    metric LowCardinality(String),
    from UInt32 COMMENT 'hours since 1970',
    to UInt32 COMMENT 'exclusive',
    job String
)
ENGINE = {{engine "ReplacingMergeTree"}}
ORDER BY (tenant, metric, from, to, job)
TTL toDateTime(to * 3600) + INTERVAL 400 DAY
SETTINGS index_granularity = 1024;
