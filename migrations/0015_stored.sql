-- How far results were stored, as the sinks said every minute: what an audit begins with, and what tells whether the tables
-- still remember the tokens of old blocks. A log, not a state: rows are only added, and expire.
CREATE TABLE IF NOT EXISTS vigie.stored{{on_cluster}}
(
    topic String COMMENT 'id of the results topic, as in tokens',
    partition Int32,
    about LowCardinality(String) COMMENT 'empty: inserted; a table: known to be there, by audit or because no insert was in doubt',
    next Int64 COMMENT 'offset: it holds for every record before',
    marks Map(LowCardinality(String), UInt64) COMMENT 'how many parts each table had ever had then; only on rows about what is inserted',
    at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1))
)
ENGINE = {{engine "MergeTree"}}
ORDER BY (topic, partition, about, at)
TTL toDateTime(at) + INTERVAL 30 DAY;
