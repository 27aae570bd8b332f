-- What came after its window had closed and is not in it (late: divert).
CREATE OR REPLACE VIEW api.late_windows{{on_cluster}}
DEFINER = {{view_owner}} SQL SECURITY DEFINER AS
SELECT
    tenant, metric, any(w.service) AS service, series_id, any(w.labels) AS labels, start, end,
    if(w.kind = 3, 'late', 'too_late') AS reason,
    sum(w.count) AS count, sum(w.sum) AS sum, min(w.min) AS min, max(w.max) AS max,
    {{merge "w.sketch"}} AS sketch
FROM vigie.windows AS w FINAL
WHERE w.kind IN (3, 4)
GROUP BY tenant, metric, series_id, start, end, reason;
