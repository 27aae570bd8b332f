-- How far results reach: times only grow, in whichever order the rows come, because the greater one wins each merge.
CREATE TABLE IF NOT EXISTS vigie.progress{{on_cluster}}
(
    tenant LowCardinality(String),
    topic LowCardinality(String),
    partition Int32,
    time SimpleAggregateFunction(max, DateTime64(3, 'UTC')),
    updated SimpleAggregateFunction(max, DateTime64(3, 'UTC'))
)
ENGINE = {{engine "AggregatingMergeTree"}}
ORDER BY (tenant, topic, partition)
SETTINGS index_granularity = 1024, {{dedup}};

CREATE MATERIALIZED VIEW IF NOT EXISTS vigie.progress_mv{{on_cluster}} TO vigie.progress
DEFINER = {{owner}} SQL SECURITY DEFINER AS
SELECT tenant, topic, partition, max(p.time) AS time, max(p.updated) AS updated
FROM vigie.ingest_progress AS p
GROUP BY tenant, topic, partition;
