-- Sketches by service as strings, beside the rows: to read them for a query is copying, where the states of rows are unpacked and
-- packed again, ten times as dear. ClickHouse makes them anew with every part. Those of parts that are there already come in the
-- background; until then queries read these as before.
{{range tiers}}
ALTER TABLE vigie.services_{{.Name}}{{on_cluster}}
    MODIFY SETTING deduplicate_merge_projection_mode = 'rebuild';

ALTER TABLE vigie.services_{{.Name}}{{on_cluster}}
    ADD PROJECTION IF NOT EXISTS states
    (
        SELECT tenant, metric, service, ts, gen, sum(count), sum(sum), groupArray(CAST(sketch, 'String'))
        GROUP BY tenant, metric, service, ts, gen
    );

ALTER TABLE vigie.services_{{.Name}}{{on_cluster}}
    MATERIALIZE PROJECTION IF EXISTS states;
{{end}}
