package clickhouse_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/query/promql"
	"github.com/vigie-io/vigie/internal/query/slots"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/series"
)

// givingWay is ctx of a query of a tenant that holds more than its share of places.
func givingWay(t *testing.T, ctx context.Context) context.Context {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := slots.New(func(tenants.ID) (int, int) { return 4, 0 })
		take := func(tenant tenants.ID) *slots.Place {
			place, err := s.Acquire(t.Context(), tenant)
			if err != nil {
				t.Fatal(err)
			}
			return place
		}
		for range 3 {
			defer take("acme").Release()
		}
		time.Sleep(time.Minute)
		defer take("demo").Release()
		last := take("acme")
		defer last.Release()
		ctx = last.Context(ctx)
	})
	if !slots.GivesWay(ctx) {
		t.Fatal("a query beyond its tenant's share does not give way")
	}
	return ctx
}

// Statements of queries that give way ask the server for less of its system, and no others do.
func TestStatementsGiveWay(t *testing.T) {
	var asked []url.Values
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.Query())
	}))
	defer server.Close()
	cfg := clickhouse.DefaultConfig()
	cfg.Addrs = []string{strings.TrimPrefix(server.URL, "http://")}
	client, err := clickhouse.NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	store := clickhouse.NewStore(client)
	panes := promql.PaneQuery{Metrics: []string{"m"}, IDs: []series.ID{{Lo: 1}}, Tier: promql.Tier10s, To: 10_000, Sum: true}
	folded := panes
	folded.Groups = []uint32{0}
	for name, statement := range map[string]func(ctx context.Context) error{
		"panes": func(ctx context.Context) error {
			return store.Panes(ctx, "acme", panes, func(series.ID, *promql.Pane) error { return nil })
		},
		"groups": func(ctx context.Context) error {
			return store.Panes(ctx, "acme", folded, func(series.ID, *promql.Pane) error { return nil })
		},
		"columns": func(ctx context.Context) error {
			return store.Columns(ctx, "acme", panes, func(series.ID, *promql.PaneColumn) error { return nil })
		},
		"series": func(ctx context.Context) error {
			_, err := store.Series(ctx, "acme", promql.SeriesQuery{Metrics: []string{"m"}})
			return err
		},
		"SQL": func(ctx context.Context) error {
			answer, err := client.SQL(ctx, "acme", http.MethodPost, nil, nil, strings.NewReader("SELECT 1"))
			if err == nil {
				err = answer.Body.Close()
			}
			return err
		},
	} {
		for want, ctx := range map[string]context.Context{"": t.Context(), "10": givingWay(t, t.Context())} {
			asked = nil
			if err := statement(ctx); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if len(asked) != 1 || asked[0].Get("os_thread_priority") != want {
				t.Errorf("%s: got %v, want one statement with os_thread_priority %q", name, asked, want)
			}
		}
	}
}

// The server takes the setting of both its users.
func TestServerTakesStatementsThatGiveWay(t *testing.T) {
	_, client := migrated(t, nil)
	ctx := givingWay(t, t.Context())
	if _, err := clickhouse.NewStore(client).Series(ctx, "acme", promql.SeriesQuery{Metrics: []string{"m"}}); err != nil {
		t.Error(err)
	}
	const statement = "SELECT value FROM system.settings WHERE name = 'os_thread_priority'"
	answer, err := client.SQL(ctx, "acme", http.MethodPost, nil, nil, strings.NewReader(statement))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	got, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	if strings.TrimSpace(string(got)) != "10" {
		t.Errorf("got priority %q, want 10", got)
	}
}
