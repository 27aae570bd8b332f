-- Rows of windows that retract a session which has become part of another, and rows that add up.
ALTER TABLE vigie.ingest_windows{{on_cluster}}
    ADD COLUMN IF NOT EXISTS kind UInt8 COMMENT '0 whole, 1 retracted, 2 delta, 3 late, 4 too late' AFTER version,
    ADD COLUMN IF NOT EXISTS delta UInt64 COMMENT 'number of a row that adds up, 0 for others' AFTER kind;

ALTER TABLE vigie.windows{{on_cluster}}
    ADD COLUMN IF NOT EXISTS kind UInt8 COMMENT '0 whole, 1 retracted, 2 delta, 3 late, 4 too late' CODEC(ZSTD(1)) AFTER version,
    ADD COLUMN IF NOT EXISTS delta UInt64 COMMENT 'number of a row that adds up, 0 for others' CODEC(ZSTD(1)) AFTER kind,
    MODIFY ORDER BY (tenant, metric, series_id, start, end, rule, part, delta);

-- Before the old view goes, so that no insert between falls through: a row that both write replaces itself.
CREATE MATERIALIZED VIEW IF NOT EXISTS vigie.window_rows_mv{{on_cluster}} TO vigie.windows
DEFINER = {{owner}} SQL SECURITY DEFINER AS
SELECT tenant, metric, service, series_id, labels, start, end, rule, part, version, kind, delta, count, sum, min, max, sketch
FROM vigie.ingest_windows;

DROP VIEW IF EXISTS vigie.windows_mv{{on_cluster}};

CREATE OR REPLACE VIEW api.windows{{on_cluster}}
DEFINER = {{view_owner}} SQL SECURITY DEFINER AS
SELECT
    tenant, metric, any(w.service) AS service, series_id, any(w.labels) AS labels, start, end, max(w.version) AS version,
    sum(w.count) AS count, sum(w.sum) AS sum, min(w.min) AS min, max(w.max) AS max,
    {{merge "w.sketch"}} AS sketch
FROM vigie.windows AS w FINAL
WHERE w.kind IN (0, 2)
GROUP BY tenant, metric, series_id, start, end;
