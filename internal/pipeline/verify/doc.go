// Package verify counts the raw records of a source topic again, in the plainest way there is, and compares the count
// with what is stored: for every tenant, series and complete pane (Run), and for closed windows (RunWindows).
//
// It decodes as a task does (pipeline.Reader), because what is accepted is the contract's word, and shares the language
// of conditions (pkg/rules) and nothing else with the pipeline: maps and loops instead of accumulators and sketches. It
// changes nothing, and knows neither Kafka nor ClickHouse: Source and Store are met by adapters.
package verify
