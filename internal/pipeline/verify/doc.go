// Package verify counts the raw records of a source topic again, in the plainest way there is, and compares the count
// with what is stored: for every tenant, series and complete pane (Run), and for closed windows (RunWindows).
//
// It decodes as a task does (pipeline.Reader), because what is accepted is the contract's word, and shares the language
// of conditions (pkg/rules) and nothing else with the pipeline: maps and loops instead of accumulators and sketches.
//
// Beside the recount it audits: whether tables hold all blocks of the results topic, once (Audit, AuditKept) or beside
// a running sink (Auditor). Repair puts back what an audit finds missing; nothing else here changes anything. The
// package knows neither Kafka nor ClickHouse: Source, Results, Store and Repairer are met by adapters.
package verify
