-- A series that has ended has a level without a value: −inf, and a byte 0 in the place of a histogram.
{{range tiers}}
CREATE OR REPLACE VIEW api.metrics_{{.Name}}{{on_cluster}}
DEFINER = {{view_owner}} SQL SECURITY DEFINER AS
SELECT
    tenant, metric, service, series_id, s.labels AS labels, ts, count, sum, min, max,
    if(m.level.1 = 0 OR m.level.3 = '\0', NULL, m.level.2) AS last,
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

ALTER TABLE api.metrics_{{.Name}}{{on_cluster}}
    MODIFY COMMENT 'A series and pane of {{.Name}}. Merged: one row a key, whatever parts there are',
    COMMENT COLUMN tenant 'Whose row it is: always the reader''s',
    COMMENT COLUMN metric 'Name of the metric',
    COMMENT COLUMN service 'The label service; empty when the events named none',
    COMMENT COLUMN series_id 'The series: a hash of metric and labels',
    COMMENT COLUMN labels 'All labels; empty until the series is announced, seconds after its first event',
    COMMENT COLUMN ts 'Start of the pane, UTC',
    COMMENT COLUMN count 'Measurements in the pane',
    COMMENT COLUMN sum 'Sum of measurements and deltas',
    COMMENT COLUMN min 'Least measurement',
    COMMENT COLUMN max 'Greatest measurement',
    COMMENT COLUMN last 'Last value in the pane of a gauge or cumulative counter; NULL for others, and when the series ended behind it',
    COMMENT COLUMN last_time 'Event time of last, or of the end of the series, UTC',
    COMMENT COLUMN sketch 'Distribution, for p50(sketch), p90, p95, p99 and quantile_of(q, sketch), which are aggregates';
{{end}}
