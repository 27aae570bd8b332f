// Package clickhouse is the only door to ClickHouse: inserts of result blocks, reads for PromQL, the relay for SQL,
// the schema, and who may do what.
//
// Client speaks HTTP to one server or to the replicas of one shard, one request a block or query, and offers what the
// engines ask for: sink.Inserter, promql.Store, and SQL for the gateway. Encoder writes native blocks. UsersXML and
// AccessSQL describe the users and row policies on which the isolation of tenants stands.
//
// The package keeps no data and no sessions, starts no server (internal/devstack does), and does not judge SQL
// (internal/query/sqlgate does).
package clickhouse
