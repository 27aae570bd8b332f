package promql_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
)

// shop is a server with a bit of everything.
func shop(t testing.TB) *server {
	s := newServer(t)
	ls := map[string]string{"service": "shop", "route": "/pay"}
	s.store.add(t, "acme", events.Delta, "http_requests_total", ls, every(3*time.Second, epoch, s.now, 1)...)
	h := s.store.add(t, "acme", events.Observation, "latency_seconds", ls, every(3*time.Second, epoch, s.now, 0.3)...)
	h.unit, h.help = "seconds", "How long."
	s.store.add(t, "acme", events.Gauge, "temp", map[string]string{"service": "shop"}, every(30*time.Second, epoch, s.now, 20)...)
	s.store.add(t, "acme", events.Cumulative, "restarts_total", nil, every(30*time.Second, epoch, s.now, 3)...)
	return s
}

// exchange is one line of what Grafana sends, and what it looks at in the answer.
type exchange struct {
	When, Method, Path string
	Form               map[string][]string
	Status             int
	Has, Lacks         []string
}

// Grafana's requests, as its Prometheus data source sends them: testdata/grafana.json.
// NOW and MINUS_1H are seconds, NOW_MS milliseconds.
func TestGrafana(t *testing.T) {
	s := shop(t)
	data, err := os.ReadFile("testdata/grafana.json")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("NOW_MS", strconv.FormatInt(s.now.UnixMilli(), 10), "NOW", seconds(s.now), "MINUS_1H", seconds(s.now.Add(-time.Hour))).Replace(string(data))
	var list []exchange
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		a := s.do("acme", e.Method, e.Path, url.Values(e.Form))
		if a.code != e.Status {
			t.Errorf("%s: %s %s: got %d %s, want %d", e.When, e.Method, e.Path, a.code, a.body, e.Status)
		}
		if !json.Valid([]byte(a.body)) {
			t.Errorf("%s: %s: got %q, want JSON", e.When, e.Path, a.body)
		}
		for _, has := range e.Has {
			if !strings.Contains(a.body, has) {
				t.Errorf("%s: %s: got %s, want %s in it", e.When, e.Path, a.body, has)
			}
		}
		for _, lacks := range e.Lacks {
			if strings.Contains(a.body, lacks) {
				t.Errorf("%s: %s: got %s, want no %s in it", e.When, e.Path, a.body, lacks)
			}
		}
	}
	if len(list) < 25 {
		t.Errorf("got %d exchanges, want the whole table", len(list))
	}
}

// The upstream API is built by a constructor of 42 arguments; here is that what it built still answers.
func TestAPIMounts(t *testing.T) {
	s := shop(t)
	for _, path := range []string{"/write", "/otlp/v1/metrics", "/admin/tsdb/delete_series", "/status/walreplay", "/targets", "/features", "/query_cost", "/nothing"} {
		for _, method := range []string{"GET", "POST", "PUT"} {
			if a := s.do("acme", method, path, nil); a.code != http.StatusNotFound || a.Type != "not_found" {
				t.Errorf("%s %s: got %d %s, want 404", method, path, a.code, a.body)
			}
		}
	}
	if a := s.do("acme", "DELETE", "/series", nil); a.code != http.StatusMethodNotAllowed {
		t.Errorf("DELETE /series: got %d", a.code)
	}
}

// A client must not turn start timestamps off: every counter would look reset all the time.
func TestStartTimestampsStayOn(t *testing.T) {
	s := shop(t)
	r := httptest.NewRequest("GET", "/query?query=increase(http_requests_total[5m])&time="+seconds(s.now), nil)
	r.Header.Set("X-Prometheus-Use-Start-Timestamps", "false")
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r.WithContext(tenants.NewContext(r.Context(), "acme")))
	if !strings.Contains(w.Body.String(), `"100"`) {
		t.Errorf("got %s, want 100", w.Body)
	}
}

// Requests without times must not walk from the beginning to the end of time.
func TestNoTimes(t *testing.T) {
	s := shop(t)
	s.store.add(t, "acme", events.Gauge, "old", map[string]string{"ancient": "yes"}, event{epoch.Add(-100 * time.Hour), 1})
	for path, form := range map[string]url.Values{
		"/series": {"match[]": {`{__name__!=""}`}}, "/labels": nil, "/label/__name__/values": nil,
		"/query_exemplars": {"query": {"temp"}},
	} {
		if a := s.do("acme", "GET", path, form); a.code != 200 || strings.Contains(a.body, "old") || strings.Contains(a.body, "ancient") {
			t.Errorf("%s: got %d %s", path, a.code, a.body)
		}
	}
	if a := s.do("acme", "GET", "/label/__name__/values", url.Values{"start": {"0"}}); !strings.Contains(a.body, `"old"`) {
		t.Errorf("since the beginning: got %s", a.body)
	}
}

func TestMetadata(t *testing.T) {
	s := shop(t)
	a := s.do("acme", "GET", "/metadata", nil)
	want := `{"data":{"http_requests_total":[{"type":"counter","help":"","unit":""}],` +
		`"latency_seconds":[{"type":"histogram","help":"How long.","unit":"seconds"}],` +
		`"latency_seconds_bucket":[{"type":"counter","help":"How long.","unit":""}],"latency_seconds_count":[{"type":"counter","help":"How long.","unit":""}],` +
		`"latency_seconds_sum":[{"type":"counter","help":"How long.","unit":"seconds"}],` +
		`"restarts_total":[{"type":"counter","help":"","unit":""}],"temp":[{"type":"gauge","help":"","unit":""}]},"status":"success"}`
	if got := strings.TrimSpace(a.body); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if a := s.do("acme", "GET", "/metadata", url.Values{"metric": {"temp"}}); strings.Contains(a.body, "total") || !strings.Contains(a.body, "temp") {
		t.Errorf("one metric: got %s", a.body)
	}
	if a := s.do("acme", "GET", "/metadata", url.Values{"limit": {"x"}}); a.code != 400 {
		t.Errorf("bad limit: got %d", a.code)
	}
}
