-- Closed windows that `vigie backfill -replace` has put in the place of others: rows carry the generation that brought them, as those
-- of rollups do, and the row that makes a generation be read says of which windows it is.
ALTER TABLE vigie.replaced{{on_cluster}}
    ADD COLUMN IF NOT EXISTS windows Array(Tuple(metric String, reach UInt32))
        COMMENT 'metrics of closed windows that lie in the hours, or end at most reach seconds after them';

ALTER TABLE vigie.windows{{on_cluster}}
    ADD COLUMN IF NOT EXISTS gen UInt64 COMMENT 'as of rollups; part names it too' CODEC(ZSTD(1));

{{range $view, $where := windows}}
CREATE OR REPLACE VIEW api.{{$view}}{{on_cluster}}
DEFINER = {{view_owner}} SQL SECURITY DEFINER AS
SELECT
    tenant, metric, service, series_id, labels, start, end, {{if eq $view "windows"}}version{{else}}reason{{end}}, count, sum, min, max, sketch,
    multiIf(kind = 0, toFloat64(count), kind = 1, sum, NULL) / dateDiff('second', start, end) AS rate,
    if(first_end.1 = 0, NULL, first_end.2) AS first, if(last_end.1 = 0, NULL, last_end.2) AS last,
    if(bitAnd(measures, 4) = 0, NULL, {{distinct_count "distinct_state"}}) AS distinct_count, distinct_state,
    -- Of values of equal count the lesser goes first.
    arrayMap(x -> CAST(x, 'Tuple(item String, count Float64, error Float64)'), arraySlice(arraySort(x -> (-x.2, x.1),
        arrayMap((item, n, error) -> (item, n + top_floor, error + top_floor), tops.1, tops.2, tops.3)), 1, top_k)) AS top,
    top_floor, top_total
FROM
(
    SELECT
        tenant, metric, any(w.service) AS service, series_id, any(w.labels) AS labels, start, end,
        {{if eq $view "windows"}}max(w.version) AS version{{else}}if(w.kind = 3, 'late', 'too_late') AS reason{{end}},
        sum(w.count) AS count, sum(w.sum) AS sum, min(w.min) AS min, max(w.max) AS max, {{merge "w.sketch"}} AS sketch,
        min(w.series_kind) AS kind, groupBitOr(w.measures) AS measures,
        minIf(w.first, w.first.1 != 0) AS first_end, max(w.last) AS last_end,
        {{merge_distinct "w.distinct_state"}} AS distinct_state,
        sumMap(w.top.items, w.top.counts, w.top.errors) AS tops, sum(w.top.floor) AS top_floor, sum(w.top.total) AS top_total, max(w.top.k) AS top_k
    FROM vigie.windows AS w FINAL
    WHERE w.kind IN ({{$where}}) AND {{visible_windows "w"}}
    GROUP BY tenant, metric, series_id, start, end{{if eq $view "late_windows"}}, reason{{end}}
);

ALTER TABLE api.{{$view}}{{on_cluster}}
    MODIFY COMMENT '{{if eq $view "windows"}}A series and closed window of a windowed rollup, corrections included{{else}}What came after its window had closed and is not in it, of rollups with late: divert. Rows of one window add up{{end}}',
    COMMENT COLUMN tenant 'Whose row it is: always the reader''s',
    COMMENT COLUMN metric 'Name of the rollup',
    COMMENT COLUMN service 'The label service; empty when it is none of the rollup''s',
    COMMENT COLUMN series_id 'The series: a hash of metric and labels',
    COMMENT COLUMN labels 'The labels that the rollup groups by',
    COMMENT COLUMN start 'Start of the window, UTC',
    COMMENT COLUMN end 'End of the window, UTC, exclusive',
{{- if eq $view "windows"}}
    COMMENT COLUMN version 'Greatest version of its parts: over 1 when late events corrected it',
    COMMENT COLUMN count 'Events in the window',
{{- else}}
    COMMENT COLUMN reason 'late: within allowed_lateness; too_late: after it',
    COMMENT COLUMN count 'Events that came late',
{{- end}}
    COMMENT COLUMN sum 'Sum of their values',
    COMMENT COLUMN min 'Least value',
    COMMENT COLUMN max 'Greatest value',
    COMMENT COLUMN sketch 'Distribution, for p50(sketch), p90, p95, p99 and quantile_of(q, sketch), which are aggregates',
    COMMENT COLUMN rate 'Per second of the window: the sum of amounts, the count of observations',
    COMMENT COLUMN first 'Value of the first event; NULL when the rollup does not keep it',
    COMMENT COLUMN last 'Value of the last event; NULL when the rollup does not keep it',
    COMMENT COLUMN distinct_count 'How many different values the field has; NULL when the rollup does not keep it',
    COMMENT COLUMN distinct_state 'The same, to be merged: distinct_of({{merge_distinct "distinct_state"}})',
    COMMENT COLUMN top 'Greatest values of the field: what came is at most count and at least count - error',
    COMMENT COLUMN top_floor 'A value of which nothing is known came at most so often',
    COMMENT COLUMN top_total 'All that was counted for top';
{{end}}
