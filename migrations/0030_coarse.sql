-- Rows of the stream go to the tiers apart (docs/adr/0046-coarse-tiers.md): those of each epoch through ingest_panes to the tier of
-- 10 s, and what is merged of many epochs, rows of a minute, through ingest_minutes to the tiers of a minute and an hour. What is
-- inserted into ingest_rollups goes to all tiers, as before: it is what a backfill loads, and what an earlier version has left in Kafka.
--
-- No stream or backfill of an earlier version may run while this is applied: between the statements a row could reach the wider tiers
-- twice.
CREATE TABLE IF NOT EXISTS vigie.ingest_panes{{on_cluster}} AS vigie.ingest_rollups ENGINE = Null;

CREATE TABLE IF NOT EXISTS vigie.ingest_minutes{{on_cluster}} AS vigie.ingest_rollups ENGINE = Null;

DROP VIEW IF EXISTS vigie.rollups_1m_mv{{on_cluster}};

DROP VIEW IF EXISTS vigie.services_1m_mv{{on_cluster}};
{{range ways}}
CREATE MATERIALIZED VIEW IF NOT EXISTS vigie.{{.Name}}_{{.Tier}}_series_mv{{on_cluster}} TO vigie.rollups_{{.Tier}}
DEFINER = {{owner}} SQL SECURITY DEFINER AS
SELECT
    tenant, metric, service, series_id,
    toDateTime(toStartOfInterval(r.ts, INTERVAL {{.Window}}), 'UTC') AS ts,
    r.count AS count, r.sum AS sum, r.min AS min, r.max AS max, r.last AS last,
    r.sketch AS sketch
FROM vigie.{{.Source}} AS r
WHERE r.grain = 0;

CREATE MATERIALIZED VIEW IF NOT EXISTS vigie.{{.Name}}_{{.Tier}}_services_mv{{on_cluster}} TO vigie.services_{{.Tier}}
DEFINER = {{owner}} SQL SECURITY DEFINER AS
SELECT
    tenant, metric, service,
    toDateTime(toStartOfInterval(r.ts, INTERVAL {{.Window}}), 'UTC') AS ts,
    r.count AS count, r.sum AS sum, r.min AS min, r.max AS max,
    r.sketch AS sketch
FROM vigie.{{.Source}} AS r
WHERE r.grain = 1;
{{end}}
-- How far the wider tiers reach, in the form of progress. Up to now, as far as all tiers.
CREATE TABLE IF NOT EXISTS vigie.ingest_coarse_progress{{on_cluster}} AS vigie.ingest_progress ENGINE = Null;

CREATE TABLE IF NOT EXISTS vigie.coarse_progress{{on_cluster}}
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

CREATE MATERIALIZED VIEW IF NOT EXISTS vigie.coarse_progress_mv{{on_cluster}} TO vigie.coarse_progress
DEFINER = {{owner}} SQL SECURITY DEFINER AS
SELECT tenant, topic, partition, max(p.time) AS time, max(p.updated) AS updated
FROM vigie.ingest_coarse_progress AS p
GROUP BY tenant, topic, partition;

INSERT INTO vigie.coarse_progress
SELECT tenant, topic, partition, max(p.time) AS time, max(p.updated) AS updated
FROM vigie.progress AS p
GROUP BY tenant, topic, partition;

-- Up to which offset the records of a results partition are merged and in the wider tiers.
CREATE TABLE IF NOT EXISTS vigie.ingest_merged{{on_cluster}}
(
    topic String COMMENT 'id of the results topic, as in tokens',
    partition Int32,
    next Int64 COMMENT 'offset: every record before'
)
ENGINE = Null;

CREATE TABLE IF NOT EXISTS vigie.merged{{on_cluster}}
(
    topic String,
    partition Int32,
    next SimpleAggregateFunction(max, Int64)
)
ENGINE = {{engine "AggregatingMergeTree"}}
ORDER BY (topic, partition)
SETTINGS {{dedup}};

CREATE MATERIALIZED VIEW IF NOT EXISTS vigie.merged_mv{{on_cluster}} TO vigie.merged
DEFINER = {{owner}} SQL SECURITY DEFINER AS
SELECT topic, partition, max(m.next) AS next
FROM vigie.ingest_merged AS m
GROUP BY topic, partition;
