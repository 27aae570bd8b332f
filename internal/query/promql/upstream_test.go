package promql_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	upstream "github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/storage"

	"github.com/vigie-io/vigie/internal/query/promql"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
)

// fast is a load with an interval below a pane's width.
var fast = regexp.MustCompile(`(?m)^\s*load(_with_nhcb)?\s+([0-9]+ms|[1-9]s)\b`)

// Upstream's own scripts, over gauges: what comes in as plain samples is answered as Prometheus answers it.
// A section is what lies between two "clear". The engine is upstream's, without the wrapper that aligns, because the scripts evaluate at any second.
func TestUpstreamScripts(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/prometheus/prometheus").Output()
	if err != nil {
		t.Fatalf("find the module: %v", err)
	}
	dir := filepath.Join(strings.TrimSpace(string(out)), "promql", "promqltest", "testdata")
	scripts := []string{
		"aggregators", "at_modifier", "collision", "functions", "histograms", "limit", "literals", "name_label_dropping",
		"operators", "range_queries", "selectors", "staleness", "subquery", "trig_functions",
	}
	ran := 0
	for _, script := range scripts {
		text, err := os.ReadFile(filepath.Join(dir, script+".test"))
		if err != nil {
			t.Fatal(err)
		}
		for i, section := range strings.Split(string(text), "\nclear") {
			t.Run(fmt.Sprintf("%s#%d", script, i), func(t *testing.T) {
				if strings.Contains(section, "{{") {
					t.Skip("native histograms as samples need the stream's encoding")
				}
				if fast.MatchString(section) {
					t.Skip("loads several samples into one pane, of which the last counts")
				}
				engine := ofTenant{promqltest.NewTestEngineWithOpts(t, upstream.EngineOpts{
					MaxSamples: 10_000_000, Timeout: time.Minute, LookbackDelta: 5 * time.Minute,
					EnableAtModifier: true, EnableNegativeOffset: true, EnableDelayedNameRemoval: true, UseStartTimestamps: true,
					NoStepSubqueryIntervalFn: func(int64) int64 { return time.Minute.Milliseconds() },
					Parser:                   parser.NewParser(parser.Options{EnableExperimentalFunctions: true}),
				})}
				promqltest.RunTestWithStorage(t, section, engine, newScriptStorage)
				ran++
			})
		}
	}
	if ran < 80 {
		t.Errorf("got %d sections run, want most of them", ran)
	}
}

// ofTenant evaluates for acme.
type ofTenant struct{ upstream.QueryEngine }

func (e ofTenant) NewInstantQuery(ctx context.Context, q storage.Queryable, opts upstream.QueryOpts, qs string, ts time.Time) (upstream.Query, error) {
	query, err := e.QueryEngine.NewInstantQuery(tenants.NewContext(ctx, "acme"), q, opts, qs, ts)
	return queryOfTenant{query}, err
}

func (e ofTenant) NewRangeQuery(ctx context.Context, q storage.Queryable, opts upstream.QueryOpts, qs string, start, end time.Time, step time.Duration) (upstream.Query, error) {
	query, err := e.QueryEngine.NewRangeQuery(tenants.NewContext(ctx, "acme"), q, opts, qs, start, end, step)
	return queryOfTenant{query}, err
}

type queryOfTenant struct{ upstream.Query }

func (q queryOfTenant) Exec(ctx context.Context) *upstream.Result {
	return q.Query.Exec(tenants.NewContext(ctx, "acme"))
}

// scriptStorage takes a script's samples as gauges and answers through the Service.
type scriptStorage struct {
	storage.SampleAndChunkQueryable
	t     testing.TB
	store *memStore
}

func newScriptStorage(t testing.TB) storage.Storage {
	store := newMemStore()
	now := time.Unix(0, 0).Add(60 * time.Hour)
	store.upTo("acme", now, now)
	limits := tenants.DefaultConfig().Defaults
	s, err := promql.New(promql.DefaultConfig(), promql.Options{
		Store: store, Limits: func(tenants.ID) tenants.Limits { return limits },
		Now: func() time.Time { now = now.Add(6 * time.Second); return now }, // nothing stays in caches
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return &scriptStorage{s.Queryable(), t, store}
}

func (s *scriptStorage) AppenderV2(context.Context) storage.AppenderV2 { return scriptAppender{s} }
func (s *scriptStorage) Appender(context.Context) storage.Appender     { panic("not used") }
func (s *scriptStorage) StartTime() (int64, error)                     { return 0, nil }
func (s *scriptStorage) Close() error                                  { return nil }

type scriptAppender struct{ *scriptStorage }

func (a scriptAppender) Commit() error   { return nil }
func (a scriptAppender) Rollback() error { return nil }

func (a scriptAppender) AppendExemplar(storage.SeriesRef, labels.Labels, exemplar.Exemplar) (storage.SeriesRef, error) {
	return 0, nil
}

func (a scriptAppender) Append(_ storage.SeriesRef, ls labels.Labels, _, t int64, v float64, h *histogram.Histogram, fh *histogram.FloatHistogram, _ storage.AppendV2Options) (storage.SeriesRef, error) {
	if h != nil || fh != nil {
		return 0, errors.New("a histogram in a script of floats")
	}
	m := ls.Map()
	name := m[model.MetricNameLabel]
	delete(m, model.MetricNameLabel)
	at := time.UnixMilli(t)
	if t == 0 {
		at = at.Add(time.Nanosecond) // 0 says that a pane has no level
	}
	a.store.add(a.t, "acme", events.Gauge, name, m, event{at, v})
	return 0, nil
}
