// Package telemetry is what every Vigie service shows of itself: its logger, its metrics registry, its admin
// endpoints and its own trace spans. It does not decide what is healthy: services say so.
package telemetry
