-- Numbers that `vigie backfill -replace` has put in the place of others. Rows of rollups carry the generation that brought
-- them: 0 is the stream and plain backfill. One row here makes another generation the one that is read, in one insert.
CREATE TABLE IF NOT EXISTS vigie.replaced{{on_cluster}}
(
    tenant LowCardinality(String),
    metric LowCardinality(String) COMMENT 'empty: all that are not named in any row of the tenant',
    from UInt32 COMMENT 'hours since 1970',
    to UInt32 COMMENT 'exclusive',
    gen UInt64 COMMENT 'that is read instead; 0 only names the metric',
    at DateTime64(6, 'UTC') COMMENT 'the latest counts',
    job String
)
ENGINE = {{engine "MergeTree"}}
ORDER BY (tenant, metric, from, at)
SETTINGS index_granularity = 1024;
{{range tiers}}
ALTER TABLE vigie.rollups_{{.Name}}{{on_cluster}}
    ADD COLUMN IF NOT EXISTS gen UInt64 CODEC(ZSTD(1)) AFTER ts,
    MODIFY ORDER BY (tenant, metric, service, series_id, ts, gen);

ALTER TABLE vigie.services_{{.Name}}{{on_cluster}}
    ADD COLUMN IF NOT EXISTS gen UInt64 CODEC(ZSTD(1)) AFTER ts,
    MODIFY ORDER BY (tenant, metric, service, ts, gen);

CREATE OR REPLACE VIEW api.metrics_{{.Name}}{{on_cluster}}
DEFINER = {{view_owner}} SQL SECURITY DEFINER AS
SELECT
    tenant, metric, service, series_id, s.labels AS labels, ts, count, sum, min, max,
    if(m.level.1 = 0, NULL, m.level.2) AS last,
    fromUnixTimestamp64Nano(m.level.1, 'UTC') AS last_time,
    sketch
FROM
(
    SELECT
        tenant, metric, service, series_id, ts,
        sum(r.count) AS count, sum(r.sum) AS sum, toFloat64(min(r.min)) AS min, toFloat64(max(r.max)) AS max, max(r.last) AS level,
        {{merge "r.sketch"}} AS sketch
    FROM vigie.rollups_{{.Name}} AS r
    WHERE {{visible "r"}}
    GROUP BY tenant, metric, service, series_id, ts
) AS m
LEFT ANY JOIN
(
    SELECT tenant, metric, series_id, argMax(l.labels, l.last_seen) AS labels
    FROM vigie.series AS l
    GROUP BY tenant, metric, series_id
) AS s USING (tenant, metric, series_id);

CREATE OR REPLACE VIEW api.services_{{.Name}}{{on_cluster}}
DEFINER = {{view_owner}} SQL SECURITY DEFINER AS
SELECT
    tenant, metric, service, ts,
    sum(r.count) AS count, sum(r.sum) AS sum, toFloat64(min(r.min)) AS min, toFloat64(max(r.max)) AS max,
    {{merge "r.sketch"}} AS sketch
FROM vigie.services_{{.Name}} AS r
WHERE {{visible "r"}}
GROUP BY tenant, metric, service, ts;
{{end}}
