// Package ingest is the HTTP door for events: it checks them, and answers 2xx only after they are in Kafka.
//
// Server is the main type. It takes Vigie's own JSON (/v1/events/{metrics|spans|logs}), OTLP/HTTP
// (/v1/metrics, /v1/traces, /v1/logs) and Prometheus remote write 1.0 and 2.0 (/api/v1/write). Good events
// beside bad ones are taken, the bad ones are answered and counted by reason. Limits are per tenant.
//
// The package does not know Kafka (Publisher is met by an adapter), does not authenticate (Options.Authenticate
// does) and computes nothing from events. It never logs a body or a key.
package ingest
