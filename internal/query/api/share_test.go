package api_test

import (
	"context"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/vigie-io/vigie/internal/query/api"
	"github.com/vigie-io/vigie/internal/query/promql"
	"github.com/vigie-io/vigie/internal/query/slots"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/series"
)

// watched is a database that notes of which calls it was told to let others go first.
type watched struct {
	store
	mu    sync.Mutex
	calls map[tenants.ID][]bool // of PromQL
	sql   map[tenants.ID][]bool
}

func (d *watched) note(ctx context.Context, in map[tenants.ID][]bool, tenant tenants.ID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	in[tenant] = append(in[tenant], slots.GivesWay(ctx))
}

func (d *watched) take(from map[tenants.ID][]bool, tenant tenants.ID) []bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	calls := from[tenant]
	delete(from, tenant)
	return calls
}

func (d *watched) Columns(ctx context.Context, tenant tenants.ID, q promql.PaneQuery,
	yield func(series.ID, *promql.PaneColumn) error) error {
	d.note(ctx, d.calls, tenant)
	return d.store.Columns(ctx, tenant, q, yield)
}

func (d *watched) Panes(ctx context.Context, tenant tenants.ID, q promql.PaneQuery,
	yield func(series.ID, *promql.Pane) error) error {
	d.note(ctx, d.calls, tenant)
	return d.store.Panes(ctx, tenant, q, yield)
}

func (d *watched) Labels(ctx context.Context, tenant tenants.ID, q promql.LabelQuery) ([]string, error) {
	d.note(ctx, d.calls, tenant)
	return d.store.Labels(ctx, tenant, q)
}

func (d *watched) cardinality(ctx context.Context, tenant tenants.ID, _ int64, _ int) (*promql.Cardinality, error) {
	d.note(ctx, d.calls, tenant)
	return &promql.Cardinality{}, nil
}

// SQL takes about a second. No two end at the same instant, at which who asks most would hold one place, or none.
func (d *watched) SQL(ctx context.Context, tenant tenants.ID, _ string, _ url.Values, _ http.Header,
	_ io.Reader) (*http.Response, error) {
	d.note(ctx, d.sql, tenant)
	time.Sleep(time.Second + rand.N(100*time.Millisecond))
	return &http.Response{StatusCode: 200, ContentLength: -1, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(""))}, nil
}

// What a tenant asks of the database that holds more than its share gives way, by every door; nothing of others does.
func TestHeavyTenantGivesWay(t *testing.T) {
	paths := []string{"/api/v1/query?query=rate(TENANT_total[2m])&time=NOW", "/api/v1/query_range?query=rate(TENANT_total[1m])&start=NOW&end=NOW&step=60",
		"/api/v1/labels", "/api/v1/label/job/values", "/api/v1/status/tsdb", "/federate?match[]=TENANT_total"}
	synctest.Test(t, func(t *testing.T) {
		d := &watched{calls: map[tenants.ID][]bool{}, sql: map[tenants.ID][]bool{}}
		cfg, limits, registry := api.DefaultConfig(), tenants.DefaultConfig(), prometheus.NewRegistry()
		cfg.TenantPlaces, limits.Defaults.QueryConcurrency = 4, 4
		a, err := api.New(cfg, api.Options{
			Store: d, Upstream: d, Authenticate: authenticate, Limits: limits.For, Log: slog.New(slog.DiscardHandler),
			Now: func() time.Time { return now }, Cardinality: d.cardinality, Registerer: registry,
		})
		if err != nil {
			t.Fatal(err)
		}
		ask := func(tenant, path string) {
			at := now.UTC().Format(time.RFC3339)
			r := httptest.NewRequest("GET", strings.NewReplacer("TENANT", tenant, "NOW", at).Replace(path), nil)
			r.Header.Set("Authorization", "Bearer k-"+tenant)
			w := httptest.NewRecorder()
			if a.ServeHTTP(w, r); w.Code != http.StatusOK {
				t.Errorf("%s of %s: got %d %s", path, tenant, w.Code, w.Body)
			}
		}
		stop := make(chan struct{})
		every := func(tenant string, pause time.Duration) {
			for ; ; time.Sleep(pause) {
				select {
				case <-stop:
					return
				default:
					ask(tenant, "/sql?query=SELECT+1")
				}
			}
		}
		for range 6 {
			go every("acme", 0)
		}
		time.Sleep(30 * time.Second)
		for _, gives := range d.take(d.sql, "acme") {
			if gives {
				t.Fatal("SQL of the only tenant gives way")
			}
		}
		go every("demo", 5*time.Second)
		time.Sleep(30 * time.Second)
		d.take(d.sql, "acme")
		time.Sleep(5 * time.Second)
		for tenant, want := range map[tenants.ID]bool{"acme": true, "demo": false} {
			check := func(path string, calls []bool) {
				if len(calls) == 0 {
					t.Errorf("%s of %s: the database was not asked", path, tenant)
				}
				for _, got := range calls {
					if got != want {
						t.Errorf("%s of %s gives way: got %t, want %t", path, tenant, got, want)
					}
				}
			}
			check("/sql", d.take(d.sql, tenant))
			for _, path := range paths {
				ask(string(tenant), path)
				check(path, d.take(d.calls, tenant))
			}
		}
		if n, err := testutil.GatherAndCount(registry, "vigie_query_gave_way_total"); err != nil || n != 1 {
			t.Errorf("got %d of the metric (%v), want one", n, err)
		}
		close(stop)
		time.Sleep(time.Minute)
	})
}
