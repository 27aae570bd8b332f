// Package coarse merges the results of many epochs into rows of a minute, for the tiers of a minute and an hour.
//
// A Merger adds up the rows of one results partition; a Runner reads that partition from its Shard, and commits what is
// merged as records that a sink stores, together with how far the partition has been read: all of it or nothing. So a
// row of an epoch is in one merged row, once, whatever is killed.
//
// What a result record says of progress is published for the wider tiers when everything to be merged that it speaks of is
// in them, whichever partition it came through. Rows that go to all tiers at once are no matter of this package: they are in
// the wider tiers when they are in the finest one, which has progress of its own.
//
// The package makes no windows and judges no times, and knows neither Kafka nor ClickHouse: Shard, Decoder, Encoder and
// Reached are met by adapters.
package coarse
