-- Events beyond series_bytes are shown as those beyond other limits.
CREATE OR REPLACE VIEW api.limits{{on_cluster}}
DEFINER = {{view_owner}} SQL SECURITY DEFINER AS
SELECT
    tenant, ts, signal, reason,
    transform(reason,
        ['rate_events', 'rate_bytes', 'series_limit', 'series_bytes', 'counter_limit', 'too_many_labels'],
        ['stream_events_per_second', 'stream_bytes_per_second', 'active_series', 'series_bytes', 'active_series', 'max_labels'], '') AS limit_name,
    nullIf(max(p.most).2, 0) AS in_force,
    -- Rates are of all partitions together, series of each.
    if(reason IN ('rate_events', 'rate_bytes'), sum(p.used), max(p.used)) AS used,
    sum(p.dropped) AS dropped
FROM
(
    SELECT tenant, ts, signal, reason, part, max(l.most) AS most, max(l.used) AS used, sum(l.dropped) AS dropped
    FROM vigie.limits AS l
    WHERE reason IN ('rate_events', 'rate_bytes', 'series_limit', 'series_bytes', 'counter_limit', 'window_limit', 'too_many_labels', 'too_long')
    GROUP BY tenant, ts, signal, reason, part
) AS p
GROUP BY tenant, ts, signal, reason;

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
