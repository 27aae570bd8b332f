package verify_test

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/pipeline/rollup"
	"github.com/vigie-io/vigie/internal/pipeline/verify"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/internal/units"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
	"github.com/vigie-io/vigie/pkg/sketches"
)

var now = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// fakeSource is a topic of several partitions. Its records are processed by real tasks when they are to be settled.
type fakeSource struct {
	signal  events.Signal
	records map[int32][]pipeline.Record
	starts  verify.Offsets
	tasks   map[int32]*pipeline.Task
	done    map[int32]int
	letters []verify.Refusal
	store   *fakeStore
	limits  func() *tenants.Config // nil: the defaults
	rollups []rollup.Declared
	grow    func()      // called by Span, but for the first call
	clock   int64       // Unix ms before which nothing is processed
	delays  func() bool // nil, or says whether the epoch goes on behind a record
	windows windowTable
	spans   int
	reads   int
}

func newSource(signal events.Signal) *fakeSource {
	return &fakeSource{
		signal: signal, records: map[int32][]pipeline.Record{}, starts: verify.Offsets{}, tasks: map[int32]*pipeline.Task{},
		done: map[int32]int{}, windows: windowTable{}, store: &fakeStore{rows: map[string]map[verify.Key]*row{}},
	}
}

func (s *fakeSource) add(partition int32, tenant string, at time.Time, value []byte) {
	s.records[partition] = append(s.records[partition], pipeline.Record{
		Offset: int64(len(s.records[partition])), Timestamp: at.UnixNano(), Key: []byte(tenant), Value: value,
	})
}

func (s *fakeSource) Span(context.Context, time.Time) (verify.Span, error) {
	if s.spans++; s.spans > 1 && s.grow != nil {
		s.grow()
	}
	span := verify.Span{From: maps.Clone(s.starts), To: verify.Offsets{}, Cut: map[int32]time.Time{}}
	for partition, records := range s.records {
		span.To[partition] = int64(len(records))
		if start := s.starts[partition]; start > 0 {
			span.Cut[partition] = time.Unix(0, records[start].Timestamp)
		}
	}
	return span, nil
}

// Settle processes everything, also what came after end: a store is never at the very end that was asked for.
func (s *fakeSource) Settle(context.Context, verify.Offsets) error {
	cfg := pipeline.DefaultConfig()
	cfg.Rollups = s.rollups
	for partition, records := range s.records {
		task := s.tasks[partition]
		at := pipeline.Partition{Topic: "t", Partition: partition}
		if task == nil {
			task = pipeline.NewTask(pipeline.TaskConfig{Partition: at, Signal: s.signal, Config: cfg, Limits: s.limits})
			s.tasks[partition] = task
		}
		drain := func(clock int64) {
			out := pipeline.NewOutputs(&cfg)
			task.SetReach(pipeline.Reach{Partition: at, Signal: s.signal, Through: clock})
			task.Drain(out, clock)
			task.Committed(true)
			s.take(out)
		}
		open, ended := false, int64(0)
		rest := records[s.done[partition]:]
		for i, r := range rest {
			clock := max(r.Timestamp/1e6, s.clock)
			for ; !open && ended > 0 && ended < clock; ended += 10_000 { // time passes
				drain(ended)
			}
			task.Step(&pipeline.Chunk{Partition: at, Signal: s.signal, Records: []pipeline.Record{r}}, clock)
			if open = s.delays != nil && i+1 < len(rest) && s.delays(); !open {
				drain(clock)
				ended = clock
			}
		}
		s.done[partition] = len(records)
	}
	return nil
}

func (s *fakeSource) take(out *pipeline.Outputs) {
	for _, rows := range out.Rollups {
		s.store.insert(rows)
	}
	for _, rows := range out.Windows.Blocks {
		s.windows.insert(rows)
	}
	for i := range out.Letters {
		s.letters = append(s.letters, refusal(&out.Letters[i]))
	}
}

func refusal(m *pipeline.Message) verify.Refusal {
	r := verify.Refusal{At: now.UnixMilli()}
	for _, h := range m.Headers {
		n, _ := strconv.ParseInt(string(h.Value), 10, 64)
		switch h.Key {
		case pipeline.HeaderDLQReason:
			r.Reason = events.Reason(h.Value)
		case pipeline.HeaderDLQPartition:
			r.Partition = int32(n)
		case pipeline.HeaderDLQOffset:
			r.Offset = n
		case pipeline.HeaderDLQTimestamp:
			r.Timestamp = n
		case pipeline.HeaderDLQEvents:
			for part := range strings.SplitSeq(string(h.Value), ",") {
				if n, err := strconv.Atoi(part); err == nil {
					r.Events = append(r.Events, n)
				}
			}
		}
	}
	return r
}

func (s *fakeSource) Records(_ context.Context, from, to verify.Offsets, fn func(int32, *pipeline.Record) error) error {
	s.reads++
	for _, partition := range slices.Sorted(maps.Keys(to)) {
		for offset := from[partition]; offset < to[partition]; offset++ {
			if err := fn(partition, &s.records[partition][offset]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *fakeSource) Refusals(_ context.Context, _ time.Time, fn func(verify.Refusal) error) error {
	for _, r := range s.letters {
		if err := fn(r); err != nil {
			return err
		}
	}
	return nil
}

// row is a stored row with its sketch unpacked.
type row struct {
	verify.Row
	sketch sketches.Sketch
}

// fakeStore merges rows as the materialized views do.
type fakeStore struct {
	rows  map[string]map[verify.Key]*row
	asked int         // for rows, so many times
	mu    *sync.Mutex // nil where one has it for himself
}

// lock returns the opposite.
func (s *fakeStore) lock() (unlock func()) {
	if s.mu == nil {
		return func() {}
	}
	s.mu.Lock()
	return s.mu.Unlock
}

func (s *fakeStore) insert(rows *pipeline.Rollups) { s.insertInto(verify.Table{}, rows) }

// insertInto inserts into one table; without a name into all.
func (s *fakeStore) insertInto(into verify.Table, rows *pipeline.Rollups) {
	defer s.lock()()
	rest := rows.Sketch
	for i := range rows.Grain {
		var sketch sketches.Sketch
		n, err := sketch.DecodeDD(rest)
		if err != nil {
			panic(err)
		}
		rest = rest[n:]
		for _, table := range verify.Tables() {
			if table.Service != (rows.Grain[i] == pipeline.GrainService) || into.Name != "" && into != table {
				continue
			}
			all := s.rows[table.Name]
			if all == nil {
				all = map[verify.Key]*row{}
				s.rows[table.Name] = all
			}
			key := verify.Key{Tenant: rows.Tenant[i], Metric: rows.Metric[i], Service: rows.Service[i], ID: rows.Series[i],
				Start: int64(rows.Pane[i]) / table.Width * table.Width}
			r := all[key]
			if r == nil {
				r = &row{Row: verify.Row{Key: key, Min: math.Inf(1), Max: math.Inf(-1)}}
				all[key] = r
			}
			r.Count += rows.Count[i]
			r.Sum += rows.Sum[i]
			r.Min, r.Max = min(r.Min, rows.Min[i]), max(r.Max, rows.Max[i])
			if c := cmp.Or(cmp.Compare(rows.LastTime[i], r.LastTime), cmp.Compare(rows.Last[i], r.Last), cmp.Compare(rows.LastHist[i], r.LastHist)); c > 0 {
				r.LastTime, r.Last, r.LastHist = rows.LastTime[i], rows.Last[i], rows.LastHist[i]
			}
			r.sketch.Merge(&sketch)
		}
	}
}

func (s *fakeStore) Rows(_ context.Context, q verify.Query, yield func(*verify.Row) error) error {
	defer s.lock()()
	s.asked++
	for key, r := range s.rows[q.Table.Name] {
		if !asks(&q, &key) {
			continue
		}
		r.Sketch = r.sketch.AppendDD(nil)
		if err := yield(&r.Row); err != nil {
			return err
		}
	}
	return nil
}

func (s *fakeStore) Next(_ context.Context, q verify.Query) (start int64, found bool, err error) {
	defer s.lock()()
	start = math.MaxInt64
	for key := range s.rows[q.Table.Name] {
		if asks(&q, &key) {
			start, found = min(start, key.Start), true
		}
	}
	return start, found, nil
}

func asks(q *verify.Query, key *verify.Key) bool {
	return key.Start >= q.From && key.Start < q.To && (q.Tenant == "" || key.Tenant == string(q.Tenant)) &&
		slices.Contains(q.Metrics, key.Metric) != q.Except
}

func config(signal events.Signal, table verify.Table) verify.Config {
	cfg := pipeline.DefaultConfig()
	return verify.Config{
		Signal: signal, Table: table, Memory: 64 << 20, MaxPast: cfg.MaxPast, MaxFuture: cfg.MaxFuture,
		WatermarkDelay: cfg.WatermarkDelay,
		MaxTenants:     cfg.MaxTenants, Limits: limits(1000), SeriesIdle: cfg.SeriesIdle, Now: now,
	}
}

// declared are rollups of all signals.
var declared = []rollup.Declared{
	{Name: "slow_seconds", From: events.Spans, Where: `duration_seconds > 2s && status_class != "4xx"`, By: []string{"service", "status_class"}, AlsoBy: [][]string{{"peer"}, {}}},
	{Name: "spans_total", From: events.Spans, Measure: "events", By: []string{"name"}, Tenants: []tenants.ID{"acme"}},
	{Name: "errors_total", From: events.Logs, Where: `severity == "error"`, By: []string{"service"}},
	{Name: "a_by_service", From: events.Metrics, Where: `name == "a" && value > 0`, By: []string{"service"}},
	{Name: "events_total", From: events.Metrics, Measure: "events", AlsoBy: [][]string{{"name", "shop.id"}}},
	{Name: "grown_total", From: events.Metrics, Measure: "increase", By: []string{"service"}},
}

func run(t testing.TB, cfg verify.Config, s *fakeSource) (verify.Summary, []verify.Difference) {
	t.Helper()
	var found []verify.Difference
	sum, err := verify.Run(t.Context(), cfg, s, s.store, func(d verify.Difference) { found = append(found, d) })
	if err != nil {
		t.Fatal(err)
	}
	if sum.Differences != len(found) {
		t.Fatalf("got %d differences reported, %d in the summary", len(found), sum.Differences)
	}
	return sum, found
}

// drawEvent appends an event; a few are no events, or out of time.
func drawEvent(t *rapid.T, dst []byte, signal events.Signal, tenant string, protobuf bool) []byte {
	at := now.Add(-time.Duration(rapid.IntRange(0, 7_000_000).Draw(t, "ago")) * time.Millisecond).UnixNano()
	switch rapid.IntRange(0, 12).Draw(t, "fate") {
	case 0:
		if protobuf {
			return append(dst, "\x12\x01\x09"...)
		}
		return append(dst, `{"time":"soon"}`...)
	case 1:
		at = now.Add(-73 * time.Hour).UnixNano()
	case 2:
		at = now.Add(time.Hour).UnixNano()
	}
	pick := func(name string, of ...string) string { return rapid.SampledFrom(of).Draw(t, name) }
	switch signal {
	case events.Spans:
		s := events.Span{Tenant: tenant, Time: at, Duration: rapid.Int64Range(0, 1e10).Draw(t, "d"),
			Service: pick("service", "shop", "cart"), Name: pick("name", "GET /", "POST /pay"), Kind: "server", Status: "ok",
			StatusCode: rapid.SampledFrom([]int{0, 99, 200, 404, 599, 600}).Draw(t, "code"), Peer: pick("peer", "", "db")}
		if protobuf {
			return events.AppendSpanProtobuf(dst, &s)
		}
		return events.AppendSpan(dst, &s)
	case events.Logs:
		l := events.Log{Tenant: tenant, Time: at, Service: pick("service", "shop", "cart"),
			Severity: pick("severity", "info", "error"), Body: "b"}
		if protobuf {
			return events.AppendLogProtobuf(dst, &l)
		}
		return events.AppendLog(dst, &l)
	}
	m := events.Metric{Tenant: tenant, Time: at, Name: pick("metric", "a", "b_seconds"),
		Kind:  events.Kind(rapid.IntRange(0, 3).Draw(t, "kind")),
		Value: rapid.Float64Range(-1e3, 1e3).Draw(t, "value"), Labels: series.Labels{{Name: "service",
			Value: pick("service", "shop", "cart")}}}
	if m.Kind >= events.Gauge && rapid.IntRange(0, 5).Draw(t, "stale") == 0 {
		m.Stale, m.Value = true, 0
	} else if rapid.IntRange(0, 3).Draw(t, "hist") == 0 {
		h := &events.Histogram{Scale: int32(rapid.IntRange(0, 9).Draw(t, "scale")), Sum: m.Value, Min: math.NaN(),
			Max: math.NaN(), ZeroCount: 2, Count: 2}
		h.Positive.Offset = int32(rapid.IntRange(-200, 200).Draw(t, "offset"))
		for range rapid.IntRange(1, 20).Draw(t, "buckets") {
			n := float64(rapid.IntRange(0, 9).Draw(t, "n"))
			h.Positive.Counts, h.Count = append(h.Positive.Counts, n), h.Count+n
		}
		if m.Kind >= events.Gauge && rapid.Bool().Draw(t, "bounds") {
			h.Scale, h.Positive.Offset, h.Count, h.ZeroCount = events.CustomScale, 0, h.Count-h.ZeroCount, 0
			for i := range h.Positive.Counts {
				h.Bounds = append(h.Bounds, float64(i))
			}
		}
		m.Histogram = h
	}
	if protobuf {
		return events.AppendMetricProtobuf(dst, &m)
	}
	return events.AppendMetric(dst, &m)
}

func drawTopic(t *rapid.T, s *fakeSource) {
	for range rapid.IntRange(1, 40).Draw(t, "records") {
		var value []byte
		tenant := rapid.SampledFrom([]string{"acme", "demo"}).Draw(t, "tenant")
		protobuf := rapid.Bool().Draw(t, "protobuf")
		for i := range rapid.IntRange(1, 5).Draw(t, "events") {
			if i > 0 && !protobuf {
				value = append(value, '\n')
			}
			value = drawEvent(t, value, s.signal, tenant, protobuf)
		}
		s.add(int32(rapid.IntRange(0, 2).Draw(t, "partition")), tenant, now, value)
	}
}

// What the pipeline stores equals the recount in every table, in one pass or many; any change of any stored number is
// found, and nothing else.
func TestRecountAndEveryChange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		signal := rapid.SampledFrom([]events.Signal{events.Metrics, events.Spans, events.Logs}).Draw(t, "signal")
		s := newSource(signal)
		s.rollups = declared
		drawTopic(t, s)
		cfg := config(signal, rapid.SampledFrom(verify.Tables()).Draw(t, "table"))
		cfg.Rollups = declared
		cfg.Memory = units.Bytes(rapid.SampledFrom([]int{20_000, 64 << 20}).Draw(t, "memory"))
		var found []verify.Difference
		sum, err := verify.Run(context.Background(), cfg, s, s.store, func(d verify.Difference) { found = append(found, d) })
		if err != nil && cfg.Memory < 1<<20 {
			t.Skip("one pane needs more") // of which TestOnePaneTooLarge
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(found) > 0 {
			t.Fatalf("got differences %v, want none", found)
		}
		rows := s.store.rows[cfg.Table.Name]
		if sum.Rows != len(rows) {
			t.Fatalf("got %d rows compared, want %d", sum.Rows, len(rows))
		}
		if len(rows) == 0 {
			return
		}
		key := rapid.SampledFrom(slices.SortedFunc(maps.Keys(rows), func(a, b verify.Key) int {
			return cmp.Or(cmp.Compare(a.Start, b.Start), a.ID.Compare(b.ID),
				cmp.Compare(a.Tenant+a.Metric+a.Service, b.Tenant+b.Metric+b.Service))
		})).Draw(t, "row")
		r := rows[key]
		switch change := rapid.IntRange(0, 6).Draw(t, "change"); change {
		case 0:
			r.Count++
		case 1:
			r.Sum += max(math.Abs(r.Sum), 1) * 1e-3
		case 2:
			r.Min--
			if math.IsInf(r.Min, 1) {
				r.Min = 0
			}
		case 3:
			r.Max += 1
			if math.IsInf(r.Max, -1) {
				r.Max = 0
			}
		case 4:
			r.sketch.Add(3)
		case 5:
			delete(rows, key)
		case 6:
			other := *r
			other.Metric = "other"
			if signal != events.Metrics {
				return // rows of another metric are another topic's
			}
			rows[other.Key] = &other
			key = other.Key
		}
		found = nil
		if _, err := verify.Run(context.Background(), cfg, s, s.store,
			func(d verify.Difference) { found = append(found, d) }); err != nil {
			t.Fatal(err)
		}
		if len(found) != 1 || found[0].Key != key {
			t.Fatalf("got differences %v, want one of %+v", found, key)
		}
	})
}

func observation(tenant string, at time.Time) []byte {
	return events.AppendMetric(nil,
		&events.Metric{Tenant: tenant, Time: at.UnixNano(), Name: "a", Value: 0.5,
			Labels: series.Labels{{Name: "service", Value: "s"}}})
}

func TestOnePaneTooLarge(t *testing.T) {
	s := newSource(events.Metrics)
	for i := range 100 {
		s.add(0, "acme", now, events.AppendMetric(nil, &events.Metric{Tenant: "acme", Time: now.UnixNano(), Name: fmt.Sprintf("m%d", i), Value: 1}))
	}
	cfg := config(events.Metrics, verify.Tables()[0])
	cfg.Memory = 4000
	if _, err := verify.Run(t.Context(), cfg, s, s.store, nil); err == nil || !strings.Contains(err.Error(), "-memory") {
		t.Fatalf("got %v, want to be told of -memory", err)
	}
}

// Late events that are stored while we compare are no difference.
func TestLateEventsWhileComparing(t *testing.T) {
	s := newSource(events.Metrics)
	s.add(0, "acme", now, observation("acme", now.Add(-time.Minute)))
	left := 3
	s.grow = func() {
		if left--; left >= 0 {
			s.add(0, "acme", now, observation("acme", now.Add(-time.Minute)))
			_ = s.Settle(t.Context(), nil)
		}
	}
	sum, found := run(t, config(events.Metrics, verify.Tables()[0]), s)
	if len(found) > 0 || sum.Rows != 1 {
		t.Fatalf("got %d rows and differences %v, want one row and none", sum.Rows, found)
	}
	if len(sum.Notes) != 1 || !strings.Contains(sum.Notes[0], "being written") {
		t.Errorf("got notes %q, want one that the topic is being written to", sum.Notes)
	}
}

// waits counts how often it is waited for results.
type waits struct {
	*fakeSource
	times int
}

func (w *waits) Settle(ctx context.Context, end verify.Offsets) error {
	w.times++
	return w.fakeSource.Settle(ctx, end)
}

// Who compares all tables waits once for what the records before some end have come to, and compares each with those.
// Later events are no difference, also when they are stored in the panes that are compared.
func TestSettledOnce(t *testing.T) {
	s := newSource(events.Metrics)
	s.add(0, "acme", now, observation("acme", now.Add(-2*time.Hour)))
	w := &waits{fakeSource: s}
	var settled verify.Offsets
	for i, table := range verify.Tables() {
		cfg := config(events.Metrics, table)
		cfg.Settled = settled
		sum, err := verify.Run(t.Context(), cfg, w, s.store, func(d verify.Difference) { t.Errorf("%s: %s", table.Name, d) })
		if err != nil || sum.Rows != 1 || sum.Settled[0] != 1 || w.times != 1+i {
			t.Fatalf("%s: got %d rows, settled up to %v, after waiting %d times, %v; want a row, up to 1, and %d",
				table.Name, sum.Rows, sum.Settled, w.times, err, 1+i)
		}
		settled = sum.Settled
		s.add(0, "acme", now, observation("acme", now.Add(-2*time.Hour))) // so that the next one has to look again
		_ = s.Settle(t.Context(), nil)
	}
}

// What a table may keep and does not have is passed, in front of what is there and between.
func TestEmptyTimesAreNotRead(t *testing.T) {
	s := newSource(events.Metrics)
	for _, ago := range []time.Duration{time.Minute, 50 * time.Hour} {
		s.add(0, "acme", now.Add(-ago), observation("acme", now.Add(-ago)))
	}
	for _, table := range verify.Tables() {
		s.store.asked = 0
		sum, found := run(t, config(events.Metrics, table), s)
		if len(found) > 0 || sum.Rows != 2 || s.store.asked > 4 {
			t.Errorf("%s: got %d rows in %d reads and differences %v, want 2 rows in 4 reads at most", table.Name, sum.Rows,
				s.store.asked, found)
		}
	}
}

// Panes of which retention may have cut records are left out, and said.
func TestRetention(t *testing.T) {
	s := newSource(events.Metrics)
	s.add(0, "acme", now.Add(-time.Hour), observation("acme", now.Add(-time.Hour)))
	s.add(0, "acme", now.Add(-30*time.Minute), observation("acme", now.Add(-time.Hour)))
	s.add(0, "acme", now.Add(-time.Minute), observation("acme", now.Add(-time.Minute)))
	if err := s.Settle(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	s.starts[0] = 1
	cfg := config(events.Metrics, verify.Tables()[0])
	cfg.MaxFuture = 0
	sum, found := run(t, cfg, s)
	// the first pane is partly gone; that of the newest of the records looked at may be, too
	if len(found) > 0 || len(sum.Notes) != 1 || !strings.Contains(sum.Notes[0], "retention") {
		t.Fatalf("got differences %v and notes %q, want a note on retention only", found, sum.Notes)
	}
}

// Hours that a backfill has added to are held to what the topic says at least, and are not comparable.
func TestBackfilledHours(t *testing.T) {
	for _, table := range verify.Tables() {
		s := newSource(events.Metrics)
		s.add(0, "acme", now, observation("acme", now.Add(-time.Minute)))
		s.add(0, "acme", now, events.AppendMetric(nil, &events.Metric{Tenant: "acme", Time: now.Add(-time.Minute).UnixNano(), Name: "b", Value: 1}))
		other := newSource(events.Metrics)
		other.store = s.store // as files would
		other.add(1, "acme", now, observation("acme", now.Add(-time.Minute)))
		other.add(1, "acme", now, observation("acme", now.Add(-50*time.Minute)))
		if err := other.Settle(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		cfg := config(events.Metrics, table)
		if _, found := run(t, cfg, s); len(found) == 0 {
			t.Errorf("%s: got no difference, want rows that are of no topic", table.Name)
		}
		cfg.Added = func(_, metric string, _ int64) bool { return metric == "a" }
		sum, found := run(t, cfg, s)
		if len(found) > 0 || sum.Rows != 1 || sum.Incomparable == 0 {
			t.Errorf("%s: got %v of %+v, want one row compared, the others not comparable", table.Name, found, sum)
		}
		for _, r := range s.store.rows[table.Name] {
			r.Count = 0 // of all
		}
		if _, found := run(t, cfg, s); len(found) != 2 {
			t.Errorf("%s: got %v, want the row that holds less than the topic says, and the other", table.Name, found)
		}
	}
}

// An event is either counted or in a dead letter.
func TestEveryRefusalHasItsLetter(t *testing.T) {
	s := newSource(events.Metrics)
	s.add(0, "acme", now, []byte(`{"time":"soon"}`))
	s.add(0, "acme", now, observation("acme", now.Add(-80*time.Hour)))
	if sum, found := run(t, config(events.Metrics, verify.Tables()[0]), s); len(found) > 0 || sum.Refused != 2 {
		t.Fatalf("got %d refused and differences %v, want 2 and none", sum.Refused, found)
	}
	s.letters = s.letters[1:]
	if _, found := run(t, config(events.Metrics, verify.Tables()[0]), s); len(found) != 1 ||
		!strings.Contains(found[0].What, "in no dead letter") {
		t.Fatalf("got %v, want the event without a letter", found)
	}
	good := newSource(events.Metrics)
	good.add(0, "acme", now, observation("acme", now.Add(-time.Minute)))
	good.letters = []verify.Refusal{{Timestamp: now.UnixMilli(), At: now.UnixMilli()}}
	if _, found := run(t, config(events.Metrics, verify.Tables()[0]), good); len(found) != 2 {
		t.Fatalf("got %v, want the letter without a reason, and the row that nothing counts for", found)
	}
}

// Limits of labels that changed while records were processed are no difference: the letters say what was refused.
func TestLabelLimitsThatChanged(t *testing.T) {
	of := func(labels int) *tenants.Config {
		c := tenants.DefaultConfig()
		c.Overrides = map[tenants.ID]tenants.Limits{"acme": {MaxLabels: labels}}
		return &c
	}
	s := newSource(events.Metrics)
	event := func(age time.Duration, labels string) string {
		return fmt.Sprintf(`{"name":"m","value":1,"time":%d,"labels":{%s}}`, now.Add(-age).UnixMilli(), labels)
	}
	long := `"a":"1","b":"2","c":"3"`
	send := func(labels int) {
		t.Helper()
		limits := of(labels)
		s.limits = func() *tenants.Config { return limits }
		clear(s.tasks)
		s.add(0, "acme", now, []byte(event(time.Minute, long)))
		s.add(0, "acme", now, []byte("["+event(time.Minute, `"a":"1"`)+","+event(time.Minute, long)+"]"))
		s.add(0, "acme", now, []byte("["+event(1e6*time.Hour, `"a":"1"`)+","+event(time.Minute, long)+"]")) // the letter's reason is the time's
		if err := s.Settle(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	send(64)
	send(2)
	if len(s.letters) != 4 {
		t.Fatalf("got %d letters, want 4: one for a time, three for labels", len(s.letters))
	}
	cfg := config(events.Metrics, verify.Tables()[0])
	cfg.Limits = of(2).For
	if sum, found := run(t, cfg, s); len(found) > 0 || sum.Events != 5 || sum.Refused != 5 {
		t.Errorf("got %v of %+v, want no difference in 5 events and 5 refusals", found, sum)
	}
	// An event that no letter names has to be stored.
	s.add(0, "acme", now, []byte(event(time.Minute, long)))
	s.done[0]++
	if _, found := run(t, cfg, s); len(found) != 1 {
		t.Errorf("got %v, want the event that is neither stored nor in a letter", found)
	}
}

// What a limit dropped cannot be told from what was lost, and that is said.
func TestLimitsAreNamed(t *testing.T) {
	s := newSource(events.Metrics)
	s.add(0, "acme", now, observation("acme", now.Add(-time.Minute)))
	s.add(0, "acme", now, events.AppendMetric(nil, &events.Metric{Tenant: "acme", Time: now.UnixNano(), Name: "b", Value: 1}))
	cfg := config(events.Metrics, verify.Tables()[0])
	cfg.Limits = limits(1)
	if sum, _ := run(t, cfg, s); len(sum.Notes) != 1 || !strings.Contains(sum.Notes[0], "limit") {
		t.Errorf("got notes %q, want one on the limit", sum.Notes)
	}
}

// limits are the defaults with another number of series.
func limits(series int) func(tenants.ID) tenants.Limits {
	l := tenants.DefaultConfig().Defaults
	l.ActiveSeries = series
	return func(tenants.ID) tenants.Limits { return l }
}

// What the rates dropped is known, and said.
func TestRatesAreRecounted(t *testing.T) {
	s := newSource(events.Metrics)
	l := tenants.DefaultConfig()
	l.Overrides = map[tenants.ID]tenants.Limits{"acme": {StreamEventsPerSecond: 3}}
	s.limits = func() *tenants.Config { return &l }
	for range 20 {
		s.add(0, "acme", now, observation("acme", now.Add(-time.Minute)))
		s.add(0, "acme", now.Add(2*time.Second), observation("acme", now.Add(-time.Minute)))
		s.add(1, "globex", now, observation("globex", now.Add(-time.Minute)))
	}
	cfg := config(events.Metrics, verify.Tables()[0])
	cfg.Limits = l.For
	sum, found := run(t, cfg, s)
	if len(found) > 0 || sum.Events != 12+20 || len(sum.Notes) != 1 ||
		!strings.Contains(sum.Notes[0], "28 events of 1 tenants are over the rates") {
		t.Errorf("got %d events, notes %q, differences %v; want 32, one note, none", sum.Events, sum.Notes, found)
	}
	// Records that were lost show, also of a tenant that is over its rates.
	for _, r := range s.store.rows["rollups_10s"] {
		if r.Tenant == "acme" {
			r.Count--
		}
	}
	if _, found := run(t, cfg, s); len(found) != 1 {
		t.Errorf("got %v, want the row that is short", found)
	}
}
