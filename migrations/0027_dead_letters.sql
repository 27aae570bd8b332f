-- Dead letters as their tenants may know them. A row is one letter, or adds up those of a minute that have no row of their own
-- (offset -1). Rows of one key are parts of one: epochs add up.
CREATE TABLE IF NOT EXISTS vigie.ingest_dead_letters{{on_cluster}}
(
    tenant LowCardinality(String),
    signal LowCardinality(String),
    reason LowCardinality(String) COMMENT 'that of the first refused event',
    topic LowCardinality(String) COMMENT 'of the source',
    partition Int32,
    offset Int64 COMMENT 'of the record; -1: the row adds letters up',
    ts DateTime64(3, 'UTC') COMMENT 'processing time; of a row that adds letters up, the start of the minute',
    letters UInt64 COMMENT '1, or how many the row adds up',
    events UInt64 COMMENT 'refused in them',
    bytes UInt64 COMMENT 'of the records'' values',
    detail String COMMENT 'a sentence for each of the first refused events, of the first letter',
    excerpt String COMMENT 'of the first refused event'
)
ENGINE = Null;

CREATE TABLE IF NOT EXISTS vigie.dead_letters{{on_cluster}}
(
    tenant LowCardinality(String),
    signal LowCardinality(String),
    reason LowCardinality(String),
    topic LowCardinality(String),
    partition Int32,
    offset Int64,
    ts DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    letters SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    events SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    bytes SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    detail SimpleAggregateFunction(any, String) CODEC(ZSTD(1)),
    excerpt SimpleAggregateFunction(any, String) CODEC(ZSTD(1))
)
ENGINE = {{engine "AggregatingMergeTree"}}
PARTITION BY toYYYYMMDD(ts)
ORDER BY (tenant, ts, reason, signal, topic, partition, offset)
TTL toDateTime(ts) + INTERVAL 14 DAY
SETTINGS ttl_only_drop_parts = 1, index_granularity = 1024, {{dedup}};

CREATE MATERIALIZED VIEW IF NOT EXISTS vigie.dead_letters_mv{{on_cluster}} TO vigie.dead_letters
DEFINER = {{owner}} SQL SECURITY DEFINER AS
SELECT tenant, signal, reason, topic, partition, offset, ts, letters, events, bytes, detail, excerpt
FROM vigie.ingest_dead_letters;

CREATE OR REPLACE VIEW api.dead_letters{{on_cluster}}
DEFINER = {{view_owner}} SQL SECURITY DEFINER AS
SELECT
    tenant, ts, signal, reason, any(l.detail) AS detail, topic, partition, nullIf(l.offset, -1) AS offset,
    sum(l.letters) AS letters, sum(l.events) AS events, sum(l.bytes) AS bytes, any(l.excerpt) AS excerpt
FROM vigie.dead_letters AS l
GROUP BY tenant, ts, signal, reason, topic, partition, l.offset;

ALTER TABLE api.dead_letters{{on_cluster}}
    MODIFY COMMENT 'A record of which events were refused, or those of a minute that have no row of their own',
    COMMENT COLUMN tenant 'Whose row it is: always the reader''s',
    COMMENT COLUMN ts 'When the record was processed, UTC; where offset is NULL, the start of the minute',
    COMMENT COLUMN signal 'metrics, spans or logs',
    COMMENT COLUMN reason 'Why its first refused event was refused',
    COMMENT COLUMN detail 'What is wrong with the first refused events, for a person',
    COMMENT COLUMN topic 'Topic of the record',
    COMMENT COLUMN partition 'Its partition',
    COMMENT COLUMN offset 'Its offset; NULL when the row adds up several records',
    COMMENT COLUMN letters '1, or how many records the row adds up',
    COMMENT COLUMN events 'How many events of them were refused; the others were taken',
    COMMENT COLUMN bytes 'How large the records are',
    COMMENT COLUMN excerpt 'Beginning of the first refused event; empty of protobuf and where offset is NULL';
