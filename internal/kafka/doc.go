// Package kafka is the only door to the Kafka protocol. It meets the interfaces of the engines: Session is a
// worker's transactional consumer and producer (pipeline.Session), Producer appends events and puts refused
// results aside (ingest.Publisher, sink.Parker), Results reads the results topic (sink.Source), Admin makes and
// checks topics, DeadLetters lists and replays what could not be processed.
//
// What is promised, and by what:
//   - Session: consumed offsets and produced records become visible together or not at all. Each worker slot has
//     one transactional id and one static group member for ever, and initialises its producer id before it
//     joins: so a successor aborts its predecessor's transaction and takes its partitions at once.
//   - Producer: at least once. Publish returns nil only when all in-sync replicas have every record.
//   - Results: at least once, in order per partition; the sink's tokens make it exactly once.
//
// The package decides nothing about the content of records.
package kafka
