package promql_test

import (
	"fmt"
	"net/url"
	"testing"
	"time"

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
	s.store.add(t, "acme", events.Delta, "hits_total", map[string]string{"host": "a"}, every(time.Second, epoch, s.now, 1)...)
	for i := range 20 {
		s.store.upTo("acme", s.now, s.now)
		if got := s.one("count(increase(hits_total[1m]))", s.now); got != float64(i+1) {
			t.Fatalf("got %v series, want %d", got, i+1)
		}
		s.store.add(t, "acme", events.Delta, "hits_total", map[string]string{"host": fmt.Sprint(i)}, every(time.Second, s.now, s.now.Add(10*time.Second), 1)...)
		s.now = s.now.Add(10 * time.Second)
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
