-- ClickHouse reads a projection where it has fewer marks than the table. Of a table whose parts are merged the states of migration
-- 0028 had as many, so that queries went on to unpack and pack sketches. Half as many marks are always fewer.
{{range tiers}}
ALTER TABLE vigie.services_{{.Name}}{{on_cluster}}
    DROP PROJECTION IF EXISTS states;

ALTER TABLE vigie.services_{{.Name}}{{on_cluster}}
    ADD PROJECTION IF NOT EXISTS states
    (
        SELECT tenant, metric, service, ts, gen, sum(count), sum(sum), groupArray(CAST(sketch, 'String'))
        GROUP BY tenant, metric, service, ts, gen
    )
    WITH SETTINGS (index_granularity = 2048);

ALTER TABLE vigie.services_{{.Name}}{{on_cluster}}
    MATERIALIZE PROJECTION IF EXISTS states;
{{end}}
