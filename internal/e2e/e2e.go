// Package e2e holds the tests that run Vigie's real programs against a real broker and a real ClickHouse, and look at
// them as users do: over HTTP, Kafka and /metrics. It has no code of its own.
package e2e
