// Package sink carries result records from Kafka into ClickHouse: one record holds one block, one block is one
// INSERT, and the record's identity is its deduplication token.
//
// Sink reads partitions in parallel and each of them strictly in order, so that what a record says about the
// records before it (progress) is visible only after them. An offset is committed only once its record has been
// inserted or parked. A record may be inserted twice (a crash or a rebalance between INSERT and commit): it then
// carries the same bytes under the same token, and ClickHouse drops it.
//
// The package does not build, cut or join blocks, and knows neither Kafka nor ClickHouse: Source, Inserter and
// Parker are met by adapters.
package sink
