// Package sqlgate lets tenants query ClickHouse over ClickHouse's own HTTP interface, so that its clients over HTTP,
// Grafana's ClickHouse data source and BI tools work with a Vigie API key.
//
// Its main type is Gateway, an http.Handler. It authenticates, reads the whole statement, lets through one
// statement that only reads (lexer.go, check.go), passes on the few settings that are a reader's business
// (params.go), bounds what a tenant runs at a time, and streams the answer. It is the second line of defence:
// the first is the database itself, which shows a tenant nothing but its own rows. It does not parse SQL and
// does not speak ClickHouse's native protocol.
package sqlgate
