// Package compare measures Vigie's stream process and what a user would take instead of it, in turns, over one log in
// an Apache Kafka. Workload makes the log, Summary what is published of the runs. Its TestCompare runs all of it when
// asked (`make bench` does), and TestPage writes the section of docs/performance.md.
//
// Costs are processor time of the process under test, user and system, from its start to the moment at which all its
// results are where it puts them; broker and ClickHouse are told apart. It says nothing of queries, and bench/freshness
// measures how soon results can be asked for.
package compare
