package promql_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
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

	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/query/promql"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/internal/testkit"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
	"github.com/vigie-io/vigie/pkg/sketches"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// command begins a command of a script.
var command = regexp.MustCompile(`^\s*(clear|load|load_with_nhcb|eval\w*)\b`)

// exceptions are how many evaluations of upstream's scripts we answer otherwise, by script and cause:
// testdata/corpus.txt.
func exceptions(t *testing.T) map[string]int {
	t.Helper()
	text, err := os.ReadFile("testdata/corpus.txt")
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]int)
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		fields := strings.Fields(line)
		if len(fields) < 4 {
			t.Fatalf("testdata/corpus.txt: %q: want script, cause, how many evaluations fail, and why", line)
		}
		n, err := strconv.Atoi(fields[2])
		if err != nil || n == 0 {
			t.Fatalf("testdata/corpus.txt: %q: want a number above zero in the third place", line)
		}
		out[fields[0]+" "+fields[1]] = n
	}
	return out
}

// Upstream's own scripts, read from its module, over ClickHouse: what comes in as samples is written as the stream
// writes it, and answered as Prometheus answers it. The engine is upstream's, without the wrapper that aligns, because
// the scripts evaluate at any second. Time is moved, as the database keeps panes for three days.
func TestUpstreamCorpus(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/prometheus/prometheus").Output()
	if err != nil {
		t.Fatalf("find the module: %v", err)
	}
	scripts, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(out)), "promql", "promqltest", "testdata", "*.test"))
	if err != nil || len(scripts) < 20 {
		t.Fatalf("got scripts %v, %v, want some twenty", scripts, err)
	}
	users, err := clickhouse.UsersXML(clickhouse.Access{
		ServicePassword: "service-password-1", SQLPassword: "sql-password-12345", Limits: clickhouse.DefaultSQLLimits(),
	})
	if err != nil {
		t.Fatal(err)
	}
	cfg := clickhouse.DefaultConfig()
	cfg.Addrs, cfg.Password = []string{testkit.ClickHouse(t, users).HTTPAddr}, "service-password-1"
	client, err := clickhouse.NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	if _, err := client.Migrate(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	engine := promqltest.NewTestEngineWithOpts(t, upstream.EngineOpts{
		MaxSamples: 10_000_000, Timeout: time.Minute, LookbackDelta: 5 * time.Minute,
		EnableAtModifier: true, EnableNegativeOffset: true, EnableDelayedNameRemoval: true, UseStartTimestamps: true,
		NoStepSubqueryIntervalFn: func(int64) int64 { return time.Minute.Milliseconds() },
		Parser:                   parser.NewParser(promqltest.TestParserOpts),
	})
	expected, total := exceptions(t), 0
	if len(expected) >= 20 {
		t.Errorf("got %d exceptions, want fewer than 20", len(expected))
	}
	var all []*corpus
	writer := &corpusWriter{t: t, client: client}
	for _, path := range scripts {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		c := &corpus{t: t, writer: writer, engine: engine, name: strings.TrimSuffix(filepath.Base(path), ".test")}
		c.read(string(text))
		all = append(all, c)
	}
	writer.write()
	for _, c := range all {
		t.Run(c.name, func(t *testing.T) {
			failures := c.run(t)
			total += len(c.evaluations)
			for _, cause := range []string{"pane", "start", "kinds", "other"} {
				key := c.name + " " + cause
				if got := failures[cause]; len(got) != expected[key] {
					t.Errorf("%s: %d evaluations fail, want %d as testdata/corpus.txt says:\n%s", key, len(got), expected[key], strings.Join(got, "\n"))
				}
				delete(expected, key)
			}
		})
	}
	for key := range expected {
		t.Errorf("testdata/corpus.txt: %s: there is no such script or cause", key)
	}
	if total < 2300 {
		t.Errorf("got %d evaluations, want all of some 2400", total)
	}
}

// corpus is one script. Its samples are all written before anything is evaluated, for the sake of few inserts: what is
// loaded after an evaluation goes to a tenant of its own, together with what was there before.
type corpus struct {
	t           *testing.T
	writer      *corpusWriter
	engine      *upstream.Engine
	name        string
	stages      int
	loads       []string // of the section
	storage     *corpusStorage
	evaluations []evaluation
}

type evaluation struct {
	line    int
	text    string
	storage *corpusStorage
}

// fast is a load with an interval below a pane's width, or none that divides it.
var fast = regexp.MustCompile(`^\s*load(_with_nhcb)?\s+([0-9]+ms|[1-9]s)\b`)

func (c *corpus) read(text string) {
	c.stage()
	var block []string
	begin := 0
	flush := func() {
		if len(block) > 0 {
			c.command(begin, strings.Join(block, "\n")+"\n")
		}
		block = nil
	}
	for i, line := range strings.Split(text, "\n") {
		if command.MatchString(line) {
			flush()
			begin = i + 1
		} else if len(block) == 0 {
			continue
		}
		block = append(block, line)
	}
	flush()
}

func (c *corpus) stage() {
	c.stages++
	tenant := strings.ReplaceAll(fmt.Sprintf("%s-%d", c.name, c.stages), "_", "-")
	c.storage = newCorpusStorage(c.t, c.writer, tenants.ID(tenant))
}

func (c *corpus) command(line int, text string) {
	switch {
	case strings.HasPrefix(strings.TrimSpace(text), "clear"):
		c.loads = nil
		c.stage()
	case strings.HasPrefix(strings.TrimSpace(text), "eval"):
		c.storage.evaluated = true
		c.evaluations = append(c.evaluations, evaluation{line: line, text: text, storage: c.storage})
	default:
		if c.loads = append(c.loads, text); !c.storage.evaluated {
			c.load(text)
			return
		}
		c.stage()
		for _, text := range c.loads {
			c.load(text)
		}
	}
}

func (c *corpus) load(text string) {
	c.storage.fast = c.storage.fast || fast.MatchString(text)
	c.storage.starts = c.storage.starts || strings.Contains(text, "@st")
	if failure := attempt(c.t, func(t *testing.T) { c.script(t, text, c.storage) }); failure != "" {
		c.t.Errorf("%s.test: load %q: %s", c.name, text, failure)
	}
}

func (c *corpus) script(t *testing.T, text string, on *corpusStorage) {
	promqltest.RunTestWithStorage(t, text, ofTenant{c.engine, on.tenant}, func(testing.TB) storage.Storage { return on })
}

// run evaluates and returns what fails, by what is most likely the cause.
func (c *corpus) run(t *testing.T) map[string][]string {
	failures := make(map[string][]string)
	for _, e := range c.evaluations {
		if failure := attempt(t, func(t *testing.T) { c.script(t, e.text, e.storage) }); failure != "" {
			cause := e.storage.cause()
			failures[cause] = append(failures[cause], fmt.Sprintf("%s.test:%d: %s", c.name, e.line, failure))
		}
	}
	return failures
}

// attempt returns what f failed with, "" when it did not. The scripts' runner fails subtests of the test it is given,
// so it is given one that is not below ours.
func attempt(t *testing.T, f func(*testing.T)) string {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	output := make(chan string)
	go func() {
		text, _ := io.ReadAll(read) // a pipe of our own
		output <- string(text)
	}()
	stdout := os.Stdout
	os.Stdout = write
	ok := testing.RunTests(func(string, string) (bool, error) { return true, nil }, []testing.InternalTest{{Name: "eval", F: f}})
	os.Stdout = stdout
	write.Close()
	text := <-output
	if ok {
		return ""
	}
	_, cause, found := strings.Cut(text, "Received unexpected error:")
	if !found {
		cause = text
	}
	cause, _, _ = strings.Cut(cause, "\tTest:")
	return strings.Join(strings.Fields(cause), " ")
}

// ofTenant evaluates for a tenant.
type ofTenant struct {
	upstream.QueryEngine
	tenant tenants.ID
}

func (e ofTenant) NewInstantQuery(ctx context.Context, q storage.Queryable, opts upstream.QueryOpts, qs string, ts time.Time) (upstream.Query, error) {
	query, err := e.QueryEngine.NewInstantQuery(tenants.NewContext(ctx, e.tenant), q, opts, qs, ts)
	return queryOfTenant{query, e.tenant}, err
}

func (e ofTenant) NewRangeQuery(ctx context.Context, q storage.Queryable, opts upstream.QueryOpts, qs string, start, end time.Time, step time.Duration) (upstream.Query, error) {
	query, err := e.QueryEngine.NewRangeQuery(tenants.NewContext(ctx, e.tenant), q, opts, qs, start, end, step)
	return queryOfTenant{query, e.tenant}, err
}

type queryOfTenant struct {
	upstream.Query
	tenant tenants.ID
}

func (q queryOfTenant) Exec(ctx context.Context) *upstream.Result {
	return q.Query.Exec(tenants.NewContext(ctx, q.tenant))
}

// moved is a Store whose time zero is another. It reads each series once, and all of it: that a store looks at no more
// than it is asked for is tested where it is.
type moved struct {
	promql.Store
	by     int64 // ms
	series map[string][]promql.Series
	panes  map[string][]idPane
}

type idPane struct {
	id series.ID
	promql.Pane
}

func (m moved) Metas(ctx context.Context, tenant tenants.ID, _ int64) ([]promql.Meta, error) {
	return m.Store.Metas(ctx, tenant, 0)
}

func (m moved) Series(ctx context.Context, tenant tenants.ID, q promql.SeriesQuery) ([]promql.Series, error) {
	q.Since = 0
	key := fmt.Sprintf("%+v", q)
	list, known := m.series[key]
	if !known {
		var err error
		if list, err = m.Store.Series(ctx, tenant, q); err != nil {
			return nil, err
		}
		m.series[key] = list
	}
	return list, nil
}

func (m moved) Columns(ctx context.Context, tenant tenants.ID, q promql.PaneQuery, yield func(series.ID, *promql.PaneColumn) error) error {
	return gather(ctx, m, tenant, q, yield)
}

func (m moved) Panes(ctx context.Context, tenant tenants.ID, q promql.PaneQuery, yield func(series.ID, *promql.Pane) error) error {
	from, to := q.From, q.To
	q.From, q.To = 0, m.by+2*scriptNow.Milliseconds()
	key := fmt.Sprintf("%+v", q)
	list, known := m.panes[key]
	if !known {
		err := m.Store.Panes(ctx, tenant, q, func(id series.ID, p *promql.Pane) error {
			p.Start -= m.by
			if p.LastTime != 0 {
				if p.LastTime -= m.by * 1e6; p.LastTime == 0 {
					p.LastTime = 1 // 0 says that a pane has no level
				}
			}
			list = append(list, idPane{id, *p})
			return nil
		})
		if err != nil {
			return err
		}
		m.panes[key] = list
	}
	for _, p := range list {
		if p.Start < from || p.Start >= to {
			continue
		}
		if err := yield(p.id, &p.Pane); err != nil {
			return err
		}
	}
	return nil
}

// corpusStorage takes the samples of a stage of a script and answers through the Service.
type corpusStorage struct {
	storage.SampleAndChunkQueryable
	writer    *corpusWriter
	tenant    tenants.ID
	evaluated bool
	fast      bool // several samples in a pane
	starts    bool // samples with start timestamps
	kinds     bool // gauge histograms and others in one series
}

// cause is what of the samples we do not keep, if any.
func (s *corpusStorage) cause() string {
	switch {
	case s.fast:
		return "pane"
	case s.starts:
		return "start"
	case s.kinds:
		return "kinds"
	}
	return "other"
}

// scriptNow is the time of the service in a script's time: later than any of it.
const scriptNow = 60 * time.Hour

func newCorpusStorage(t testing.TB, w *corpusWriter, tenant tenants.ID) *corpusStorage {
	limits := tenants.DefaultConfig().Defaults
	store := moved{clickhouse.NewStore(w.client), w.zero(), make(map[string][]promql.Series), make(map[string][]idPane)}
	service, err := promql.New(promql.DefaultConfig(), promql.Options{
		Store: store, Limits: func(tenants.ID) tenants.Limits { return limits },
		Now: func() time.Time { return time.Unix(0, 0).Add(scriptNow) }, Log: slog.New(slog.DiscardHandler), DecodeHistogram: pipeline.DecodeHistogram,
	})
	if err != nil {
		t.Fatal(err)
	}
	return &corpusStorage{SampleAndChunkQueryable: service.Queryable(), writer: w, tenant: tenant}
}

func (s *corpusStorage) AppenderV2(context.Context) storage.AppenderV2 { return corpusAppender{s} }
func (s *corpusStorage) Appender(context.Context) storage.Appender     { panic("not used") }
func (s *corpusStorage) StartTime() (int64, error)                     { return 0, nil }
func (s *corpusStorage) Close() error                                  { return nil }

type levelKey struct {
	tenant tenants.ID
	id     series.ID
	pane   uint32
}

type levelRow struct {
	metric string
	time   int64
	value  float64
	hist   []byte
}

// corpusWriter makes of samples what tasks make of them, the last of each pane, and writes them all at once.
type corpusWriter struct {
	t       testing.TB
	client  *clickhouse.Client
	base    int64
	rollups map[levelKey]*levelRow
	series  map[levelKey]*seriesRow
}

type seriesRow struct {
	metric string
	kind   events.Kind
	native bool
	labels series.Labels
	seen   uint32
}

// zero is the scripts' time zero, Unix ms: so late that nothing expires.
func (w *corpusWriter) zero() int64 {
	if w.base == 0 {
		w.base = time.Now().Add(-scriptNow).Truncate(time.Hour).UnixMilli()
		w.rollups, w.series = make(map[levelKey]*levelRow), make(map[levelKey]*seriesRow)
	}
	return w.base
}

type corpusAppender struct{ *corpusStorage }

func (a corpusAppender) AppendExemplar(storage.SeriesRef, labels.Labels, exemplar.Exemplar) (storage.SeriesRef, error) {
	return 0, nil
}
func (a corpusAppender) Commit() error   { return nil }
func (a corpusAppender) Rollback() error { return nil }

func (a corpusAppender) Append(_ storage.SeriesRef, ls labels.Labels, _, t int64, v float64, h *histogram.Histogram, fh *histogram.FloatHistogram, _ storage.AppendV2Options) (storage.SeriesRef, error) {
	if h != nil {
		fh = h.ToFloat(nil)
	}
	w := a.writer
	s := &seriesRow{metric: ls.Get(model.MetricNameLabel), kind: events.Cumulative, native: fh != nil}
	ls.Range(func(l labels.Label) {
		if l.Name != model.MetricNameLabel {
			s.labels = append(s.labels, series.Label{Name: l.Name, Value: l.Value})
		}
	})
	row := &levelRow{metric: s.metric, time: (t + w.base) * 1e6, value: v}
	if fh != nil {
		if fh.CounterResetHint == histogram.GaugeType {
			s.kind = events.Gauge
		}
		row.value, row.hist = fh.Sum, pipeline.AppendHistogram(nil, ownHistogram(fh))
	}
	s.seen = uint32(row.time / 1e9)
	key := levelKey{a.tenant, series.Hash(series.AppendKey(nil, byte(s.kind), s.metric, s.labels)), 0}
	if old := w.series[key]; old != nil {
		s.native, s.seen = s.native || old.native, max(s.seen, old.seen)
	}
	other := levelKey{a.tenant, series.Hash(series.AppendKey(nil, byte(events.Gauge+events.Cumulative-s.kind), s.metric, s.labels)), 0}
	a.kinds = a.kinds || w.series[other] != nil
	w.series[key] = s
	key.pane = uint32((t + w.base) / 10_000 * 10)
	if old := w.rollups[key]; old == nil || old.time <= row.time {
		w.rollups[key] = row
	}
	return 0, nil
}

// write inserts what has been appended.
func (w *corpusWriter) write() {
	w.t.Helper()
	s := &pipeline.SeriesRows{}
	for key, r := range w.series {
		s.Tenant, s.Metric, s.Service, s.ID = append(s.Tenant, string(key.tenant)), append(s.Metric, r.metric), append(s.Service, ""), append(s.ID, key.id)
		s.Kind, s.Native, s.Unit, s.Help = append(s.Kind, uint8(r.kind)), append(s.Native, r.native), append(s.Unit, ""), append(s.Help, "")
		s.Labels, s.LastSeen = append(s.Labels, r.labels), append(s.LastSeen, r.seen)
	}
	rows := &pipeline.Rollups{}
	for key, r := range w.rollups {
		rows.Grain, rows.Tenant, rows.Metric, rows.Service = append(rows.Grain, pipeline.GrainSeries), append(rows.Tenant, string(key.tenant)), append(rows.Metric, r.metric), append(rows.Service, "")
		rows.Series, rows.Pane, rows.Count = append(rows.Series, key.id), append(rows.Pane, key.pane), append(rows.Count, 1)
		rows.Sum, rows.Min, rows.Max = append(rows.Sum, r.value), append(rows.Min, r.value), append(rows.Max, r.value)
		rows.LastTime, rows.Last, rows.LastHist = append(rows.LastTime, r.time), append(rows.Last, r.value), append(rows.LastHist, string(r.hist))
		rows.Sketch = (&sketches.Sketch{}).AppendDD(rows.Sketch)
	}
	encoder := clickhouse.Encoder{}
	block, err := encoder.EncodeSeries(nil, s)
	if err == nil {
		err = w.client.Insert(w.t.Context(), pipeline.TableSeries, "corpus/series", len(s.ID), block)
	}
	if err == nil {
		block, err = encoder.EncodeRollups(nil, rows)
	}
	if err == nil {
		err = w.client.Insert(w.t.Context(), pipeline.TableRollups, "corpus/rollups", len(rows.Grain), block)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Logf("%d series, %d panes", len(s.ID), len(rows.Grain))
}

// ownHistogram is a sample as the gateway hands it on.
func ownHistogram(h *histogram.FloatHistogram) *events.Histogram {
	first := int32(1)
	if h.UsesCustomBuckets() {
		first = 0
	}
	dense := func(spans []histogram.Span, counts []float64) (b events.Buckets) {
		at := -first
		for i, s := range spans {
			at += s.Offset
			if i == 0 {
				b.Offset = at
			}
			for int32(len(b.Counts)) < at-b.Offset {
				b.Counts = append(b.Counts, 0)
			}
			for range s.Length {
				b.Counts = append(b.Counts, counts[0])
				counts = counts[1:]
				at++
			}
		}
		return b
	}
	return &events.Histogram{
		Scale: h.Schema, ZeroThreshold: h.ZeroThreshold, ZeroCount: h.ZeroCount, Count: h.Count, Sum: h.Sum, Min: math.NaN(), Max: math.NaN(),
		Positive: dense(h.PositiveSpans, h.PositiveBuckets), Negative: dense(h.NegativeSpans, h.NegativeBuckets), Bounds: h.CustomValues,
	}
}
