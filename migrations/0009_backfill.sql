-- What `vigie backfill` has loaded: a row for each file of a job (chunk -1) and one for each of its chunks. A chunk is begun before its
-- first block is inserted and finished after its last; what was written later counts. Rows stay for ever: they are what
-- keeps a file from being loaded twice.
CREATE TABLE IF NOT EXISTS vigie.backfill{{on_cluster}}
(
    job String,
    file FixedString(64) COMMENT 'SHA-256 of its bytes, hexadecimal',
    chunk Int64 COMMENT '-1: the file itself',
    state UInt8 COMMENT '1 begun, 2 finished',
    name String COMMENT 'of the file when it was loaded',
    plan String COMMENT 'the settings that decide what its blocks are; only on the file',
    started DateTime64(3, 'UTC') COMMENT 'the clock that its events are admitted by, on the file; when it was begun, on a chunk',
    mark UInt64 COMMENT 'greatest block number of the tables when a chunk was begun',
    rows UInt64,
    events UInt64,
    rejected UInt64
)
ENGINE = {{engine "ReplacingMergeTree" "state"}}
ORDER BY (job, file, chunk);
