// Package ruler evaluates the users' Prometheus rule files with upstream's own rules at the tenants' watermarks,
// records what they yield exactly once, and says which alerts to send. It also checks and tests rule files.
//
// Its main type is Ruler, which evaluates; Check and Test are for files. It knows neither Kafka nor where alerts go: a
// Shard commits for it, and a Sender sends. Vigie's own rules in the stream are not here, they are in pkg/rules.
package ruler
