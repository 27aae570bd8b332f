package pipeline_test

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
)

// start is the clock at the beginning of every test; it lies on the border of a pane.
var start = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// oracle is the naive recount: a plain loop over the accepted events, with nothing of the package under test but
// the names of its rows.
type oracle struct{ cells map[cellKey]*cell }

func (o *oracle) cell(grain pipeline.Grain, tenant, metric, service string, id series.ID, t int64) *cell {
	key := cellKey{grain, tenant, metric, service, id, uint32(t / 1e9 / 10 * 10)}
	c := o.cells[key]
	if c == nil {
		c = &cell{min: math.Inf(1), max: math.Inf(-1)}
		o.cells[key] = c
	}
	return c
}

func (c *cell) value(v float64) {
	c.count++
	c.sum += v
	c.min, c.max = min(c.min, v), max(c.max, v)
}

func (o *oracle) metric(m *events.Metric) {
	ls := slices.Clone(m.Labels)
	slices.SortFunc(ls, func(a, b series.Label) int { return cmp.Compare(a.Name, b.Name) })
	kind := m.Kind
	if m.Histogram != nil && kind == events.Delta {
		kind = events.Observation
	}
	id := series.Hash(series.AppendKey(nil, byte(kind), m.Name, ls))
	service := ls.Get("service")
	cells := []*cell{o.cell(pipeline.GrainSeries, m.Tenant, m.Name, service, id, m.Time)}
	if kind <= events.Delta {
		cells = append(cells, o.cell(pipeline.GrainService, m.Tenant, m.Name, service, series.ID{}, m.Time))
	}
	for _, c := range cells {
		switch h := m.Histogram; {
		case m.Stale:
			c.level(m.Time, math.Inf(-1), "\x00")
		case h != nil && kind == events.Observation:
			c.count += uint64(h.Count)
			c.sum += h.Sum
			if !math.IsNaN(h.Min) {
				c.min = min(c.min, h.Min)
			}
			if !math.IsNaN(h.Max) {
				c.max = max(c.max, h.Max)
			}
			c.sketch.AddN(0, h.ZeroCount)
			for j, n := range h.Positive.Counts {
				c.sketch.AddN(math.Exp2((float64(h.Positive.Offset)+float64(j)+.5)/64), n)
			}
		case h != nil:
			c.count++
			c.level(m.Time, h.Sum, string(pipeline.AppendHistogram(nil, h)))
		default:
			c.value(m.Value)
			if kind == events.Observation {
				c.sketch.Add(m.Value)
			} else if kind > events.Delta {
				c.level(m.Time, m.Value, "")
			}
		}
	}
}

func (o *oracle) span(s *events.Span) {
	m := events.Metric{Tenant: s.Tenant, Time: s.Time, Name: "span_duration_seconds", Value: float64(s.Duration) / 1e9}
	add := func(name, value string) {
		if value != "" {
			m.Labels = append(m.Labels, series.Label{Name: name, Value: value})
		}
	}
	add("service", s.Service)
	add("span_name", s.Name)
	add("span_kind", s.Kind)
	add("status", s.Status)
	add("http_route", s.Route)
	if s.StatusCode > 0 {
		add("http_status_class", fmt.Sprintf("%dxx", s.StatusCode/100))
	}
	add("peer", s.Peer)
	o.metric(&m)
}

func (o *oracle) log(l *events.Log) {
	o.metric(&events.Metric{Tenant: l.Tenant, Time: l.Time, Name: "log_records_total", Kind: events.Delta, Value: 1,
		Labels: series.Labels{{Name: "service", Value: l.Service}, {Name: "severity", Value: l.Severity}}})
}

func (o *oracle) compare(got map[cellKey]*cell) error {
	for key, want := range o.cells {
		have := got[key]
		if have == nil {
			return fmt.Errorf("%+v: got no row, want %s", key, want)
		}
		if have.String() != want.String() {
			return fmt.Errorf("%+v:\n got  %s\n want %s", key, have, want)
		}
	}
	for key, have := range got {
		if o.cells[key] == nil {
			return fmt.Errorf("%+v: got %s, want no row", key, have)
		}
	}
	return nil
}

// generated is one random record and what is to become of it.
type generated struct {
	record pipeline.Record
	letter string // value of vigie-dlq-events of its dead letter; "-" = none
}

var (
	tenantNames = []string{"acme", "demo", "zeta"}
	dyadic      = rapid.Custom(func(t *rapid.T) float64 { return float64(rapid.IntRange(-4096, 1<<20).Draw(t, "n")) / 64 })
)

// drawRecord makes a record of the tenant in the order of its partition, and counts it in the oracle.
func drawRecord(t *rapid.T, o *oracle, signal events.Signal, offset int64) generated {
	tenant := rapid.SampledFrom(tenantNames).Draw(t, "tenant")
	n := rapid.IntRange(1, 4).Draw(t, "events")
	var value []byte
	var refused []string
	w := rapid.SampledFrom([]spelling{inJSON, inProtobuf}).Draw(t, "spelling")
	for i := range n {
		var good bool
		if value, good = drawEvent(t, o, w, value, tenant, signal); !good {
			refused = append(refused, fmt.Sprint(i))
		}
	}
	g := generated{letter: "-", record: pipeline.Record{
		Offset: offset, Timestamp: start.UnixNano(), Key: []byte(tenant + "#3"), Value: value,
		Headers: []pipeline.Header{{Key: "trace", Value: []byte("x")}},
	}}
	switch {
	case len(refused) == n:
		g.letter = ""
	case len(refused) > 0:
		g.letter = strings.Join(refused, ",")
	}
	return g
}

// spelling writes events one after the other, or no event.
type spelling struct {
	metric func([]byte, *events.Metric) []byte
	span   func([]byte, *events.Span) []byte
	log    func([]byte, *events.Log) []byte
	bad    map[events.Signal]string
}

var (
	inJSON = spelling{
		func(dst []byte, m *events.Metric) []byte { return append(events.AppendMetric(dst, m), '\n') },
		func(dst []byte, s *events.Span) []byte { return append(events.AppendSpan(dst, s), '\n') },
		func(dst []byte, l *events.Log) []byte { return append(events.AppendLog(dst, l), '\n') },
		map[events.Signal]string{events.Metrics: `{"time":"soon"}` + "\n", events.Spans: `{"time":"soon"}` + "\n",
			events.Logs: `{"time":"soon"}` + "\n"},
	}
	inProtobuf = spelling{
		events.AppendMetricProtobuf, events.AppendSpanProtobuf, events.AppendLogProtobuf,
		map[events.Signal]string{events.Metrics: "\x12\x01\x09", events.Spans: "\x1a\x00", events.Logs: "\x22\x02\x12\x05"},
	}
)

func drawEvent(t *rapid.T, o *oracle, w spelling, dst []byte, tenant string, signal events.Signal) (_ []byte, good bool) {
	// A fifth of the events is too old, too new or no event.
	at := start.Add(-time.Duration(rapid.IntRange(0, 45_000).Draw(t, "ago")) * time.Millisecond).UnixNano()
	switch rapid.IntRange(0, 20).Draw(t, "fate") {
	case 0:
		return append(dst, w.bad[signal]...), false
	case 1:
		at, good = start.Add(-73*time.Hour).UnixNano(), false
	case 2:
		at, good = start.Add(time.Hour).UnixNano(), false
	default:
		good = true
	}
	pick := func(name string, of ...string) string { return rapid.SampledFrom(of).Draw(t, name) }
	switch signal {
	case events.Spans:
		s := events.Span{Tenant: tenant, Time: at, Duration: int64(rapid.IntRange(0, 1000).Draw(t, "d")) * 15625 * 1000,
			Service: pick("service", "shop", "cart"), Name: pick("name", "GET /", "POST /pay"), Kind: "server",
			Status: pick("status", "ok", "error"), StatusCode: rapid.SampledFrom([]int{0, 200, 404, 503}).Draw(t, "code"),
			Peer: pick("peer", "", "db")}
		if good {
			o.span(&s)
		}
		return w.span(dst, &s), good
	case events.Logs:
		l := events.Log{Tenant: tenant, Time: at, Service: pick("service", "shop", "cart"),
			Severity: pick("severity", "info", "error"), Body: "b"}
		if good {
			o.log(&l)
		}
		return w.log(dst, &l), good
	}
	m := events.Metric{Tenant: tenant, Time: at, Name: pick("metric", "a", "b_seconds"),
		Kind: events.Kind(rapid.IntRange(0, 3).Draw(t, "kind")), Value: dyadic.Draw(t, "value")}
	if s := pick("service", "", "shop", "cart"); s != "" {
		m.Labels = series.Labels{{Name: "service", Value: s}}
	}
	m.Labels = append(m.Labels, series.Label{Name: "z", Value: pick("z", "1", "2", "3")})
	if m.Kind >= events.Gauge && rapid.IntRange(0, 5).Draw(t, "stale") == 0 {
		m.Stale, m.Value = true, 0
	} else if rapid.IntRange(0, 5).Draw(t, "hist") == 0 {
		m.Histogram = drawHistogram(t)
		if h := m.Histogram; m.Kind >= events.Gauge && rapid.Bool().Draw(t, "bounds") {
			h.Scale, h.Positive.Offset, h.Count, h.ZeroCount = events.CustomScale, 1, h.Count-h.ZeroCount, 0
			for i := range h.Positive.Counts {
				h.Bounds = append(h.Bounds, float64(i))
			}
		}
	}
	if good {
		o.metric(&m)
	}
	return w.metric(dst, &m), good
}

func drawHistogram(t *rapid.T) *events.Histogram {
	h := &events.Histogram{Scale: 6, Sum: dyadic.Draw(t, "sum"), Min: math.NaN(), Max: math.NaN(),
		ZeroCount: float64(rapid.IntRange(0, 3).Draw(t, "zeros"))}
	h.Count = h.ZeroCount
	h.Positive.Offset = int32(rapid.IntRange(-100, 100).Draw(t, "offset"))
	for range rapid.IntRange(1, 40).Draw(t, "buckets") {
		n := float64(rapid.IntRange(0, 9).Draw(t, "count"))
		h.Positive.Counts = append(h.Positive.Counts, n)
		h.Count += n
	}
	if rapid.Bool().Draw(t, "extremes") {
		h.Min, h.Max = 0.5, 4
	}
	return h
}

// Whatever the order, the batches, the aborts, the crashes and the number of partitions and workers: storage says what
// a plain loop over the accepted events says, and every refused event is in exactly one dead letter.
func TestRecount(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := &oracle{cells: map[cellKey]*cell{}}
		enc, st := &copyEncoder{}, newStore()
		letters := map[string]string{} // by partition and offset
		var parts []*fakePartition
		for p := range rapid.IntRange(1, 4).Draw(t, "partitions") {
			signal := rapid.SampledFrom([]events.Signal{events.Metrics, events.Spans, events.Logs}).Draw(t, "signal")
			part := &fakePartition{Partition: pipeline.Partition{Topic: "vigie." + string(signal) + ".v1", Partition: int32(p)},
				signal: signal, numbered: true}
			for offset := range rapid.IntRange(0, 25).Draw(t, "records") {
				g := drawRecord(t, o, signal, int64(offset))
				part.records = append(part.records, g.record)
				if g.letter != "-" {
					letters[fmt.Sprint(p, "/", offset)] = g.letter
				}
			}
			parts = append(parts, part)
		}
		workers := rapid.IntRange(1, 2).Draw(t, "workers")
		for slot := range workers {
			var mine []*fakePartition
			for i, p := range parts {
				if i%workers == slot {
					mine = append(mine, p)
				}
			}
			work(t, mine, st, enc)
		}
		if err := o.compare(st.cells); err != nil {
			t.Fatal(err)
		}
		for key, c := range st.cells {
			if c.count > 0 && key.grain == pipeline.GrainSeries && st.announced[key.tenant][key.id] == nil {
				t.Fatalf("%+v: got rows of a series that was never announced", key)
			}
		}
		checkLetters(t, st.letters, letters)
	})
}

// work runs one worker over partitions until all is committed, with random batches, aborts and crashes.
func work(t *rapid.T, parts []*fakePartition, st *store, enc *copyEncoder) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	clock := &fakeClock{at: start}
	trouble := rapid.IntRange(0, 6).Draw(t, "trouble")
	log := &fakeLog{parts: parts, store: st, enc: enc, clock: clock, done: cancel,
		take: func(most int) int { return rapid.IntRange(0, most).Draw(t, "take") },
		abort: func() bool {
			if trouble == 0 || !rapid.Bool().Draw(t, "abort") {
				return false
			}
			trouble--
			return true
		},
	}
	cfg := pipeline.DefaultConfig()
	cfg.BlockRows = rapid.SampledFrom([]int{1, 3, 100_000}).Draw(t, "block")
	cfg.ProgressEvery = 100 * time.Millisecond
	w := pipeline.NewWorker(pipeline.WorkerConfig{Config: cfg, Open: log.open, Encoder: enc, Now: clock.now})
	if err := w.Run(ctx); err != nil {
		t.Fatal(err)
	}
	for _, p := range parts {
		if p.committed != len(p.records) {
			t.Fatalf("partition %v: got %d records committed, want %d", p.Partition, p.committed, len(p.records))
		}
	}
}

func checkLetters(t *rapid.T, got []pipeline.Message, want map[string]string) {
	seen := map[string]bool{}
	for i := range got {
		m := &got[i]
		at := header(m, pipeline.HeaderDLQPartition) + "/" + header(m, pipeline.HeaderDLQOffset)
		if seen[at] {
			t.Fatalf("record %s: got two dead letters, want one", at)
		}
		seen[at] = true
		if list, ok := want[at]; !ok || list != header(m, pipeline.HeaderDLQEvents) {
			t.Fatalf("record %s: got events %q, want %q (%v)", at, header(m, pipeline.HeaderDLQEvents), list, ok)
		}
	}
	if len(seen) != len(want) {
		t.Fatalf("got %d dead letters, want %d", len(seen), len(want))
	}
}
