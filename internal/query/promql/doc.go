// Package promql answers PromQL with the upstream Prometheus engine and HTTP API over windowed deltas.
// It is the one door to github.com/prometheus/prometheus. It does not authenticate and does not know SQL:
// callers pass the tenant in the context, Store reads the rows.
package promql
