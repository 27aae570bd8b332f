-- What tenants ask: a row a query, written by query in batches.
CREATE TABLE IF NOT EXISTS vigie.queries{{on_cluster}}
(
    tenant LowCardinality(String),
    ts DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    kind LowCardinality(String),
    query String CODEC(ZSTD(1)),
    start DateTime64(3, 'UTC') CODEC(ZSTD(1)),
    end DateTime64(3, 'UTC') CODEC(ZSTD(1)),
    step_ms Int64 CODEC(ZSTD(1)),
    waited_ms Float64 CODEC(ZSTD(1)),
    duration_ms Float64 CODEC(ZSTD(1)),
    series Int64 CODEC(T64, ZSTD(1)),
    samples Int64 CODEC(T64, ZSTD(1)),
    read_rows Int64 CODEC(T64, ZSTD(1)),
    read_bytes Int64 CODEC(T64, ZSTD(1)),
    result_bytes Int64 CODEC(T64, ZSTD(1)),
    status LowCardinality(String),
    pushdown String CODEC(ZSTD(1)),
    plan String CODEC(ZSTD(1))
)
ENGINE = {{engine "MergeTree"}}
PARTITION BY toYYYYMMDD(ts)
ORDER BY (tenant, ts)
TTL toDateTime(ts) + INTERVAL 30 DAY
SETTINGS ttl_only_drop_parts = 1, index_granularity = 1024, {{dedup}};

CREATE OR REPLACE VIEW api.queries{{on_cluster}}
DEFINER = {{view_owner}} SQL SECURITY DEFINER AS
SELECT
    tenant, ts, kind, query,
    if(toUnixTimestamp64Milli(q.start) = 0, NULL, q.start) AS start,
    if(toUnixTimestamp64Milli(q.end) = 0, NULL, q.end) AS end,
    step_ms, waited_ms, duration_ms, series, samples, read_rows, read_bytes, result_bytes, status, pushdown, plan
FROM vigie.queries AS q;

ALTER TABLE api.queries{{on_cluster}}
    MODIFY COMMENT 'A query that was asked, PromQL or SQL, seconds after it ended',
    COMMENT COLUMN tenant 'Whose row it is: always the reader''s',
    COMMENT COLUMN ts 'When it came, UTC',
    COMMENT COLUMN kind 'instant, range, rule (a rule asked) or sql',
    COMMENT COLUMN query 'Its text, cut at query.log.max_text; API keys in it are left out',
    COMMENT COLUMN start 'First time it was evaluated at, after alignment, UTC; NULL for SQL and what was not',
    COMMENT COLUMN end 'Last time it was evaluated at, UTC',
    COMMENT COLUMN step_ms 'Between two of those times; 0 when there is one',
    COMMENT COLUMN waited_ms 'How long it waited for others of the tenant (query_concurrency)',
    COMMENT COLUMN duration_ms 'From when it came to the end of its evaluation, or of the answer of SQL',
    COMMENT COLUMN series 'Stored series that its selectors matched; 0 for SQL',
    COMMENT COLUMN samples 'Samples that the PromQL engine was given, after pushdown; 0 for SQL',
    COMMENT COLUMN read_rows 'Rows that the database read; of a long answer those it meant to read',
    COMMENT COLUMN read_bytes 'Bytes of those rows, uncompressed',
    COMMENT COLUMN result_bytes 'Bytes of the answer of SQL; 0 for PromQL',
    COMMENT COLUMN status 'ok, or what ended it: a limit''s name, a kind of error, ClickHouse''s name of one',
    COMMENT COLUMN pushdown 'What the database did for the PromQL engine; none, or empty for SQL',
    COMMENT COLUMN plan 'Of PromQL that took promql.slow_query or longer: how selectors were read, JSON';
