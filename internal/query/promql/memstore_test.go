package promql_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/internal/query/promql"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
	"github.com/vigie-io/vigie/pkg/sketches"
)

// event is what a test puts in: one observation, delta or sample.
type event struct {
	time  time.Time
	value float64
}

type stored struct {
	promql.Series
	unit, help string
	events     []event
	hists      []string // beside events, for native levels
	closed     []promql.Closed
}

// memStore is the database of the tests: it keeps raw events and merges them into panes when asked, so that
// tiers, corrections and retention come out as they do from materialized views.
type memStore struct {
	mu       sync.Mutex
	series   map[tenants.ID][]*stored
	progress map[tenants.ID][]promql.Progress
	asked    int // for progress, so many times
	fail     error
	reads    []promql.PaneQuery
	// coarse is up to where the tiers of a minute and an hour hold all events. Later ones of which merged says yes, if not
	// nil, are there, too.
	coarse  time.Time
	merged  func(e event) bool
	columns int     // reads of Columns
	windows int     // and of Windows
	lists   int     // and of Series and Services
	weight  float64 // of an event in sketches; 0 is 1
}

var _ promql.Store = (*memStore)(nil)

func newMemStore() *memStore {
	return &memStore{series: make(map[tenants.ID][]*stored), progress: make(map[tenants.ID][]promql.Progress)}
}

// add puts events into a series, "name{a="b"}".
func (m *memStore) add(t testing.TB, tenant tenants.ID, kind events.Kind, name string, ls map[string]string, evs ...event) *stored {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []series.Label
	for n, v := range ls {
		list = append(list, series.Label{Name: n, Value: v})
	}
	sorted, err := series.Sort(list)
	if err != nil {
		t.Fatal(err)
	}
	id := series.Hash(series.AppendKey(nil, byte(kind), name, sorted))
	for _, s := range m.series[tenant] {
		if s.ID == id {
			s.events = append(s.events, evs...)
			return s
		}
	}
	s := &stored{Series: promql.Series{ID: id, Metric: name, Kind: kind, Labels: sorted}, events: evs}
	m.series[tenant] = append(m.series[tenant], s)
	return s
}

// window puts closed windows into a series; ends ascend.
func (m *memStore) window(t testing.TB, kind events.Kind, name, shape string, ls map[string]string, list ...promql.Closed) {
	t.Helper()
	s := m.add(t, "acme", kind, name, ls)
	s.Shape, s.closed = shape, append(s.closed, list...)
}

// empty drops all series.
func (m *memStore) empty() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.series, m.reads = make(map[tenants.ID][]*stored), nil
}

// upTo sets the watermark. The wider tiers are somewhat behind, as they always are.
func (m *memStore) upTo(tenant tenants.ID, at, updated time.Time) {
	m.mu.Lock()
	m.progress[tenant] = []promql.Progress{
		{Topic: "vigie.metrics.v1", Time: at.UnixMilli(), Updated: updated.UnixMilli()},
		{Topic: "vigie.metrics.v1", Tenant: tenant, Time: at.UnixMilli(), Updated: updated.UnixMilli()},
	}
	m.mu.Unlock()
	m.coarseUpTo(at.Add(-73*time.Second), nil)
}

// coarseUpTo sets how far the wider tiers reach, and what of later events is in them: nil for nothing.
func (m *memStore) coarseUpTo(at time.Time, merged func(e event) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.coarse, m.merged = at, merged
	for _, rows := range m.progress {
		for i := range rows {
			if rows[i].Tenant == "" {
				// No event in order is older than what was appended then, but by so much.
				rows[i].Coarse = at.Add(15 * time.Second).UnixMilli()
			}
		}
	}
}

// has tells whether the table of a tier has the event.
func (m *memStore) has(tier promql.Tier, e event) bool {
	return tier == promql.Tier10s || e.time.Before(m.coarse) || m.merged != nil && m.merged(e)
}

// sourceOf is the tier of which a query reads what happened at a time.
func sourceOf(q *promql.PaneQuery, at time.Time) promql.Tier {
	tier := q.Tier
	for _, stretch := range q.Finer {
		if at.UnixMilli() >= stretch.From {
			tier = stretch.Tier
		}
	}
	return tier
}

func (m *memStore) Metas(_ context.Context, tenant tenants.ID, since int64) ([]promql.Meta, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []promql.Meta
	for _, s := range m.series[tenant] {
		meta := promql.Meta{Metric: s.Metric, Kind: s.Kind, Native: s.Native, Unit: s.unit, Help: s.help, Shape: s.Shape}
		for _, w := range s.closed {
			meta.Kept |= w.Kept
		}
		if s.seen(since) && !slices.Contains(list, meta) {
			list = append(list, meta)
		}
	}
	return list, m.fail
}

func (s *stored) seen(since int64) bool {
	return s.Shape != "" || slices.ContainsFunc(s.events, func(e event) bool { return e.time.UnixMilli() >= since })
}

func (m *memStore) Series(_ context.Context, tenant tenants.ID, q promql.SeriesQuery) ([]promql.Series, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lists++
	var list []promql.Series
	for _, s := range m.series[tenant] {
		of := q.Metrics
		if s.Shape != "" {
			of = q.Closed
		}
		if slices.Contains(of, s.Metric) && s.seen(q.Since) && s.meets(q.Matchers) && (q.Limit == 0 || len(list) < q.Limit) {
			list = append(list, s.Series)
		}
	}
	return list, m.fail
}

func (m *memStore) Labels(ctx context.Context, tenant tenants.ID, q promql.LabelQuery) ([]string, error) {
	of := q.SeriesQuery
	of.Limit = 0
	list, err := m.Series(ctx, tenant, of)
	values := make(map[string]bool)
	for _, s := range list {
		if q.Name == "" || q.Name == model.MetricNameLabel {
			values[map[bool]string{true: model.MetricNameLabel, false: s.Metric}[q.Name == ""]] = true
		}
		for _, l := range s.Labels {
			if q.Name == "" {
				values[l.Name] = true
			} else if l.Name == q.Name {
				values[l.Value] = true
			}
		}
	}
	found := slices.Sorted(maps.Keys(values))
	if q.Limit > 0 && len(found) > q.Limit {
		found = found[:q.Limit]
	}
	return found, err
}

var operators = map[string]labels.MatchType{
	"=": labels.MatchEqual, "!=": labels.MatchNotEqual, "=~": labels.MatchRegexp, "!~": labels.MatchNotRegexp,
}

func (s *stored) meets(matchers []promql.Matcher) bool {
	for _, m := range matchers {
		if !labels.MustNewMatcher(operators[m.Op], m.Name, m.Value).Matches(s.Labels.Get(m.Name)) {
			return false
		}
	}
	return true
}

func (m *memStore) Panes(_ context.Context, tenant tenants.ID, q promql.PaneQuery, yield func(series.ID, *promql.Pane) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reads = append(m.reads, q)
	if m.fail != nil {
		return m.fail
	}
	all := slices.Clone(m.series[tenant])
	if q.Services != nil {
		services(all, &q)
	}
	if q.Groups != nil {
		all = fold(all, &q)
	}
	slices.SortFunc(all, func(a, b *stored) int {
		return cmp.Or(cmp.Compare(a.ID.Hi, b.ID.Hi), cmp.Compare(a.ID.Lo, b.ID.Lo))
	})
	for _, s := range all {
		if !slices.Contains(q.Metrics, s.Metric) || !slices.Contains(q.IDs, s.ID) {
			continue
		}
		for _, p := range m.panes(s, q) {
			if err := yield(s.ID, p); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *memStore) Columns(ctx context.Context, tenant tenants.ID, q promql.PaneQuery, yield func(series.ID, *promql.PaneColumn) error) error {
	m.columns++
	return gather(ctx, m, tenant, q, yield)
}

// gather makes columns of a store's panes, as the database does.
func gather(ctx context.Context, from promql.Store, tenant tenants.ID, q promql.PaneQuery, yield func(series.ID, *promql.PaneColumn) error) error {
	columns := make(map[series.ID]*promql.PaneColumn)
	err := from.Panes(ctx, tenant, q, func(id series.ID, p *promql.Pane) error {
		c := columns[id]
		if c == nil {
			c = &promql.PaneColumn{}
			columns[id] = c
		}
		c.Starts = append(c.Starts, p.Start)
		switch {
		case q.Last:
			c.Values, c.Times = append(c.Values, p.Last), append(c.Times, p.LastTime)
		case q.Count:
			c.Values = append(c.Values, float64(p.Count))
		default:
			c.Values = append(c.Values, p.Sum)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for id, c := range columns {
		if err := yield(id, c); err != nil {
			return err
		}
	}
	return nil
}

// fold puts the events of each group into one series.
func fold(all []*stored, q *promql.PaneQuery) (groups []*stored) {
	ids := q.IDs
	q.IDs = nil
	for i, id := range ids {
		group := series.ID{Lo: uint64(q.Groups[i])}
		for _, s := range all {
			if s.ID != id {
				continue
			}
			at := slices.Index(q.IDs, group)
			if at < 0 {
				at = len(groups)
				q.IDs, groups = append(q.IDs, group), append(groups, &stored{Series: promql.Series{ID: group, Metric: s.Metric, Kind: s.Kind}})
			}
			groups[at].events = append(groups[at].events, s.events...)
		}
	}
	return groups
}

func (m *memStore) panes(s *stored, q promql.PaneQuery) []*promql.Pane {
	width := time.Duration(q.Tier).Milliseconds()
	panes := make(map[int64]*promql.Pane)
	sketched := make(map[int64]*sketches.Sketch)
	for i, e := range s.events {
		start := e.time.UnixMilli() / width * width
		if start < q.From || start >= q.To || !m.has(sourceOf(&q, e.time), e) {
			continue
		}
		p := panes[start]
		if p == nil {
			p = &promql.Pane{Start: start}
			panes[start], sketched[start] = p, &sketches.Sketch{}
		}
		if math.IsInf(e.value, -1) {
			if q.Last && e.time.UnixNano() > p.LastTime {
				p.LastTime, p.Last, p.LastHist = e.time.UnixNano(), e.value, promql.Ended
			}
			continue
		}
		if q.Count {
			p.Count++
		}
		if q.Sum {
			p.Sum += e.value
		}
		sketched[start].AddN(e.value, cmp.Or(m.weight, 1))
		if ns := e.time.UnixNano(); q.Last && s.Kind >= events.Gauge && ns >= p.LastTime {
			p.LastTime, p.Last, p.LastHist = ns, e.value, ""
			if s.hists != nil {
				p.LastHist = s.hists[i]
			}
		}
	}
	var list []*promql.Pane
	for start, p := range panes {
		if q.Sketch {
			p.Sketch = sketched[start].AppendDD(nil)
		}
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b *promql.Pane) int { return cmp.Compare(a.Start, b.Start) })
	return list
}

func (m *memStore) Services(_ context.Context, tenant tenants.ID, metric string, matchers []promql.Matcher, since int64) (names []string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lists++
	for _, s := range m.series[tenant] {
		if name := s.Labels.Get("service"); s.Metric == metric && s.seen(since) && s.meets(matchers) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, m.fail
}

// services makes a query of services one of groups.
func services(all []*stored, q *promql.PaneQuery) {
	for _, s := range all {
		at := slices.Index(q.Services, s.Labels.Get("service"))
		if !slices.Contains(q.Metrics, s.Metric) || at < 0 || s.Kind >= events.Gauge {
			continue
		}
		if q.Together {
			at = 0
		}
		q.IDs, q.Groups = append(q.IDs, s.ID), append(q.Groups, uint32(at))
	}
}

func (m *memStore) Windows(_ context.Context, tenant tenants.ID, q promql.WindowQuery, yield func(series.ID, *promql.Closed) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.windows++
	all := slices.Clone(m.series[tenant])
	slices.SortFunc(all, func(a, b *stored) int { return a.ID.Compare(b.ID) })
	for _, s := range all {
		for _, w := range s.closed {
			if !slices.Contains(q.Metrics, s.Metric) || !slices.Contains(q.IDs, s.ID) || w.End < q.From || w.End > q.To {
				continue
			}
			if q.Longest > 0 && w.End-w.Start > q.Longest.Milliseconds() {
				return fmt.Errorf("a window of %d ms, said to be at most %s", w.End-w.Start, q.Longest)
			}
			if err := yield(s.ID, &w); err != nil {
				return err
			}
		}
	}
	return m.fail
}

func (m *memStore) Progress(_ context.Context, of []tenants.ID) ([]promql.Progress, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked++
	var rows []promql.Progress
	for i, tenant := range of {
		for _, r := range m.progress[tenant] {
			if i == 0 || r.Tenant != "" {
				rows = append(rows, r)
			}
		}
	}
	return rows, m.fail
}

// server is a Service with a clock and the API in front.
type server struct {
	t        testing.TB
	store    *memStore
	now      time.Time
	limits   tenants.Limits
	cfg      promql.Config
	options  promql.Options
	service  *promql.Service
	handler  http.Handler
	pushdown string // of the last answer to points
}

// epoch is a multiple of an hour, so that tests can count windows.
var epoch = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func newServer(t testing.TB, change ...func(*server)) *server {
	t.Helper()
	s := &server{t: t, store: newMemStore(), now: epoch.Add(2 * time.Hour), limits: tenants.DefaultConfig().Defaults, cfg: promql.DefaultConfig()}
	s.limits.QueryRange = 1000 * 24 * time.Hour
	for _, c := range change {
		c(s)
	}
	if s.options.Store == nil {
		s.options.Store = s.store
	}
	s.options.Limits = func(tenants.ID) tenants.Limits { return s.limits }
	s.options.Registerer = prometheus.NewRegistry()
	s.options.Now = func() time.Time { return s.now }
	var err error
	if s.service, err = promql.New(s.cfg, s.options); err != nil {
		t.Fatal(err)
	}
	s.handler = s.service.Handler()
	s.store.upTo("acme", s.now, s.now)
	return s
}

// behind draws how long the wider tiers are behind the watermark, and what of later events is in them.
func (s *server) behind(t *rapid.T, least, most time.Duration) {
	complete := time.UnixMilli(s.store.progress["acme"][0].Time)
	behind := rapid.Int64Range(least.Milliseconds(), most.Milliseconds()).Draw(t, "wider tiers behind")
	each := rapid.Int64Range(0, 3).Draw(t, "merged of three")
	s.store.coarseUpTo(complete.Add(-time.Duration(behind)*time.Millisecond), func(e event) bool {
		return e.time.UnixMilli()%3 < each
	})
	s.service.Forget()
}

// answer is the body of a query.
type answer struct {
	code   int
	header http.Header
	body   string
	Status string
	Error  string
	Type   string `json:"errorType"`
	Data   struct {
		ResultType string
		Result     json.RawMessage
	}
	Warnings, Infos []string
}

func (s *server) do(tenant tenants.ID, method, path string, form url.Values) answer {
	s.t.Helper()
	var r *http.Request
	if method == http.MethodPost {
		r = httptest.NewRequest(method, path, strings.NewReader(form.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	} else {
		r = httptest.NewRequest(method, path+"?"+form.Encode(), nil)
	}
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r.WithContext(tenants.NewContext(r.Context(), tenant)))
	a := answer{code: w.Code, header: w.Header(), body: w.Body.String()}
	_ = json.Unmarshal(w.Body.Bytes(), &a) // Data differs by path
	return a
}

func seconds(t time.Time) string {
	return strconv.FormatFloat(float64(t.UnixMilli())/1000, 'f', -1, 64)
}

// sample is one element of a vector.
type sample struct {
	Metric map[string]string
	Value  [2]any
}

func (v sample) number(t testing.TB) float64 {
	t.Helper()
	f, err := strconv.ParseFloat(v.Value[1].(string), 64)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func (s *server) vector(query string, at time.Time) []sample {
	s.t.Helper()
	a := s.do("acme", "POST", "/query", url.Values{"query": {query}, "time": {seconds(at)}})
	if a.Status != "success" {
		s.t.Fatalf("%s: got %d %s", query, a.code, a.body)
	}
	var list []sample
	if err := json.Unmarshal(a.Data.Result, &list); err != nil {
		s.t.Fatalf("%s: %v in %s", query, err, a.body)
	}
	return list
}

// one is the value of a query that gives one series; NaN when it gives none.
func (s *server) one(query string, at time.Time) float64 {
	s.t.Helper()
	list := s.vector(query, at)
	switch len(list) {
	case 0:
		return math.NaN()
	case 1:
		return list[0].number(s.t)
	}
	s.t.Fatalf("%s at %s: got %d series, want at most one", query, at, len(list))
	return 0
}

// stream is one series of a matrix.
type stream struct {
	Metric map[string]string
	Values [][2]any
}

func (s *server) matrix(query string, start, end time.Time, step time.Duration) []stream {
	s.t.Helper()
	a := s.do("acme", "POST", "/query_range", url.Values{
		"query": {query}, "start": {seconds(start)}, "end": {seconds(end)}, "step": {step.String()}})
	if a.Status != "success" {
		s.t.Fatalf("%s: got %d %s", query, a.code, a.body)
	}
	var list []stream
	if err := json.Unmarshal(a.Data.Result, &list); err != nil {
		s.t.Fatal(err)
	}
	return list
}

var errBroken = errors.New("connection refused by 10.0.0.7:8123")
