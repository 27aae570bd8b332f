package promql_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/query/promql"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
)

// Series are listed once for queries of the same windows, and anew for later ones, so that none is missing there.
func TestSeriesAreListedOnce(t *testing.T) {
	for query, of := range map[string]string{
		"sum by (host) (increase(hits_total[1m]))":              "series",
		"sum by (service) (increase(hits_total[1m]))":           "services",
		`histogram_quantile(1, sum(increase(lat_seconds[1m])))`: "services",
	} {
		s := newServer(t)
		start := s.now
		add := func(tenant tenants.ID, host string) {
			ls := map[string]string{"host": host, "service": host}
			s.store.add(t, tenant, events.Delta, "hits_total", ls, every(time.Second, epoch, s.now, 1)...)
			s.store.add(t, tenant, events.Observation, "lat_seconds", ls, every(time.Second, epoch, s.now, 1)...)
		}
		lists := func(tenant tenants.ID) int {
			before := s.store.lists
			if a := s.do(tenant, "GET", "/query", url.Values{"query": {query}, "time": {seconds(s.now)}}); a.code != 200 {
				t.Fatalf("%s: got %s", query, a.body)
			}
			return s.store.lists - before
		}
		for _, tenant := range []tenants.ID{"acme", "demo"} {
			add(tenant, "a")
			s.store.upTo(tenant, s.now, s.now)
			if first, again := lists(tenant), lists(tenant); first != 1 || again != 0 {
				t.Errorf("%s of %s: got %s listed %d times and then %d, want once", query, tenant, of, first, again)
			}
		}
		s.now = start.Add(2 * time.Second) // the watermark is read anew
		s.store.upTo("acme", start.Add(10*time.Second), s.now)
		if n := lists("acme"); n != 1 {
			t.Errorf("%s: got %s listed %d times when windows had come, want once", query, of, n)
		}
		s.now = s.now.Add(10 * time.Second)
		if n := lists("acme"); n != 1 {
			t.Errorf("%s: got %s listed %d times when ten seconds had gone by, want once", query, of, n)
		}
	}
}

// A series that is new in the windows that have come is there with them, however often its metric was asked for before.
func TestNewSeriesComeWithTheirWindows(t *testing.T) {
	s := newServer(t)
	at := s.now.Add(-10 * time.Minute) // windows come faster than time goes by, for a backlog is worked off
	s.store.add(t, "acme", events.Delta, "hits_total", map[string]string{"host": "a"}, every(time.Second, epoch, at, 1)...)
	for i := range 20 {
		s.store.upTo("acme", at, s.now)
		if got := s.one("count(increase(hits_total[1m]))", at); got != float64(i+1) {
			t.Fatalf("got %v series, want %d", got, i+1)
		}
		s.store.add(t, "acme", events.Delta, "hits_total", map[string]string{"host": fmt.Sprint(i)}, every(time.Second, at, at.Add(10*time.Second), 1)...)
		at, s.now = at.Add(10*time.Second), s.now.Add(time.Second)
	}
}

// A list that is too old is read again, also where others of its age have not been looked for yet.
func TestListsAreNotKeptForEver(t *testing.T) {
	s := newServer(t)
	for _, name := range []string{"hits_total", "visits_total"} {
		s.store.add(t, "acme", events.Delta, name, map[string]string{"host": "a"}, event{s.now.Add(-time.Minute), 1})
	}
	for i, step := range []struct {
		after time.Duration
		name  string
		lists int
	}{{0, "hits_total", 1}, {4 * time.Second, "visits_total", 1}, {time.Second, "hits_total", 1}, {3 * time.Second, "visits_total", 0}, {1500 * time.Millisecond, "visits_total", 1}} {
		s.now = s.now.Add(step.after)
		before := s.store.lists
		if s.vector("sum("+step.name+")", s.now); s.store.lists-before != step.lists {
			t.Errorf("step %d: got series listed %d times, want %d", i, s.store.lists-before, step.lists)
		}
	}
}

// What is kept is bounded, and goes with time.
func TestListsAreBounded(t *testing.T) {
	s := newServer(t)
	for i := range 1200 {
		s.store.add(t, "acme", events.Delta, "hits_total", map[string]string{"host": fmt.Sprint(i)}, event{s.now.Add(-time.Minute), 1})
	}
	most := 0
	for i := range 120 {
		s.one(fmt.Sprintf(`sum(increase(hits_total{host!="%d"}[1m]))`, i), s.now)
		most = max(most, s.service.Listed())
	}
	if most < 50_000 || most > 100_000 {
		t.Errorf("got %d series kept at most, want up to 100,000", most)
	}
	s.now = s.now.Add(time.Minute)
	s.one("sum(increase(hits_total[1m]))", s.now)
	if n := s.service.Listed(); n > 1300 {
		t.Errorf("a minute later: got %d series kept, want those of one list", n)
	}
}

// hanging lists series when it is let go.
type hanging struct {
	*memStore
	asked, goOn chan struct{}
}

func (h *hanging) Series(ctx context.Context, tenant tenants.ID, q promql.SeriesQuery) ([]promql.Series, error) {
	h.asked <- struct{}{}
	<-h.goOn
	return h.memStore.Series(ctx, tenant, q)
}

// Who waits for a list that another query reads waits no longer than his own time.
func TestWaitingForAListEnds(t *testing.T) {
	h := &hanging{asked: make(chan struct{}), goOn: make(chan struct{})}
	s := newServer(t, func(s *server) { h.memStore, s.options.Store = s.store, h })
	s.store.add(t, "acme", events.Delta, "hits_total", map[string]string{"host": "a"}, event{s.now.Add(-20 * time.Second), 1})
	ask := func(query, timeout string) <-chan answer {
		answered := make(chan answer, 1)
		go func() {
			answered <- s.do("acme", "GET", "/query", url.Values{"query": {query}, "time": {seconds(s.now)}, "timeout": {timeout}})
		}()
		return answered
	}
	first := ask("sum by (host) (increase(hits_total[1m]))", "1m")
	<-h.asked
	select {
	case a := <-ask("1 + sum by (host) (increase(hits_total[1m]))", "50ms"):
		if a.code != http.StatusServiceUnavailable || a.Type != "timeout" {
			t.Errorf("the one that waits: got %d %s, want a timeout", a.code, a.body)
		}
	case <-time.After(time.Minute):
		t.Error("the one that waits: got no answer, want a timeout after 50 ms")
	}
	close(h.goOn)
	if a := <-first; a.code != http.StatusOK {
		t.Errorf("the one that reads: got %d %s", a.code, a.body)
	}
}
