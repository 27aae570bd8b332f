package compare

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"testing"
)

var update = flag.Bool("update", false, "write bench/results/summary.json and the section of docs/performance.md anew")

// machine is where the committed runs were made.
const machine = `2 shared cores of an AMD EPYC with 24 GB, Linux, Go 1.26, Apache Kafka 4.3.1 and ClickHouse 26.7 beside, alone on the machine,
on a day when it was about half as fast as on others: only reading, which took 3.2 million events a CPU-second then, took
1.7 million. Ratios hold; what is counted in events, seconds or nanoseconds is to be read beside that.

- **Dense logs**: 5 million events. Two rounds of JSON for Vigie and the peers in Go, one more of Vigie beside two workers and
  ClickHouse, one beside those in Java, two beside two workers, one beside only reading; two of protobuf and OTLP, one of 10 k
  series. At their rate they hold 150 events a series and window, but 5 million over 100,000 series are 50, of which epochs made 25
  a row. One round of JSON had three epochs where the others had two, as it did not read the log within the five seconds that the
  second may last: 1.65 times the rows, and 631 k events a CPU-second.
- **Plain logs**: one round of 3 million events over 60 s of event time. **Hostile logs**: one of a million events, of which a tame one
  took 382 k a CPU-second, as start and first events weigh more in it.
- **A million series**: one round of 10 million events, ten a series, and of 10 k series beside it.
- **From event to queryable**: one run. Before rows of the wider tiers were merged
  ([ADR 46](adr/0046-coarse-tiers.md)) the 99th percentiles were 0.9, 1.4 and 1.3 s.
- **All these logs are backlogs**, whose rows go past the mergers ([ADR 48](adr/0048-backlogs-fill-all-tiers.md)). When they did not, Vigie
  took 2.3 times only reading of the dense log of 100 k series, and 3.4 of the plain one`

// The summary and the page say what the runs say.
func TestPage(t *testing.T) {
	const summaryPath, pagePath = "../results/summary.json", "../../docs/performance.md"
	runs, err := ReadRuns("../results/runs.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	entries := Summarize(runs)
	summary, err := json.MarshalIndent(entries, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	summary = append(summary, '\n')
	page, err := os.ReadFile(pagePath)
	if err != nil {
		t.Fatal(err)
	}
	want, err := Page(page, entries, machine)
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(summaryPath, summary, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(pagePath, want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	stored, err := os.ReadFile(summaryPath)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(stored, summary) {
		t.Errorf("%s is not what the runs say: make bench-page", summaryPath)
	}
	if !bytes.Equal(page, want) {
		t.Errorf("%s is not what the runs say: make bench-page", pagePath)
	}
}

// Ratios are of runs of one round; those of other rounds and cases do not mix in.
func TestSummarize(t *testing.T) {
	run := func(round int64, peer, of string, cpu float64) Run {
		return Run{Round: round, Peer: peer, Case: of, Events: 1000, CPU: cpu, Wall: 1}
	}
	entries := Summarize([]Run{
		run(1, Vigie, "json/10", 1), run(1, "fastjson", "json/10", 3), run(1, "null", "json/10", 0.5),
		run(2, Vigie, "json/10", 2), run(2, "fastjson", "json/10", 4), run(2, Vigie, "json/20/dense", 100),
		run(3, "fastjson", "json/10", 1000),
	})
	at := place{"json", 10}
	if e := find(entries, "times", "fastjson", at); e == nil || e.Min != 2 || e.Median != 2.5 || e.Max != 3 {
		t.Errorf("times of fastjson: got %+v, want 2, 2.5 and 3", e)
	}
	if e := find(entries, "over-null", Vigie, at); e == nil || e.Median != 2 {
		t.Errorf("over null: got %+v, want 2", e)
	}
	if e := find(entries, "rate", Vigie, at); e == nil || e.Min != 500 || e.Max != 1000 {
		t.Errorf("rate: got %+v, want 500 to 1000", e)
	}
	if e := find(entries, "rate", Vigie, place{"json dense", 20}); e == nil || e.Median != 10 {
		t.Errorf("rate of the dense log: got %+v, want 10", e)
	}
}

// What only Vigie is measured for; its variants are no peers.
func TestSummarizeVigie(t *testing.T) {
	entries := Summarize([]Run{
		{Round: 1, Peer: Vigie, Case: "json/10", Events: 1000, Results: 10, CPU: 1, Wall: 1}, // of before heap and storage were measured
		{Round: 2, Peer: Vigie, Case: "json/10", Events: 1000, Results: 10, CPU: 1, Wall: 1, Heap: 2000, Stored: 1500},
		{Round: 2, Peer: VigieTwo, Case: "json/10", Events: 1000, CPU: 1.25, Wall: 1},
		{Round: 2, Peer: VigieKilled, Case: "json/10", Events: 1000, CPU: 1, Wall: 1, Recovery: 3},
		{Round: 4, Peer: Vigie, Case: full, Events: 1000, Results: 20, CPU: 1, Wall: 1, ClickHouse: 3, Merges: 1, Stored: 1500, StoredRows: 10},
		{Round: 4, Peer: Vigie, Case: "json/1000000/dense", Events: 1000, CPU: 1.25, Wall: 1},
		{Round: 5, Peer: Vigie, Case: "json/1000000/dense", Events: 1000, CPU: 5, Wall: 1}, // alone
		{Round: 3, Peer: Vigie, Case: "json/10/load-60", Events: 1000, CPU: 1, Wall: 1, P50: 0.5, P99: 0.9},
	})
	f := func(measure, peer, format string, series int, want float64) {
		t.Helper()
		if e := find(entries, measure, peer, place{format, series}); e == nil || e.Min != want || e.Max != want {
			t.Errorf("%s of %s: got %+v, want %v", measure, peer, e, want)
		}
	}
	f("per-row", Vigie, "json", 10, 100)
	f("heap", Vigie, "json", 10, 200)
	f("stored", Vigie, "json", 10, 1.5)
	f("two-workers", VigieTwo, "json", 10, 1.6)
	f("recovery", VigieKilled, "json", 10, 3)
	f("fresh-p50", Vigie, "json load-60", 10, 0.5)
	f("fresh-p99", Vigie, "json load-60", 10, 0.9)
	f("per-stored-row", Vigie, "json dense", 10_000, 100)
	f("clickhouse", Vigie, "json dense", 10_000, 3e6)
	f("merges", Vigie, "json dense", 10_000, 1e6)
	f("growth", Vigie, "json dense", 1_000_000, 1.25)
	if e := find(entries, "rate", VigieKilled, place{"json", 10}); e != nil {
		t.Errorf("rate of a killed process: got %+v, want none", e)
	}
	page, err := Page([]byte(pageBegin+pageEnd), entries, "paper")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"CPU nanoseconds of ClickHouse per event, at 100 a row stored and 50 a row inserted | 100 | 30 | 3,000 k | missed |",
		"| JSON, 0 k series, two workers | 1.6 | 1.6 | 1.6 |",
	} {
		if !bytes.Contains(page, []byte(want)) {
			t.Errorf("got page\n%s\nwithout %q", page, want)
		}
	}
}
