package api_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vigie-io/vigie/internal/query/api"
	"github.com/vigie-io/vigie/internal/tenants"
)

// busy is a database whose statements take a second each; it knows the most that ran at a time.
type busy struct {
	mu            sync.Mutex
	running, most int
}

func (b *busy) add(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.running += n
	b.most = max(b.most, b.running)
}

func (b *busy) SQL(context.Context, tenants.ID, string, url.Values, http.Header, io.Reader) (*http.Response, error) {
	b.add(1)
	time.Sleep(time.Second)
	b.add(-1)
	return &http.Response{StatusCode: 200, ContentLength: -1, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(""))}, nil
}

// A process runs no more queries of a tenant at a time than it has places for one, whatever the tenant's limit, and
// each in the end.
func TestTenantPlaces(t *testing.T) {
	for _, c := range []struct{ places, limit, want int }{
		{3, 16, 3},
		{3, 2, 2},
		{0, 1000, max(4, 2*runtime.GOMAXPROCS(0))},
	} {
		synctest.Test(t, func(t *testing.T) {
			cfg, limits, database := api.DefaultConfig(), tenants.DefaultConfig(), new(busy)
			cfg.TenantPlaces, limits.Defaults.QueryConcurrency = c.places, c.limit
			a, err := api.New(cfg, api.Options{
				Store: store{}, Upstream: database, Authenticate: authenticate, Limits: limits.For, Log: slog.New(slog.DiscardHandler),
			})
			if err != nil {
				t.Fatal(err)
			}
			var refused atomic.Int64
			for range c.want + 2 {
				go func() {
					r := httptest.NewRequest("POST", "/sql", strings.NewReader("SELECT 1"))
					r.Header.Set("Authorization", "Bearer k-acme")
					w := httptest.NewRecorder()
					if a.ServeHTTP(w, r); w.Code != http.StatusOK {
						refused.Add(1)
					}
				}()
			}
			time.Sleep(time.Minute)
			synctest.Wait()
			if got := database.most; got != c.want || refused.Load() > 0 {
				t.Errorf("%d places, limit %d: got %d at a time and %d refused, want %d and none", c.places, c.limit, got, refused.Load(), c.want)
			}
		})
	}
}
