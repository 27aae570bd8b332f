// Package devstack starts the real parts that Vigie needs on a machine that has none of them: a broker that speaks
// the Kafka protocol ([StartKafka]) and a ClickHouse server ([StartClickHouse]), whose library
// [EnsureClickHouse] fetches once. `vigie dev` and the tests use it; nothing in production does.
//
// It configures what these parts need in order to run (addresses, directories, memory, sandbox) and nothing that is
// Vigie's own: topics, tables, users and rights are the caller's. It never talks to a server that it did not start.
//
// Long-lived parts that are not Go run in child processes, which are this same executable started again:
// [MaybeChild] must therefore be the first call of main (in tests: of TestMain, see testkit.Main). A child watches its
// standard input and ends by itself when the parent ends, however the parent ends.
package devstack
