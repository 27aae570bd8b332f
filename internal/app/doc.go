// Package app puts Vigie together: it gives engines the adapters they ask for, and is the only place that knows both.
// Ingest, Stream and Query are the three services, each against the servers its configuration names; Dev starts
// embedded servers and runs the same three functions against them. It parses no command line.
package app
