// Package pipeline is the heart of a stream worker: it decodes records, admits events, accumulates them into
// panes and, at the end of an epoch, drains what changed as delta rows.
//
// Task is one topic-partition: a single goroutine steps it, it has no clock, no socket and no lock, and the
// same input gives the same output bit for bit. Worker drives the tasks of one transactional session through
// epochs. What configuration declares is in packages below: rollup says which events count, windowed has their
// windows, alerting judges alerts, counters has the cumulative series; the last three are state.Operators that a task
// restores, feeds and settles. The package knows neither Kafka nor ClickHouse: Session, Encoder and Publisher
// are met by adapters.
package pipeline
