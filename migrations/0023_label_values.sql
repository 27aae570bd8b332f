-- Values of labels, each with the metrics whose series have it and when it was last seen on one: a tenant may have a million series
-- where a label has ten values. The values of __name__ are the metrics.
CREATE TABLE IF NOT EXISTS vigie.label_values{{on_cluster}}
(
    tenant LowCardinality(String),
    name LowCardinality(String),
    value String CODEC(ZSTD(1)),
    metric LowCardinality(String),
    last_seen DateTime('UTC') CODEC(ZSTD(1))
)
ENGINE = {{engine "ReplacingMergeTree" "last_seen"}}
ORDER BY (tenant, name, value, metric)
TTL last_seen + INTERVAL 400 DAY
SETTINGS index_granularity = 1024, {{dedup}};

CREATE MATERIALIZED VIEW IF NOT EXISTS vigie.label_values_mv{{on_cluster}} TO vigie.label_values
DEFINER = {{owner}} SQL SECURITY DEFINER AS
SELECT tenant, name, value, metric, max(s.last_seen) AS last_seen
FROM vigie.ingest_series AS s {{label_values}}
GROUP BY tenant, name, value, metric;

-- Of the series that are there already. What the view has written meanwhile replaces itself.
INSERT INTO vigie.label_values
SELECT tenant, name, value, metric, s.last_seen AS last_seen
FROM vigie.series AS s {{label_values}};

CREATE OR REPLACE VIEW api.label_values{{on_cluster}}
DEFINER = {{view_owner}} SQL SECURITY DEFINER AS
SELECT tenant, metric, name, value, max(v.last_seen) AS last_seen
FROM vigie.label_values AS v
GROUP BY tenant, metric, name, value;

ALTER TABLE api.label_values{{on_cluster}}
    MODIFY COMMENT 'A value of a label on series of a metric; of __name__ the metric itself',
    COMMENT COLUMN tenant 'Whose row it is: always the reader''s',
    COMMENT COLUMN metric 'Name of the metric',
    COMMENT COLUMN name 'Name of the label',
    COMMENT COLUMN value 'A value that it has',
    COMMENT COLUMN last_seen 'When a series of the metric last had it: some minutes old where it still does, UTC';
