// Package simulation runs Vigie's runtime in one process on fake time, under faults, and compares what is stored with a
// plain recount.
//
// Real are the stream worker and its session, the Kafka protocol and a broker that speaks it (kfake), the native
// blocks, the results topic and the sink. Two things are not: the network is one of pipes that can be cut at any
// request (wire), and ClickHouse is a model of what it does with a block and its deduplication token (Server), because
// another process cannot live on fake time; a test holds the model against the real engine.
//
// World is one installation. Scenario is a list of statements, read from a file or made from a seed, that a World
// carries out; docs/simulation.md describes them. What is chosen by a scenario happens at the same fake time in every
// run; which of several runnable goroutines goes first is the Go scheduler's choice, so a seed that failed may have to
// be run several times.
//
// Fleet is many workers in several zones under load: what they cost Kafka and ClickHouse, with a Warehouse that only
// counts.
//
// It does not measure speed and does not replace tests with real processes: nothing here knows of disks or kernels.
package simulation
