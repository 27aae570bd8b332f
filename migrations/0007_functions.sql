-- Quantiles of sketches without their parameter: p95(sketch) is an aggregate, as sum(count) is.
-- (For quantile_of, q is a literal: the parameter of an aggregate function is part of its name.)
CREATE OR REPLACE FUNCTION p50{{on_cluster}} AS (s) -> {{quantile "0.5" "s"}};
CREATE OR REPLACE FUNCTION p90{{on_cluster}} AS (s) -> {{quantile "0.9" "s"}};
CREATE OR REPLACE FUNCTION p95{{on_cluster}} AS (s) -> {{quantile "0.95" "s"}};
CREATE OR REPLACE FUNCTION p99{{on_cluster}} AS (s) -> {{quantile "0.99" "s"}};
CREATE OR REPLACE FUNCTION quantile_of{{on_cluster}} AS (q, s) -> {{quantile "q" "s"}};
