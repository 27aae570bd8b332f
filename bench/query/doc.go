// Package query measures what PromQL costs over windows in ClickHouse: each panel as the query service answers it, the
// same series by series, SQL that gives the same numbers, and, where it can hold the data, Prometheus' own TSDB. Its
// TestQueries runs a small form of everything with every test, in which answers are compared and nothing is timed;
// `make bench-query` runs it in full. TestPage writes the section of docs/performance.md.
//
// Costs are processor time of the query service and of ClickHouse together, user and system. What events cost is
// bench/compare's.
package query
