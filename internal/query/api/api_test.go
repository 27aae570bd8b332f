package api_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/vigie-io/vigie/internal/query/api"
	"github.com/vigie-io/vigie/internal/query/promql"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
)

var now = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// store has one counter per tenant, named after it.
type store struct{}

func (store) Metas(_ context.Context, tenant tenants.ID, _ int64) ([]promql.Meta, error) {
	return []promql.Meta{{Metric: string(tenant) + "_total", Kind: events.Delta}}, nil
}

func (store) Series(_ context.Context, tenant tenants.ID, q promql.SeriesQuery) ([]promql.Series, error) {
	if len(q.Metrics) != 1 || q.Metrics[0] != string(tenant)+"_total" {
		return nil, nil
	}
	return []promql.Series{{ID: series.ID{Lo: 1}, Metric: q.Metrics[0], Kind: events.Delta}}, nil
}

func (store) Columns(_ context.Context, _ tenants.ID, q promql.PaneQuery, yield func(series.ID, *promql.PaneColumn) error) error {
	start := now.Add(-time.Minute).UnixMilli()
	if start < q.From || start >= q.To {
		return nil
	}
	return yield(q.IDs[0], &promql.PaneColumn{Starts: []int64{start}, Values: []float64{7}})
}

func (store) Panes(_ context.Context, _ tenants.ID, q promql.PaneQuery, yield func(series.ID, *promql.Pane) error) error {
	start := now.Add(-time.Minute).UnixMilli()
	if start < q.From || start >= q.To {
		return nil
	}
	return yield(q.IDs[0], &promql.Pane{Start: start, Count: 1, Sum: 7})
}

func (s store) Labels(ctx context.Context, tenant tenants.ID, q promql.LabelQuery) (values []string, err error) {
	list, err := s.Series(ctx, tenant, q.SeriesQuery)
	for _, one := range list {
		values = append(values, one.Labels.Get(q.Name))
	}
	return values, err
}

func (store) Services(context.Context, tenants.ID, string, []promql.Matcher, int64) ([]string, error) {
	return nil, nil
}

func (store) Windows(context.Context, tenants.ID, promql.WindowQuery, func(series.ID, *promql.Closed) error) error {
	return nil
}

func (store) Progress(_ context.Context, of []tenants.ID) ([]promql.Progress, error) {
	at := now.UnixMilli()
	return []promql.Progress{{Topic: "m", Time: at, Updated: at}, {Topic: "m", Tenant: of[0], Time: at, Updated: at}}, nil
}

// database answers SQL with the tenant it was asked for, and what speaks of sleep after a second.
type database struct{}

func (database) SQL(ctx context.Context, tenant tenants.ID, _ string, _ url.Values, _ http.Header, body io.Reader) (*http.Response, error) {
	text, err := io.ReadAll(body)
	if err != nil {
		return nil, err
	}
	if strings.Contains(string(text), "sleep") {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(time.Second):
		}
	}
	return &http.Response{StatusCode: 200, ContentLength: -1, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(string(tenant) + ": " + string(text)))}, nil
}

func authenticate(r *http.Request) (tenants.ID, error) {
	switch key, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); key {
	case "k-acme":
		return "acme", nil
	case "k-demo":
		return "demo", nil
	case "k-writer":
		return "", tenants.ErrForbidden
	case "k-broken":
		return "", errors.New("open /etc/keys: no such file")
	}
	return "", tenants.ErrUnauthenticated
}

func newAPI(t *testing.T) (*httptest.Server, *prometheus.Registry) {
	t.Helper()
	registry := prometheus.NewRegistry()
	limits := tenants.DefaultConfig()
	a, err := api.New(api.DefaultConfig(), api.Options{
		Store: store{}, Upstream: database{}, Authenticate: authenticate, Limits: limits.For,
		Registerer: registry, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return now }, Version: "test",
		Cardinality: func(_ context.Context, tenant tenants.ID, _ int64, _ int) (*promql.Cardinality, error) {
			return &promql.Cardinality{Series: 1, Labels: []promql.LabelCardinality{{Name: string(tenant), Values: 1, Series: 1}}}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(a)
	t.Cleanup(s.Close)
	return s, registry
}

func get(t *testing.T, url, key string) (int, string, http.Header) {
	t.Helper()
	r, err := http.NewRequest("GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if key != "" {
		r.Header.Set("Authorization", "Bearer "+key)
	}
	r.Header.Set("X-Prometheus-Use-Start-Timestamps", "nonsense")
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body), response.Header
}

func TestRoutes(t *testing.T) {
	s, registry := newAPI(t)
	f := func(path, key string, status int, want string) {
		t.Helper()
		if got, body, _ := get(t, s.URL+path, key); got != status || !strings.Contains(body, want) {
			t.Errorf("%s with %q: got %d %s, want %d with %s", path, key, got, body, status, want)
		}
	}
	query := "/api/v1/query?time=" + "1795521600" + "&query="
	f(query+"increase(acme_total[5m])", "k-acme", 200, `"7"`)
	f("/prometheus"+query+"increase(acme_total[5m])", "k-acme", 200, `"7"`)
	f(query+"increase(demo_total[5m])", "k-acme", 200, `"result":[]`)
	f("/api/v1/label/__name__/values", "k-demo", 200, `["demo_total"]`)
	f("/api/v1/status/buildinfo", "k-demo", 200, `"revision":"test"`)
	f("/api/v1/status/tsdb", "k-demo", 200, `"labelValueCountByLabelName":[{"name":"demo","value":1}]`)
	f("/prometheus/api/v1/openapi.yaml", "k-demo", 200, "title: Vigie query service")
	f("/api/v1/openapi.yaml", "", 401, "unauthorized")
	f("/sql?query=SELECT+1", "k-acme", 200, "acme: SELECT 1")
	f("/sql/?query=SELECT+1", "k-demo", 200, "demo: SELECT 1")
	f("/sql/ping", "", 200, "Ok.")
	f("/sql/?query=DROP+TABLE+t", "k-demo", 403, "Code: 164.")
	f("/sql?query=SELECT+1", "", 401, "Code: 194.")
	f(query+"1", "", 401, `"errorType":"unauthorized"`)
	f(query+"1", "", 401, "an API key is required: send Authorization: Bearer <key>")
	f(query+"1", "k-nobody", 401, "the API key is not known")
	f(query+"1", "k-writer", 403, "role read")
	f("/api/v1/nothing", "k-acme", 404, "not_found")
	f("/nothing", "", 404, "/api/v1/")
	// SQL also where a client that knows host and port only would send it.
	f("/?query=SELECT+1", "k-acme", 200, "acme: SELECT 1")
	f("/?query=SELECT+1", "", 401, "Code: 194.")
	f("/", "", 200, "/api/v1/query_range") // people look here first
	f("/ping", "", 200, "Ok.")
	if _, body, _ := get(t, s.URL+query+"1", "k-broken"); strings.Contains(body, "/etc") {
		t.Errorf("got %s, want nothing of the inside", body)
	}
	if got := testutil.ToFloat64(counter(t, registry, "query", "200")); got != 3 {
		t.Errorf("vigie_query_requests_total{query,200}: got %v, want 3", got)
	}
}

// counter finds the value of vigie_query_requests_total.
func counter(t *testing.T, registry *prometheus.Registry, endpoint, status string) prometheus.Collector {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "copy"})
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "vigie_query_") {
			t.Errorf("metric %s: want vigie_query_ in front", f.GetName())
		}
		for _, m := range f.GetMetric() {
			if f.GetName() == "vigie_query_requests_total" && m.GetLabel()[0].GetValue() == endpoint && m.GetLabel()[1].GetValue() == status {
				g.Set(m.GetCounter().GetValue())
			}
		}
	}
	return g
}

func TestConfig(t *testing.T) {
	cfg := api.DefaultConfig()
	if err := cfg.Validate(); err != nil {
		t.Errorf("default: %v", err)
	}
	cfg.SQL.Database, cfg.PromQL.Lookback, cfg.TenantPlaces = "", 0, -1
	err := cfg.Validate()
	if err == nil {
		t.Fatal("got no error")
	}
	for _, want := range []string{"sql: database", "promql: lookback", "tenant_places -1"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s in it", err, want)
		}
	}
}
