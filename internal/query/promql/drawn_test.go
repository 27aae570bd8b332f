package promql_test

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	upstream "github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/internal/tenants"
)

// evaluation times of a drawn query.
type times struct {
	start, end time.Time
	step       time.Duration // 0: an instant
}

func (ts times) String() string {
	return fmt.Sprintf("%s to %s step %s", ts.start.UTC().Format(time.TimeOnly), ts.end.UTC().Format(time.TimeOnly), ts.step)
}

func ask(engine upstream.QueryEngine, of storage.Queryable, query string, at times) *upstream.Result {
	ctx := tenants.NewContext(context.Background(), "acme")
	var q upstream.Query
	var err error
	if at.step == 0 {
		q, err = engine.NewInstantQuery(ctx, of, nil, query, at.start)
	} else {
		q, err = engine.NewRangeQuery(ctx, of, nil, query, at.start, at.end, at.step)
	}
	if err != nil {
		return &upstream.Result{Err: err}
	}
	return q.Exec(ctx)
}

// values are those of a result by series and time; without labels when loose, and then sorted.
func values(r *upstream.Result, loose bool) map[string]string {
	out := make(map[string]string)
	put := func(of labels.Labels, t int64, text string) {
		key := fmt.Sprint(of.String(), " @ ", t)
		for n := 0; loose; n++ {
			if key = fmt.Sprint(t, " #", n); out[key] == "" {
				break
			}
		}
		out[key] = text
	}
	matrix, _ := r.Value.(upstream.Matrix)
	switch v := r.Value.(type) {
	case upstream.Vector:
		for _, one := range v {
			text := number64(one.F)
			if one.H != nil {
				text = one.H.String()
			}
			put(one.Metric, one.T, text)
		}
	case upstream.Scalar:
		put(labels.EmptyLabels(), v.T, number64(v.V))
	}
	for _, one := range matrix {
		for _, p := range one.Floats {
			put(one.Metric, p.T, number64(p.F))
		}
		for _, p := range one.Histograms {
			put(one.Metric, p.T, p.H.String())
		}
	}
	return out
}

var (
	// straightened are counters of bare selectors in subqueries, which are answered as ranges.
	straightened = regexp.MustCompile(`(rate|increase|irate)\(\(+(hits_total|lat_seconds)[^()]*\)+\[`)
	// forgetful are timestamps of selectors with both @ and offset: the engine forgets the offset, and what it finds
	// depends on what a storage gives beyond the range that it is asked for.
	forgetful = regexp.MustCompile(`timestamp\(\(*\w+({[^}]*})? @ \S+( offset)`)
)

func number64(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }

// differ says how results differ.
func differ(got, want *upstream.Result, query string, loose bool) string {
	if (got.Err == nil) != (want.Err == nil) {
		return fmt.Sprintf("got error %v, want %v", got.Err, want.Err)
	}
	if got.Err != nil {
		return ""
	}
	g, w := values(got, loose), values(want, loose)
	if loose {
		return differLoose(g, w)
	}
	for key := range w {
		if _, there := g[key]; !there {
			return fmt.Sprintf("%s is missing, want %s", key, w[key])
		}
	}
	for key, text := range g {
		if !sameNumbers(text, w[key]) {
			return fmt.Sprintf("%s: got %s, want %q", key, text, w[key])
		}
	}
	if strings.HasPrefix(query, "sort") {
		if vector, ok := got.Value.(upstream.Vector); ok {
			for i, one := range want.Value.(upstream.Vector) {
				if !sameNumbers(number64(vector[i].F), number64(one.F)) {
					return fmt.Sprintf("in place %d: got %v, want %v", i, vector[i], one)
				}
			}
		}
	}
	a, b := notes(got, query), notes(want, query)
	if !slices.Equal(a, b) {
		return fmt.Sprintf("got notes %q, want %q", a, b)
	}
	return ""
}

func differLoose(got, want map[string]string) string {
	sorted := func(m map[string]string) map[string][]string {
		out := make(map[string][]string)
		for key, text := range m {
			at, _, _ := strings.Cut(key, " ")
			out[at] = append(out[at], text)
			slices.SortFunc(out[at], func(a, b string) int {
				x, _ := strconv.ParseFloat(a, 64)
				y, _ := strconv.ParseFloat(b, 64)
				return cmp.Compare(x, y)
			})
		}
		return out
	}
	g, w := sorted(got), sorted(want)
	for at, list := range w {
		if !slices.EqualFunc(g[at], list, sameNumbers) {
			return fmt.Sprintf("%s: got %v, want %v", at, g[at], list)
		}
	}
	if len(g) != len(w) {
		return fmt.Sprintf("got %d times, want %d", len(g), len(w))
	}
	return ""
}

// ownNotes are of one side only. Ours: that functions say little about counters kept in windows, and that the data
// ends before now. Prometheus': that resets of histograms conflict. It has that from marks in its chunks, of which
// results keep none.
var ownNotes = regexp.MustCompile(`kept in windows|windows are complete up to|conflicting counter resets`)

func notes(r *upstream.Result, query string) []string {
	warnings, infos := r.Warnings.AsStrings(query, 0, 0)
	all := slices.DeleteFunc(append(warnings, infos...), func(note string) bool { return ownNotes.MatchString(note) })
	return slices.Sorted(slices.Values(all))
}

// engine is Prometheus' own.
func (w *world) engine() *upstream.Engine {
	return upstream.NewEngine(upstream.EngineOpts{
		Logger: slog.New(slog.DiscardHandler), MaxSamples: math.MaxInt32, Timeout: time.Hour,
		LookbackDelta: w.lookback(), UseStartTimestamps: true, EnableAtModifier: true, EnableNegativeOffset: true,
		NoStepSubqueryIntervalFn: func(int64) int64 { return time.Minute.Milliseconds() },
		Parser:                   parser.NewParser(parser.Options{}),
	})
}

// The engine over our store says of any query what Prometheus says that holds the raw events as docs/promql.md tells:
// at the border of windows, in every tier, for native and classic histograms, gauges, totals, stale markers, pauses,
// resets.
func TestDrawnQueriesEqualPrometheus(t *testing.T) {
	for name, width := range map[string]time.Duration{"10s": 10 * time.Second, "1m": time.Minute, "1h": time.Hour} {
		t.Run(name, func(t *testing.T) {
			w := &world{width: width, now: epoch, begin: epoch.Add(-720 * width), horizon: max(time.Hour, 60*width)}
			decoded := &histograms{}
			ours := newServer(t, func(s *server) {
				s.now, s.cfg.ActivityHorizon, s.cfg.BucketBounds = w.later(), w.horizon, drawnBounds
				if width > 10*time.Second {
					s.cfg.Retention10s = time.Millisecond
				}
				if width > time.Minute {
					s.cfg.Retention1m = time.Millisecond
				}
				s.options.DecodeHistogram = decoded.read
			})
			ours.store.upTo("acme", w.now, ours.now)
			ours.store.coarseUpTo(ours.now, nil)
			theirs := w.engine()
			seen := make(map[string]int)
			queries, answered := 0, 0
			rapid.Check(t, func(rt *rapid.T) {
				ours.store.empty()
				ours.service.Forget()
				decoded.list = nil
				seed := rapid.Uint64().Draw(rt, "seed")
				db, done := w.randomData(t, rand.New(rand.NewPCG(seed, 1)), ours.store, decoded).prometheus(t)
				defer done()
				at := func(name string) time.Time {
					return w.begin.Add(time.Duration(rapid.IntRange(0, 720).Draw(rt, name)) * width)
				}
				if width == 10*time.Second { // else nothing is kept of it that could stand for wider ones
					ours.behind(rt, 0, 2*time.Hour)
				}
				d := &drawn{t: rt, unit: width, longest: int(w.horizon / width), at: []time.Time{at("at"), at("at"), at("at")},
					seen: seen}
				for range 40 {
					query := d.query()
					if straightened.MatchString(query) || forgetful.MatchString(query) {
						continue
					}
					ts := times{start: at("start")}
					if rapid.Bool().Draw(rt, "range") {
						ts.step = width * time.Duration(rapid.SampledFrom([]int{1, 2, 3, 6, 7, 60}).Draw(rt, "step"))
						ts.end = ts.start.Add(width * time.Duration(rapid.IntRange(0, 100).Draw(rt, "length")))
						if ts.end.After(w.now) { // which is not answered
							ts.end = w.now
						}
					}
					if misplaced(query, ts) {
						continue
					}
					queries++
					got, want := ask(ours.service.QueryEngine(), ours.service.Queryable(), query, ts), ask(theirs, db, query, ts)
					if len(values(want, false)) > 0 {
						answered++
					}
					if difference := differ(got, want, query, d.ties); difference != "" {
						rt.Fatalf("%s at %s: %s", query, ts, difference)
					}
				}
			})
			t.Logf("%d queries, %d with an answer: %v", queries, answered, seen)
			// Nothing equals nothing: enough of them must say something. Few draws may be of little data.
			if queries > 1000 && 4*answered < queries {
				t.Errorf("got %d answers of %d queries, want a quarter at least", answered, queries)
			}
		})
	}
}
