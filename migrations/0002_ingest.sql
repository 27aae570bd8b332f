-- Result records are inserted into these tables; they keep nothing, the views behind them do.

CREATE TABLE IF NOT EXISTS vigie.ingest_rollups{{on_cluster}}
(
    grain UInt8 COMMENT '0: one series, 1: one metric and service',
    tenant LowCardinality(String),
    metric LowCardinality(String),
    service LowCardinality(String),
    series_id UInt128,
    ts DateTime('UTC') COMMENT 'start of the pane',
    count UInt64,
    sum Float64,
    min Float64,
    max Float64,
    last Tuple(Int64, Float64, String) COMMENT 'time in Unix ns, value, histogram; time 0 when there is no level',
    sketch {{sketch}}
)
ENGINE = Null;

CREATE TABLE IF NOT EXISTS vigie.ingest_series{{on_cluster}}
(
    tenant LowCardinality(String),
    metric LowCardinality(String),
    service LowCardinality(String),
    series_id UInt128,
    kind UInt8 COMMENT '0 observation, 1 delta, 2 gauge, 3 cumulative',
    native Bool COMMENT 'carries native histograms as samples',
    unit LowCardinality(String),
    help String,
    labels Map(LowCardinality(String), String),
    last_seen DateTime('UTC') COMMENT 'event time'
)
ENGINE = Null;

CREATE TABLE IF NOT EXISTS vigie.ingest_progress{{on_cluster}}
(
    tenant LowCardinality(String) COMMENT 'empty: the whole partition',
    topic LowCardinality(String),
    partition Int32,
    time DateTime64(3, 'UTC'),
    updated DateTime64(3, 'UTC')
)
ENGINE = Null;
