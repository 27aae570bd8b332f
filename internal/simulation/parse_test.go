package simulation_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vigie-io/vigie/internal/simulation"
)

// What a scenario prints, it is.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*.scenario")
	if err != nil || len(files) == 0 {
		f.Fatalf("scenario files: got %v, %v, want some", files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	for seed := range uint64(20) {
		f.Add(simulation.Generate(seed).String())
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := simulation.Parse("x", text)
		if err != nil {
			if parse := (*simulation.ParseError)(nil); !errors.As(err, &parse) || parse.Line < 1 {
				t.Fatalf("got %v, want a ParseError with a line", err)
			}
			return
		}
		again, err := simulation.Parse("x", s.String())
		if err != nil || again.String() != s.String() {
			t.Fatalf("got %v and\n%swant\n%s", err, again, s)
		}
	})
}

func TestParseErrors(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		_, err := simulation.Parse("x.scenario", text)
		if err == nil || err.Error() != want {
			t.Errorf("%q:\n got  %v\n want %s", text, err, want)
		}
	}
	f("\n# fine\nevnt acme", `x.scenario:3: statement "evnt": want one of advance, behind, brokers, crash, earlier, event, expect, fault, garbage, heal, interval, log, memory, partitions, protocol, rate, rebalance, restart, results, rules, series, sinks, tenant, transactions, update, watermark, windows, workers`)
	f("advance 1s\nworkers 2", "x.scenario:2: workers: want it before the first statement")
	f("event acme", "x.scenario:1: event: metric is missing")
	f("event acme latency 0.3", `x.scenario:1: event: value "0.3": want a multiple of 1/1024 up to 1048576, so that sums are exact`)
	f("event acme latency 1 colour=red", `x.scenario:1: event: "colour=red": not understood here`)
	f("advance soon", `x.scenario:1: advance: how long "soon": want a duration from 0s to 24h0m0s`)
	f("crash worker 1 at lunch", `x.scenario:1: crash: moment "lunch": want one of before, after, polled, committing, committed`)
	f("crash sink x", `x.scenario:1: crash: number of the sink "x": want a whole number from 1 to 9`)
	f("fault broker error EndTxn NOT_NOW", `x.scenario:1: fault: error "NOT_NOW": want the name of a Kafka error, as NOT_COORDINATOR`)
	f("fault broker fence sink 1", "x.scenario:1: fault: sink 1 has no transactions: want a worker")
	f("fault sink stall sink 1 3s", "x.scenario:1: fault: sink 1 has no results: want a worker")
	f("fault sink before table=rollups", `x.scenario:1: fault: table "rollups": want one of ingest_rollups, ingest_panes, ingest_series, ingest_progress, ingest_minutes, ingest_coarse_progress, ingest_merged`)
	f("interval 61", `x.scenario:1: interval: how many "61": want a whole number from 1 to 60`)
	f("expect count acme latency many", `x.scenario:1: expect: figure "many": want a number, or + and the least number`)
}

// A schedule is the same for a seed, in every process: maps are not part of what it is drawn from.
func TestGenerateIsItsSeeds(t *testing.T) {
	statements := map[string]bool{}
	for seed := range uint64(200) {
		s := simulation.Generate(seed)
		if again := simulation.Generate(seed); again.String() != s.String() {
			t.Fatalf("seed %d: got two schedules\n%s\n%s", seed, s, again)
		}
		for _, step := range s.Steps {
			words := strings.Fields(step.String())
			statements[strings.Join(words[:min(2, len(words))], " ")] = true
		}
	}
	for _, want := range []string{"fault broker", "update", "fault network", "fault sink", "crash worker", "crash sink", "restart sink",
		"rebalance add", "rebalance remove", "heal"} {
		if !statements[want] {
			t.Errorf("200 schedules: got no %q among them", want)
		}
	}
}

func TestShrink(t *testing.T) {
	s, err := simulation.Parse("x", "workers 3\nbrokers 2\n"+strings.Repeat("event acme m 1\nadvance 1s\n", 20)+"crash worker 2\n"+strings.Repeat("event acme m 1\n", 7)+"heal\n")
	if err != nil {
		t.Fatal(err)
	}
	small := simulation.Shrink(s, 200, func(candidate *simulation.Scenario) bool {
		text := candidate.String()
		return strings.Contains(text, "crash worker 2") && strings.Contains(text, "heal") && candidate.Shape.Workers > 1
	})
	if got, want := small.String(), "brokers 1\npartitions 1\nworkers 2\nsinks 1\nwindows 0\ntransactions 2\nprotocol 1\nrate 0\nseries 0\nresults 1\ninterval 2\nmemory 1024\nearlier 0\nbehind 0\ncrash worker 2\nheal\n"; got != want {
		t.Errorf("shrunk: got\n%swant\n%s", got, want)
	}
}
