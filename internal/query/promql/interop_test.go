package promql_test

import (
	"bytes"
	"context"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	configutil "github.com/prometheus/common/config"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	upstream "github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage/remote"

	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
)

// as serves a handler to one tenant.
func as(tenant tenants.ID, h http.Handler) *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r.WithContext(tenants.NewContext(r.Context(), tenant)))
	}))
}

// A Prometheus that reads remotely finds counters that its own rate and increase are right on, gauges and native
// histograms, in samples and in chunks; and nothing of another tenant.
func TestRemoteRead(t *testing.T) {
	s := newServer(t)
	hits := every(time.Second, epoch.Add(30*time.Minute), s.now, 2)
	s.store.add(t, "acme", events.Delta, "hits_total", map[string]string{"service": "shop"}, hits...)
	s.store.add(t, "demo", events.Delta, "hits_total", map[string]string{"service": "secret"}, hits...)
	s.store.add(t, "acme", events.Gauge, "temp", nil, every(15*time.Second, epoch, s.now, 21)...)
	s.store.add(t, "acme", events.Observation, "lat_seconds", nil, every(time.Second, epoch, s.now, 0.25)...)
	server := as("acme", s.handler)
	defer server.Close()
	address, err := url.Parse(server.URL + "/read")
	if err != nil {
		t.Fatal(err)
	}
	for _, chunked := range []bool{false, true} {
		accepted := []prompb.ReadRequest_ResponseType{prompb.ReadRequest_SAMPLES}
		if chunked {
			accepted = []prompb.ReadRequest_ResponseType{prompb.ReadRequest_STREAMED_XOR_CHUNKS}
		}
		client, err := remote.NewReadClient("vigie", &remote.ClientConfig{
			URL: &configutil.URL{URL: address}, Timeout: model.Duration(time.Minute), ChunkedReadLimit: 1 << 20, AcceptedResponseTypes: accepted,
		})
		if err != nil {
			t.Fatal(err)
		}
		storage := remote.NewSampleAndChunkQueryableClient(client, labels.EmptyLabels(), nil, true, func() (int64, error) { return 0, nil })
		engine := upstream.NewEngine(upstream.EngineOpts{MaxSamples: 1e6, Timeout: time.Minute, Parser: parser.NewParser(parser.Options{})})
		f := func(query string, want float64) {
			t.Helper()
			q, err := engine.NewInstantQuery(context.Background(), storage, nil, query, s.now)
			if err != nil {
				t.Fatal(err)
			}
			defer q.Close()
			v, err := q.Exec(context.Background()).Vector()
			if err != nil || len(v) != 1 {
				t.Fatalf("chunked %v: %s: got %v, %v, want one series", chunked, query, v, err)
			}
			if !near(v[0].F, want, 0.006) {
				t.Errorf("chunked %v: %s: got %v, want %v", chunked, query, v[0].F, want)
			}
		}
		f("rate(hits_total[10m])", 2)
		f("increase(hits_total[1h])", 7200)
		f("temp", 21)
		f("histogram_quantile(0.5, rate(lat_seconds[5m]))", 0.25)
		f("histogram_count(increase(lat_seconds[10m]))", 600)
		f(`histogram_quantile(0.5, rate(lat_seconds_bucket[5m]))`, 0.175) // classic, between 0.1 and 0.25
	}
}

// A Prometheus that federates finds each series once, its newest complete value, and counters as totals since midnight.
func TestFederate(t *testing.T) {
	s := newServer(t)
	midnight := epoch.Truncate(24 * time.Hour)
	hits := append(every(time.Minute, midnight.Add(-time.Hour), midnight, 100), every(7*time.Second, epoch.Add(-3*time.Hour), s.now, 3)...)
	s.store.add(t, "acme", events.Delta, "hits_total", map[string]string{"service": "shop", "utf.8 name": "x"}, hits...)
	s.store.add(t, "acme", events.Observation, "lat_seconds", map[string]string{"service": "shop"}, every(10*time.Second, epoch, s.now, 0.25)...)
	s.store.add(t, "acme", events.Gauge, "temp", map[string]string{"room": `"1"`}, event{s.now.Add(-42 * time.Second), 21})
	s.store.add(t, "acme", events.Gauge, "gone", nil, event{s.now.Add(-42 * time.Minute), 1})
	s.store.add(t, "demo", events.Gauge, "temp", map[string]string{"room": "secret"}, event{s.now.Add(-42 * time.Second), 1})
	server := as("acme", s.service.Federate())
	defer server.Close()
	get := func(code int, match ...string) string {
		t.Helper()
		response, err := http.Get(server.URL + "?" + url.Values{"match[]": match}.Encode())
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		var body bytes.Buffer
		if _, err := body.ReadFrom(response.Body); err != nil || response.StatusCode != code {
			t.Fatalf("%v: got %s %s, %v, want %d", match, response.Status, body.String(), err, code)
		}
		return body.String()
	}
	text := get(200, `{__name__=~".+"}`, "temp")
	parsed := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parsed.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	total := 0.0
	for _, e := range hits {
		if !e.time.Before(midnight) {
			total += e.value
		}
	}
	f := func(name string, want float64, at time.Time) {
		t.Helper()
		family := families[name]
		if family == nil || len(family.Metric) != 1 {
			t.Fatalf("%s: got %v in\n%s", name, family, text)
		}
		if got := family.Metric[0]; math.Abs(got.GetUntyped().GetValue()-want) > 1e-9 || got.GetTimestampMs() != at.UnixMilli() {
			t.Errorf("%s: got %v, want %v at %s", name, got, want, at)
		}
	}
	f("hits_total", total, s.now)
	f("lat_seconds_count", 720, s.now)
	f("lat_seconds_sum", 180, s.now)
	f("temp", 21, s.now.Add(-42*time.Second))
	if families["gone"] != nil || families["lat_seconds"] != nil || strings.Contains(text, "secret") || len(families["lat_seconds_bucket"].GetMetric()) < 10 {
		t.Errorf("got\n%s", text)
	}
	get(400)
	get(400, "rate(x[5m])")
	get(200, "nothing_here")
	if answer := get(422, slices.Repeat([]string{"temp"}, 201)...); !strings.Contains(answer, "promql.max_selectors") {
		t.Errorf("too many match[]: got %q, want the limit named", answer)
	}
	s.limits.QuerySeries = 1
	if answer := get(422, `{__name__=~".+"}`); !strings.Contains(answer, "query_series") {
		t.Errorf("too many series: got %q, want the limit named", answer)
	}
}

// What Grafana and promtool ask of a server's state is answered, and says nothing of the process or its host.
func TestStatus(t *testing.T) {
	s := newServer(t)
	for path, want := range map[string]string{
		"/status/buildinfo": `"version":"3.16.0"`, "/status/config": `"yaml":"`, "/status/flags": `"data":{}`, "/status/runtimeinfo": `"storageRetention":"400d"`,
	} {
		a := s.do("acme", "GET", path, nil)
		if a.code != 200 || !strings.Contains(a.body, want) {
			t.Errorf("%s: got %d %s, want %s", path, a.code, a.body, want)
		}
	}
}
