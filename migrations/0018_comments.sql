-- What DESCRIBE says of the columns of tenants. A later file that replaces a view has to say it again.
{{range tiers}}
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
    COMMENT COLUMN last 'Last value in the pane of a gauge or cumulative counter; NULL for others',
    COMMENT COLUMN last_time 'Event time of last, UTC',
    COMMENT COLUMN sketch 'Distribution, for p50(sketch), p90, p95, p99 and quantile_of(q, sketch), which are aggregates';

ALTER TABLE api.services_{{.Name}}{{on_cluster}}
    MODIFY COMMENT 'A metric, service and pane of {{.Name}}, all series together',
    COMMENT COLUMN tenant 'Whose row it is: always the reader''s',
    COMMENT COLUMN metric 'Name of the metric',
    COMMENT COLUMN service 'The label service; empty when the events named none',
    COMMENT COLUMN ts 'Start of the pane, UTC',
    COMMENT COLUMN count 'Measurements in the pane',
    COMMENT COLUMN sum 'Sum of measurements and deltas',
    COMMENT COLUMN min 'Least measurement',
    COMMENT COLUMN max 'Greatest measurement',
    COMMENT COLUMN sketch 'Distribution, for p50(sketch), p90, p95, p99 and quantile_of(q, sketch), which are aggregates';
{{end}}
ALTER TABLE api.series{{on_cluster}}
    MODIFY COMMENT 'A series, as it was last announced',
    COMMENT COLUMN tenant 'Whose row it is: always the reader''s',
    COMMENT COLUMN metric 'Name of the metric',
    COMMENT COLUMN service 'The label service; empty when the events named none',
    COMMENT COLUMN series_id 'The series: a hash of metric and labels',
    COMMENT COLUMN kind 'observation, delta, gauge or cumulative',
    COMMENT COLUMN native 'Whether its values are native histograms',
    COMMENT COLUMN unit 'Unit of its values, as the sender says it',
    COMMENT COLUMN help 'What it is, as the sender says it',
    COMMENT COLUMN labels 'All labels',
    COMMENT COLUMN last_seen 'Start of the newest pane with it, UTC; a series without events goes 400 days after';

ALTER TABLE api.windows{{on_cluster}}
    MODIFY COMMENT 'A series and closed window of a windowed rollup, corrections included',
    COMMENT COLUMN tenant 'Whose row it is: always the reader''s',
    COMMENT COLUMN metric 'Name of the rollup',
    COMMENT COLUMN service 'The label service; empty when it is none of the rollup''s',
    COMMENT COLUMN series_id 'The series: a hash of metric and labels',
    COMMENT COLUMN labels 'The labels that the rollup groups by',
    COMMENT COLUMN start 'Start of the window, UTC',
    COMMENT COLUMN end 'End of the window, UTC, exclusive',
    COMMENT COLUMN version 'Greatest version of its parts: over 1 when late events corrected it',
    COMMENT COLUMN count 'Events in the window',
    COMMENT COLUMN sum 'Sum of their values',
    COMMENT COLUMN min 'Least value',
    COMMENT COLUMN max 'Greatest value',
    COMMENT COLUMN sketch 'Distribution, for p50(sketch), p90, p95, p99 and quantile_of(q, sketch), which are aggregates';

ALTER TABLE api.late_windows{{on_cluster}}
    MODIFY COMMENT 'What came after its window had closed and is not in it, of rollups with late: divert. Rows of one window add up',
    COMMENT COLUMN tenant 'Whose row it is: always the reader''s',
    COMMENT COLUMN metric 'Name of the rollup',
    COMMENT COLUMN service 'The label service; empty when it is none of the rollup''s',
    COMMENT COLUMN series_id 'The series: a hash of metric and labels',
    COMMENT COLUMN labels 'The labels that the rollup groups by',
    COMMENT COLUMN start 'Start of the window, UTC',
    COMMENT COLUMN end 'End of the window, UTC, exclusive',
    COMMENT COLUMN reason 'late: within allowed_lateness; too_late: after it',
    COMMENT COLUMN count 'Events that came late',
    COMMENT COLUMN sum 'Sum of their values',
    COMMENT COLUMN min 'Least value',
    COMMENT COLUMN max 'Greatest value',
    COMMENT COLUMN sketch 'Distribution, for p50(sketch), p90, p95, p99 and quantile_of(q, sketch), which are aggregates';

ALTER TABLE api.limits{{on_cluster}}
    MODIFY COMMENT 'A minute, signal and reason for which events are lost at a limit',
    COMMENT COLUMN tenant 'Whose row it is: always the reader''s',
    COMMENT COLUMN ts 'Start of the minute in which the records were processed, UTC',
    COMMENT COLUMN signal 'metrics, spans or logs',
    COMMENT COLUMN reason 'Why events are lost',
    COMMENT COLUMN limit_name 'Key of the limit in the configuration; empty when there is none',
    COMMENT COLUMN in_force 'The limit at that time; NULL when the reason is no number',
    COMMENT COLUMN used 'How much of it was used',
    COMMENT COLUMN dropped 'Events lost in the minute';
