// Package promql answers PromQL with the upstream Prometheus engine and HTTP API over windowed deltas.
// It is the one door to github.com/prometheus/prometheus. It does not authenticate and does not know SQL:
// callers pass the tenant in the context, Store reads the rows.
//
// Its main type is Service. A query takes this way: the engine wrapper (engine.go) parses it, clamps it to the
// watermark and aligns it (clamp.go, align.go), chooses a tier per selector and marks what has to be smoothed
// (plan.go); upstream evaluates; a Select (querier.go) resolves names (catalog.go), reads panes (load.go, reader.go)
// and serves them as windows with start timestamps (window.go) or plain samples (level.go).
//
// What the numbers mean to a user is in docs/promql.md.
package promql
