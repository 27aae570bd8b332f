// Package backfill loads files of old events into the result tables, with the step code of the stream and exactly once
// by job and file content. Its main type is Job.
//
// A file is cut into chunks that depend on nothing but its bytes. A chunk is stepped and drained by a pipeline.Task of
// its own, so its blocks are the same bytes whenever it is loaded, and each is inserted under a token that names it. A
// ledger says which chunks are begun and which are finished. Windows close when all files are read, and increases of
// cumulative series are told then, in the order of time. It knows no database (Store is an interface), and never takes
// results back.
package backfill
