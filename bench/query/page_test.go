package query

import (
	"cmp"
	"encoding/json"
	"errors"
	"os"
	"slices"
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
