-- What tenants read: one row per series and pane, merged, with its labels. The views act as {{view_owner}}, whose row
-- policies let through one tenant only, before any condition of the reader is looked at.
{{range tiers}}
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
GROUP BY tenant, metric, service, ts;
{{end}}
CREATE OR REPLACE VIEW api.series{{on_cluster}}
DEFINER = {{view_owner}} SQL SECURITY DEFINER AS
SELECT
    tenant, metric,
    argMax(l.service, l.last_seen) AS service,
    series_id,
    transform(argMax(l.kind, l.last_seen), [0, 1, 2, 3], ['observation', 'delta', 'gauge', 'cumulative'], 'unknown') AS kind,
    argMax(l.native, l.last_seen) AS native,
    argMax(l.unit, l.last_seen) AS unit,
    argMax(l.help, l.last_seen) AS help,
    argMax(l.labels, l.last_seen) AS labels,
    max(l.last_seen) AS last_seen
FROM vigie.series AS l
GROUP BY tenant, metric, series_id;
