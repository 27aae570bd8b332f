package clickhouse_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/rules"

	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/query/api"
	"github.com/vigie-io/vigie/internal/query/querylog"
	"github.com/vigie-io/vigie/internal/tenants"
)

// Every query that a tenant asks is a row of api.queries, with what it read and how it ended; the tenant sees its own.
func TestQueryLog(t *testing.T) {
	server, client := migrated(t, nil)
	at := today(t, server)
	for _, tenant := range []string{"acme", "demo"} {
		shopTraffic(t, client, tenant, at, rand.New(rand.NewPCG(5, 12)))
	}
	logs := querylog.New(querylog.DefaultConfig(), client, nil, slog.New(slog.DiscardHandler))
	ctx, stop := context.WithCancel(t.Context())
	var writing sync.WaitGroup
	writing.Go(func() { _ = logs.Run(ctx) })
	cfg, limits := api.DefaultConfig(), tenants.DefaultConfig().Defaults
	cfg.PromQL.SlowQuery = time.Nanosecond
	limits.QuerySeries = 25
	handler, err := api.New(cfg, api.Options{
		Store: clickhouse.NewStore(client), Upstream: client, Authenticate: keyOf,
		Limits: func(tenants.ID) tenants.Limits { return limits }, HiddenInSQL: clickhouse.Hidden(),
		Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return time.Unix(int64(at)+7200, 0) }, Queries: logs,
	})
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(handler)
	defer front.Close()
	ask := func(tenant, path string, form url.Values) {
		request, err := http.NewRequestWithContext(t.Context(), "GET", front.URL+path+"?"+form.Encode(), nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer k-"+tenant)
		answer, err := http.DefaultTransport.RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, answer.Body) // one breaks off
		_ = answer.Body.Close()
	}
	now := fmt.Sprint(at + 7200)
	ask("acme", "/api/v1/query", url.Values{"query": {"sum by (service) (rate(hits_total[1m]))"}, "time": {now}})
	ask("acme", "/api/v1/query_range",
		url.Values{"query": {"resets(level[1m])"}, "start": {fmt.Sprint(at + 3600)}, "end": {now}, "step": {"60"}})
	ask("acme", "/api/v1/query", url.Values{"query": {"1 + vgk_QUERYLOGSECRET +"}, "time": {now}})
	ask("acme", "/api/v1/query", url.Values{"query": {"rate(hits_total[1m]"}, "time": {now}})
	ask("acme", "/api/v1/query", url.Values{"query": {`{__name__=~".+"}`}, "time": {now}})
	ask("demo", "/api/v1/query", url.Values{"query": {"count(level)"}, "time": {now}})
	ruleCtx := rules.NewOriginContext(tenants.NewContext(t.Context(), "acme"),
		rules.RuleDetail{Name: "level:max", Query: "max(level)", Kind: rules.KindRecording})
	if _, err := rules.EngineQueryFunc(handler.PromQL().QueryEngine(), handler.PromQL().Queryable())(ruleCtx, "max(level)",
		time.Unix(int64(at)+7200, 0)); err != nil {
		t.Fatal(err)
	}
	ask("acme", "/sql", url.Values{"query": {"SELECT count(), 'of acme' FROM metrics_10s"}})
	ask("acme", "/sql", url.Values{"query": {"SELECT 'of acme', toUInt8('x')"}})
	ask("acme", "/sql", url.Values{"query": {"DROP TABLE metrics_10s"}})
	ask("acme", "/sql", url.Values{"query": {"SELECT throwIf(number = 800000, 'of acme') FROM numbers(900000)"}}) // in mid-answer
	ask("acme", "/sql", url.Values{"query": {"SELECT 1"}, "password": {"k-acme"}})                                // the header's key is taken
	ask("nobody", "/api/v1/status/buildinfo", nil)                                                                // is no query
	stop()
	writing.Wait()

	const columns = "kind, query, status, pushdown, series, samples > 0, read_rows > 0 AND read_bytes > 0, result_bytes > 0, plan != '', duration_ms > 0 AND waited_ms >= 0 AND waited_ms <= duration_ms, toUnixTimestamp(end) - toUnixTimestamp(start), step_ms"
	got := mustTenantSQL(t, client, "acme", "SELECT "+columns+" FROM api.queries ORDER BY kind, query FORMAT CSV")
	want := strings.Join([]string{
		`"instant","1 + vgk_… +","bad_data","none",0,0,0,0,0,1,\N,0`,
		`"instant","rate(hits_total[1m]","bad_data","none",0,0,0,0,0,1,\N,0`,
		`"instant","sum by (service) (rate(hits_total[1m]))","ok","sum by (service) of tiers by service: 4 series as 4",4,1,1,0,1,1,0,0`,
		`"instant","{__name__=~"".+""}","query_series","none",0,0,1,0,1,1,0,0`,
		`"range","resets(level[1m])","ok","resets: 10 series as 10",10,1,1,0,1,1,3570,60000`,
		`"rule","max(level)","ok","max by () of gauges: 10 series as 1",10,1,1,0,1,1,0,0`,
		`"sql","DROP TABLE metrics_10s","READONLY","",0,0,0,0,0,1,\N,0`,
		`"sql","SELECT 'of acme', toUInt8('x')","CANNOT_PARSE_TEXT","",0,0,0,0,0,1,\N,0`,
		`"sql","SELECT 1","ok","",0,0,1,1,0,1,\N,0`,
		`"sql","SELECT count(), 'of acme' FROM metrics_10s","ok","",0,0,1,1,0,1,\N,0`,
		`"sql","SELECT throwIf(number = 800000, 'of acme') FROM numbers(900000)","FUNCTION_THROW_IF_VALUE_IS_NON_ZERO","",0,0,1,1,0,1,\N,0`,
	}, "\n")
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := mustTenantSQL(t, client, "acme", "SELECT JSONExtractString(plan, 1, 'tier'), JSONExtractString(plan, 1, 'selector') FROM api.queries WHERE kind = 'range'"); got != "10s\tlevel" {
		t.Errorf("plan: got %s, want tier and selector", got)
	}
	if got := mustTenantSQL(t, client, "demo", "SELECT query, tenant FROM api.queries"); got != "count(level)\tdemo" {
		t.Errorf("as demo: got %s, want its own query alone", got)
	}
}

// The same token again is the same queries.
func TestQueriesAreWrittenOnce(t *testing.T) {
	_, client := migrated(t, nil)
	// A year that no column can hold is no year.
	entries := []querylog.Entry{{Tenant: "acme", Time: time.Now(), Text: "a", Start: time.Unix(1<<40, 0),
		End: time.Unix(-1<<40, 0), Step: time.Second, Took: 1500 * time.Microsecond}}
	for range 2 {
		if err := client.InsertQueries(t.Context(), "queries/x/1", entries); err != nil {
			t.Fatal(err)
		}
	}
	if err := client.InsertQueries(t.Context(), "queries/x/2", entries); err != nil {
		t.Fatal(err)
	}
	if got := mustTenantSQL(t, client, "acme", "SELECT count(), any(start), any(end), any(step_ms), any(duration_ms) FROM api.queries FORMAT CSV"); got != `2,\N,\N,1000,1.5` {
		t.Errorf("got %s, want two", got)
	}
}
