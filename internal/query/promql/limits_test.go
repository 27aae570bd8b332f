package promql_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/query/promql"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
)

// Every error says which limit it met and what to do; none shows the inside.
func TestErrors(t *testing.T) {
	s := newServer(t)
	for i := range 20 {
		s.store.add(t, "acme", events.Delta, "hits_total", map[string]string{"i": fmt.Sprint(i)}, every(10*time.Second, epoch, epoch.Add(time.Hour), 1)...)
	}
	ask := func(query string) answer {
		return s.do("acme", "POST", "/query", url.Values{"query": {query}, "time": {seconds(epoch.Add(time.Hour))}})
	}
	f := func(a answer, code int, kind string, texts ...string) {
		t.Helper()
		if a.code != code || a.Type != kind {
			t.Errorf("got %d %s, want %d %s", a.code, a.body, code, kind)
		}
		for _, text := range texts {
			if !strings.Contains(a.Error, text) {
				t.Errorf("got %q, want %q in it", a.Error, text)
			}
		}
	}
	f(ask("rate(hits_total[5m]"), 400, "bad_data", "parse error")
	f(ask("hits_total[5m] + 1"), 400, "bad_data", "parse error")
	s.limits.QuerySeries = 10
	f(ask("hits_total"), 422, "execution", "query_series = 10", "label matchers")
	s.limits.QuerySeries = 1000
	s.limits.QuerySamples = 100
	f(ask("max_over_time(hits_total[1h])"), 422, "execution", "query_samples = 100", "shorten")
	s.limits.QuerySamples = 8000 // the database's rows fit, the engine's expansion of a subquery does not
	f(ask("count_over_time(last_over_time(hits_total[1m])[50m:5s])"), 422, "execution", "query_samples = 8000", "shorten")
	s.limits.QuerySamples = 1e6
	s.limits.QueryRange = time.Hour
	f(ask("increase(hits_total[2h])"), 422, "execution", "query_range = 1h0m0s", "shorten")
	s.limits.QueryRange = 24 * time.Hour
	s.limits.QueryTimeout = time.Nanosecond
	f(ask("hits_total"), 503, "timeout", "query_timeout = 1ns", "shorten")
	s.limits.QueryTimeout = time.Minute
	s.now = s.now.Add(time.Hour)
	s.store.fail = errBroken
	f(ask("hits_total"), 500, "internal", "did not answer")
	if a := ask("hits_total"); strings.Contains(a.body, "10.0.0.7") {
		t.Errorf("got %s, want nothing of the inside", a.body)
	}
	for _, path := range []string{"/labels", "/label/__name__/values", "/metadata"} {
		if a := s.do("acme", "GET", path, nil); a.Status != "error" || strings.Contains(a.body, "10.0.0.7") {
			t.Errorf("%s: got %d %s", path, a.code, a.body)
		}
	}
	s.store.fail = nil
	if a := s.do("acme", "GET", "/query", url.Values{"query": {"hits_total"}, "time": {"soon"}}); a.code != 400 {
		t.Errorf("got %d %s", a.code, a.body)
	}
}

// Queries beyond the tenant's places wait; beyond the line they are answered 429.
func TestConcurrency(t *testing.T) {
	s := newServer(t, func(s *server) {
		s.limits.QueryConcurrency = 1
		s.cfg.MaxWaiting = 0
		s.options.Cardinality = func(context.Context, tenants.ID, int64, int) (*promql.Cardinality, error) {
			return &promql.Cardinality{}, nil
		}
	})
	s.store.add(t, "acme", events.Delta, "hits_total", nil, event{epoch, 1})
	s.vector("hits_total", epoch.Add(10*time.Second)) // fills the caches
	s.store.mu.Lock()                                 // the next one hangs in the database
	done := make(chan answer)
	asked := 0
	form := func() url.Values { // never the same: equal ones would share one place
		asked++
		return url.Values{"query": {"hits_total"}, "time": {seconds(epoch.Add(10 * time.Second))}, "asked": {fmt.Sprint(asked)}}
	}
	begin := form()
	first := make(chan struct{})
	go func() {
		close(first)
		done <- s.do("acme", "POST", "/query", begin)
	}()
	<-first
	var a answer
	for a.code != 429 { // the first may not have got its place yet; then it is this one that hangs and that one's turn
		got := make(chan answer, 1)
		another := form()
		go func() { got <- s.do("acme", "POST", "/query", another) }()
		select {
		case a = <-got:
		case a = <-done:
			done = got
		}
	}
	if !strings.Contains(a.Error, "query_concurrency = 1") {
		t.Errorf("got %s, want the limit by name", a.body)
	}
	for _, path := range []string{"/labels", "/label/service/values", "/series?match[]=x", "/status/tsdb"} {
		if a := s.do("acme", "GET", path, nil); a.code != 429 || a.Type != "execution" || !strings.Contains(a.Error, "query_concurrency = 1") {
			t.Errorf("%s: got %d %s, want the limit by name", path, a.code, a.body)
		}
	}
	r, w := httptest.NewRequest("GET", "/federate?match[]=hits_total", nil), httptest.NewRecorder()
	s.service.Federate().ServeHTTP(w, r.WithContext(tenants.NewContext(r.Context(), "acme")))
	if w.Code != 429 || !strings.Contains(w.Body.String(), "query_concurrency = 1") {
		t.Errorf("/federate: got %d %s, want the limit by name", w.Code, w.Body)
	}
	s.store.mu.Unlock()
	if a := <-done; a.code != 200 {
		t.Errorf("got %d %s", a.code, a.body)
	}
}

func TestConfigErrors(t *testing.T) {
	for name, change := range map[string]func(*promql.Config){
		"bucket_bounds":    func(c *promql.Config) { c.BucketBounds = []float64{2, 1} },
		"lookback":         func(c *promql.Config) { c.Lookback = 0 },
		"retention_10s":    func(c *promql.Config) { c.Retention10s = c.Retention1h + 1 },
		"labels_window":    func(c *promql.Config) { c.LabelsWindow = 0 },
		"activity_horizon": func(c *promql.Config) { c.ActivityHorizon = time.Second },
		"max_waiting":      func(c *promql.Config) { c.MaxWaiting = -1 },
		"series_refresh":   func(c *promql.Config) { c.SeriesRefresh = -1 },
	} {
		cfg := promql.DefaultConfig()
		change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v, want an error that names it", name, err)
		}
	}
	if _, err := promql.New(promql.DefaultConfig(), promql.Options{Limits: func(tenants.ID) tenants.Limits { return tenants.Limits{} }}); err == nil {
		t.Error("without a store: got no error")
	}
}
