package query

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// result is one measurement, at the best of its turns. Times are milliseconds, memory is MiB.
type result struct {
	Case, What, System string
	CPU, Wall          float64
	First              float64 `json:",omitempty"` // until the first byte of the first panel
	Here               float64 `json:",omitempty"` // in the query service
	There              float64 `json:",omitempty"` // of one statement on the server
}

// results are of all runs, each case, panel and system once.
type results struct{ list []result }

func (r *results) add(one result) {
	same := func(o result) bool { return o.Case == one.Case && o.What == one.What && o.System == one.System }
	if i := slices.IndexFunc(r.list, same); i >= 0 {
		r.list[i] = one
		return
	}
	r.list = append(r.list, one)
}

func readResults(t testing.TB, path string) *results {
	t.Helper()
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return &results{}
	}
	r := &results{}
	if err == nil {
		err = json.Unmarshal(text, &r.list)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *results) write(t testing.TB, path string) {
	t.Helper()
	slices.SortStableFunc(r.list, func(a, b result) int { return cmp.Compare(a.System, b.System) })
	text, err := json.MarshalIndent(r.list, "", " ")
	if err == nil {
		err = os.WriteFile(path, append(text, '\n'), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func milliseconds(d time.Duration) float64 { return round(float64(d) / 1e6) }
func mebibytes(n uint64) float64           { return round(float64(n) / (1 << 20)) }
func round(v float64) float64              { return float64(int64(v*10+0.5)) / 10 }

// The section of docs/performance.md that TestPage writes stands between these lines.
const (
	pagePath  = "../../docs/performance.md"
	pageBegin = "<!-- written by `make bench-query-page` from bench/results/query.json: begin -->\n"
	pageEnd   = "<!-- end -->\n"
)

var update = flag.Bool("update", false, "write the section of docs/performance.md anew")

// The page says what the results say.
func TestPage(t *testing.T) {
	results := readResults(t, "../results/query.json")
	page, err := os.ReadFile(pagePath)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, began := bytes.Cut(page, []byte(pageBegin))
	_, after, ended := bytes.Cut(rest, []byte(pageEnd))
	if !began || !ended {
		t.Fatalf("%s: want the lines %q and %q", pagePath, pageBegin, pageEnd)
	}
	want := slices.Concat(before, []byte(pageBegin), results.tables(), []byte(pageEnd), after)
	if *update {
		if err := os.WriteFile(pagePath, want, 0o644); err != nil {
			t.Fatal(err)
		}
	} else if !bytes.Equal(page, want) {
		t.Errorf("%s is not what the results say: make bench-query-page", pagePath)
	}
}

// find is a result, or one without times.
func (r *results) find(of, what, system string) result {
	i := slices.IndexFunc(r.list, func(o result) bool { return o.Case == of && o.What == what && o.System == system })
	if i < 0 {
		return result{}
	}
	return r.list[i]
}

func (r *results) tables() (out []byte) {
	out = append(out, "| series, over | panel | pushed, CPU ms | to SQL | nothing kept of earlier ones, to SQL | series by series, to pushed | Prometheus' TSDB, to pushed | MiB held in `query` | in ClickHouse |\n|---|---|---|---|---|---|---|---|---|\n"...)
	for _, of := range r.list {
		if of.System != "pushed" || of.Case == "labels" || of.First > 0 {
			continue
		}
		ratio := func(a, b float64) string {
			if a == 0 || b == 0 {
				return ""
			}
			return fmt.Sprintf("%.2g", a/b)
		}
		cpu := func(system string) float64 { return r.find(of.Case, of.What, system).CPU }
		out = fmt.Appendf(out, "| %s | %s | %.0f | %s | %s | %s | %s | %.0f | %.0f |\n", of.Case, of.What, of.CPU,
			ratio(of.CPU, cpu("sql")), ratio(cpu("first"), cpu("sql")), ratio(cpu("plain"), of.CPU),
			ratio(cpu("tsdb"), of.CPU), of.Here, of.There)
	}
	out = append(out, "\n| | CPU ms | ms | first byte, ms | MiB held in `query` |\n|---|---|---|---|---|\n"...)
	for _, of := range r.list {
		if of.Case == "labels" {
			out = fmt.Appendf(out, "| a million series: %s | %.0f | %.0f | | %.0f |\n", of.What, of.CPU, of.Wall, of.Here)
		} else if of.First > 0 {
			out = fmt.Appendf(out, "| %s, %s | %.0f | %.0f | %.0f | %.0f |\n", of.Case, of.What,
				of.CPU, of.Wall, of.First, of.Here)
		}
	}
	return append(append(out, "\n| target | measured | |\n|---|---|---|\n"...), r.targets()...)
}

// targets are those that the measured cases say something of; each is as good as its worst.
func (r *results) targets() (out []byte) {
	say := func(what, unit string, values []float64, reached func(float64) bool) {
		if len(values) == 0 {
			return
		}
		good := 0
		for _, v := range values {
			if reached(v) {
				good++
			}
		}
		verdict := "reached"
		if good < len(values) {
			verdict = fmt.Sprintf("missed in %d of %d", len(values)-good, len(values))
		}
		out = fmt.Appendf(out, "| %s | %.3g to %.3g %s | %s |\n", what, slices.Min(values), slices.Max(values), unit, verdict)
	}
	below := func(limit float64) func(float64) bool { return func(v float64) bool { return v <= limit } }
	var toSQL, toPlain, labels, first, quantile []float64
	for _, of := range r.list {
		if of.System != "pushed" {
			continue
		}
		if sql := r.find(of.Case, of.What, "sql").CPU; sql > 0 {
			toSQL = append(toSQL, of.CPU/sql)
		}
		if plain := r.find(of.Case, of.What, "plain").CPU; plain > 0 && strings.HasPrefix(of.Case, "10000/") {
			toPlain = append(toPlain, plain/of.CPU)
		}
		if of.Case == "labels" && strings.Contains(of.What, "values") {
			labels = append(labels, of.Wall)
		}
		if of.First > 0 {
			first = append(first, of.First)
		}
		if of.What == "p99 by service" && strings.HasSuffix(of.Case, "/24h") {
			quantile = append(quantile, of.CPU)
		}
	}
	say("pushed PromQL, 1.3 times the SQL that gives the same numbers at most", "times", toSQL, below(1.3))
	say("series by series, 5 times pushed at least, 10,000 series", "times", toPlain, func(v float64) bool { return v >= 5 })
	say("first byte of a dashboard of 12 panels over 24 h within 1 s", "ms", first, below(1000))
	say("p99 by service over 24 h from the tier of services, every 2 minutes, in 0.3 s of processor time", "ms", quantile, below(300))
	say("values of a label of a million series in 200 ms", "ms", labels, below(200))
	return out
}
