package compare

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Run is one measured run of one peer over one log: a line of results/runs.jsonl.
type Run struct {
	Round      int64   `json:"round"` // runs with one number took turns over one log
	Peer       string  `json:"peer"`
	Case       string  `json:"case"` // "json/100000", "json/100000/dense"
	Events     int     `json:"events"`
	Results    int     `json:"results,omitempty"`     // rows
	CPU        float64 `json:"cpu"`                   // seconds of processor time
	Wall       float64 `json:"wall"`                  // seconds
	Allocs     float64 `json:"allocs,omitempty"`      // an event
	Resident   int64   `json:"resident"`              // most bytes
	ClickHouse float64 `json:"clickhouse,omitempty"`  // beside the peer: its CPU seconds until all is merged, less idle ones
	Merges     float64 `json:"merges,omitempty"`      // of those, what merges took
	Heap       float64 `json:"heap,omitempty"`        // bytes that lived at the last collection
	Stored     float64 `json:"stored,omitempty"`      // bytes of the finest rollups in ClickHouse, merged
	StoredRows int     `json:"stored_rows,omitempty"` // of them
	Recovery   float64 `json:"recovery,omitempty"`    // seconds from kill -9 to the next commit
	P50        float64 `json:"p50,omitempty"`         // seconds from event to queryable
	P99        float64 `json:"p99,omitempty"`
	Load       float64 `json:"load"` // of the machine before, 1 minute
}

// Rate is in events per second of processor time.
func (r *Run) Rate() float64 { return float64(r.Events) / r.CPU }

// Entry is one published figure: a line of results/summary.json.
type Entry struct {
	Measure string  `json:"measure"`
	Peer    string  `json:"peer"`
	Format  string  `json:"format"`
	Series  int     `json:"series"`
	Unit    string  `json:"unit"`
	Better  string  `json:"better"` // "higher" or "lower"
	Min     float64 `json:"min"`
	Median  float64 `json:"median"`
	Max     float64 `json:"max"`
	Floor   float64 `json:"floor,omitempty"` // 0: none is set
	Stretch float64 `json:"stretch,omitempty"`
}

// Vigie is the name of the peer that the others are compared with. The names of its variants begin with it.
const (
	Vigie       = "vigie"
	VigieTwo    = "vigie-2"      // with two workers
	VigieKilled = "vigie-killed" // killed after its first commits, and started again
)

// AppendRun appends a run to a file of runs.
func AppendRun(path string, r *Run) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = file.Write(append(line, '\n'))
	return errors.Join(err, file.Close())
}

// ReadRuns reads a file of runs; one that is not there has none.
func ReadRuns(path string) (runs []Run, err error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for n := 1; lines.Scan(); n++ {
		var r Run
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return nil, fmt.Errorf("read %s line %d: %w", path, n, err)
		}
		runs = append(runs, r)
	}
	return runs, lines.Err()
}

// target is what a measure should reach: floor must, stretch is the aim.
type target struct{ floor, stretch float64 }

// full is the case whose rows hold as many events as the targets of what is stored are for, 118: 5 million events of
// 10,000 series are 33 s, and so four or five windows of up to 150.
const full = "json/10000/dense"

// targets by measure, peer and case.
var targets = map[[3]string]target{
	{"rate", Vigie, "json/100000"}:                  {1.5e6, 2.5e6},
	{"rate", Vigie, "json/100000/dense"}:            {1.5e6, 2.5e6},
	{"rate", Vigie, "otlp/100000"}:                  {2e6, 4e6},
	{"rate", Vigie, "protobuf/100000"}:              {2e6, 4e6},
	{"rate", Vigie, "protobuf/100000/dense"}:        {2e6, 4e6},
	{"allocs", Vigie, "json/100000"}:                {0.05, 0.01},
	{"times", "streamaggr", "json/10000"}:           {3, 5},
	{"times", "streamaggr", "json/100000"}:          {5, 8},
	{"times", "streamaggr", "json/100000/dense"}:    {5, 8},
	{"times", "clickhouse", "json/100000"}:          {10, 20},
	{"times", "clickhouse", "json/100000/dense"}:    {10, 20},
	{"times", "encoding-json", "json/100000"}:       {6, 10},
	{"times", "encoding-json", "json/100000/dense"}: {6, 10},
	{"times", "jet", "json/100000"}:                 {8, 12},
	{"times", "jet", "json/100000/dense"}:           {8, 12},
	{"times", "flink", "json/100000"}:               {10, 18},
	{"times", "flink", "json/100000/dense"}:         {10, 18},
	{"times", "kafka-streams", "json/100000"}:       {15, 25},
	{"times", "kafka-streams", "json/100000/dense"}: {15, 25},
	{"over-null", Vigie, "json/100000"}:             {2.5, 1.7},
	{"over-null", Vigie, "json/100000/dense"}:       {2.5, 1.7},
	{"allocs", Vigie, "json/100000/dense"}:          {0.05, 0.01},
	{"two-workers", VigieTwo, "json/100000"}:        {1.8, 1.95},
	{"two-workers", VigieTwo, "json/100000/dense"}:  {1.8, 1.95},
	{"growth", Vigie, "json/1000000"}:               {1.5, 1.1},
	{"growth", Vigie, "json/1000000/dense"}:         {1.5, 1.1},
	{"stored", Vigie, full}:                         {1.5, 1.2},
	{"clickhouse", Vigie, full}:                     {100, 30},
	{"fresh-p99", Vigie, "json/1000/load-60"}:       {1, 0.4},
}

// quantity is one number of a run that is published. A run that has not measured it gives 0.
type quantity struct {
	measure, unit, better string
	of                    func(r *Run, series float64) float64
}

// figures of whole runs; of a run that was killed, whose processor time is of the second process only; and of one that
// only measured how long events take.
var (
	figures = []quantity{
		{"rate", "events per CPU-second", "higher", func(r *Run, _ float64) float64 { return r.Rate() }},
		{"wall", "events per second", "higher", func(r *Run, _ float64) float64 { return float64(r.Events) / r.Wall }},
		{"resident", "bytes", "lower", func(r *Run, _ float64) float64 { return float64(r.Resident) }},
		{"allocs", "allocations per event", "lower", func(r *Run, _ float64) float64 { return r.Allocs }},
		{"clickhouse", "CPU nanoseconds of ClickHouse per event", "lower",
			func(r *Run, _ float64) float64 { return r.ClickHouse / float64(r.Events) * 1e9 }},
		{"merges", "CPU nanoseconds of ClickHouse per event, of it merges", "lower",
			func(r *Run, _ float64) float64 { return r.Merges / float64(r.Events) * 1e9 }},
		{"per-row", "events per row of results", "higher",
			func(r *Run, _ float64) float64 { return perRow(r.Events, r.Results) }},
		{"per-stored-row", "events per row stored", "higher",
			func(r *Run, _ float64) float64 { return perRow(r.Events, r.StoredRows) }},
		{"heap", "bytes of heap per series", "lower", func(r *Run, series float64) float64 { return r.Heap / series }},
		{"stored", "bytes stored per event", "lower", func(r *Run, _ float64) float64 { return r.Stored / float64(r.Events) }},
	}
	killedFigures = []quantity{
		{"recovery", "seconds from kill -9 to the next commit", "lower", func(r *Run, _ float64) float64 { return r.Recovery }},
	}
	freshFigures = []quantity{
		{"fresh-p50", "seconds from event to queryable, median", "lower", func(r *Run, _ float64) float64 { return r.P50 }},
		{"fresh-p99", "seconds from event to queryable, 99th percentile", "lower",
			func(r *Run, _ float64) float64 { return r.P99 }},
	}
)

func figuresOf(r *Run) []quantity {
	switch {
	case r.P99 > 0:
		return freshFigures
	case r.Recovery > 0:
		return killedFigures
	}
	return figures
}

func perRow(events, rows int) float64 {
	if rows == 0 {
		return 0
	}
	return float64(events) / float64(rows)
}

// subject is one peer over one kind of log.
type subject struct{ peer, of string }

// Summarize makes of runs what is published: for each case and peer its figures, and how many times as many events per
// second of processor time Vigie takes as each peer in the same round.
func Summarize(runs []Run) (entries []Entry) {
	by, rounds := map[subject][]*Run{}, map[int64]map[subject]*Run{}
	for i := range runs {
		r := &runs[i]
		at := subject{r.Peer, r.Case}
		by[at] = append(by[at], r)
		if rounds[r.Round] == nil {
			rounds[r.Round] = map[subject]*Run{}
		}
		rounds[r.Round][at] = r
	}
	for at, list := range by {
		_, series := caseOf(at.of)
		for _, f := range figuresOf(list[0]) {
			entries = add(entries, at, f, measured(list, func(r *Run) float64 { return f.of(r, float64(series)) }))
		}
		if at.peer == Vigie && series == grown {
			of := quantity{measure: "growth", unit: "times the CPU per event of 10 k series", better: "lower"}
			entries = add(entries, at, of, growth(at, rounds))
		}
		if at.peer != Vigie && list[0].P99 == 0 && list[0].Recovery == 0 {
			entries = addRatio(entries, at, ratios(at, rounds))
		}
	}
	slices.SortFunc(entries, func(a, b Entry) int {
		return cmp.Or(cmp.Compare(a.Format, b.Format), cmp.Compare(a.Series, b.Series),
			cmp.Compare(a.Measure, b.Measure), cmp.Compare(a.Peer, b.Peer))
	})
	return entries
}

func add(entries []Entry, at subject, f quantity, values []float64) []Entry {
	if len(values) == 0 {
		return entries
	}
	slices.Sort(values)
	format, series := caseOf(at.of)
	t := targets[[3]string{f.measure, at.peer, at.of}]
	return append(entries, Entry{f.measure, at.peer, format, series, f.unit, f.better,
		values[0], median(values), values[len(values)-1], t.floor, t.stretch})
}

// ratios are Vigie's rates over a peer's, of the rounds that have both.
func ratios(at subject, rounds map[int64]map[subject]*Run) (times []float64) {
	for _, round := range rounds {
		if ours, theirs := round[subject{Vigie, at.of}], round[at]; ours != nil && theirs != nil {
			times = append(times, ours.Rate()/theirs.Rate())
		}
	}
	return times
}

// Between so many series the cost of an event has to stay what it is.
const ungrown, grown = 10_000, 1_000_000

// growth is how many times the processor time an event takes that it takes with ungrown series, of the rounds that have
// both.
func growth(at subject, rounds map[int64]map[subject]*Run) (times []float64) {
	base := subject{at.peer, strings.Replace(at.of, strconv.Itoa(grown), strconv.Itoa(ungrown), 1)}
	for _, round := range rounds {
		if less, more := round[base], round[at]; less != nil && more != nil {
			times = append(times, less.Rate()/more.Rate())
		}
	}
	return times
}

// addRatio adds what the ratios to a peer say: of two workers and of a consumer that only reads it is the other way
// round.
func addRatio(entries []Entry, at subject, times []float64) []Entry {
	switch at.peer {
	case VigieTwo:
		for i := range times {
			times[i] = 2 / times[i]
		}
		of := quantity{measure: "two-workers", unit: "times one worker's events, by processor time an event", better: "higher"}
		return add(entries, at, of, times)
	case "null":
		for i := range times {
			times[i] = 1 / times[i]
		}
		of := quantity{measure: "over-null", unit: "times the CPU of only reading", better: "lower"}
		return add(entries, subject{Vigie, at.of}, of, times)
	}
	return add(entries, at, quantity{measure: "times", unit: "times the peer's events per CPU-second", better: "higher"}, times)
}

// caseOf takes "json/100000/dense" apart: the format is "json dense".
func caseOf(of string) (format string, series int) {
	parts := strings.Split(of, "/")
	_, _ = fmt.Sscan(parts[1], &series)
	return strings.Join(append(parts[:1:1], parts[2:]...), " "), series
}

// measured are the figures of the runs that have one: not every one was measured from the beginning.
func measured(runs []*Run, of func(*Run) float64) (values []float64) {
	for _, r := range runs {
		if v := of(r); v != 0 {
			values = append(values, v)
		}
	}
	return values
}

// median of sorted values; of an even number the mean of the two in the middle.
func median(sorted []float64) float64 {
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
