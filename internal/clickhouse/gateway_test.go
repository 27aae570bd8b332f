package clickhouse_test

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/query/slots"
	"github.com/vigie-io/vigie/internal/query/sqlgate"
	"github.com/vigie-io/vigie/internal/tenants"
)

// gate puts the gateway of tenants in front of a real server. The key of a tenant is k- and its name.
func gate(t testing.TB, client *clickhouse.Client, change func(*tenants.Limits)) *httptest.Server {
	t.Helper()
	limits := tenants.DefaultConfig().Defaults
	if change != nil {
		change(&limits)
	}
	gateway, err := sqlgate.New(sqlgate.DefaultConfig(), sqlgate.Options{
		Upstream: client, Authenticate: keyOf, Limits: func(tenants.ID) tenants.Limits { return limits },
		Slots:  slots.New(func(tenants.ID) (int, int) { return limits.QueryConcurrency, 4 }),
		Hidden: clickhouse.Hidden(), Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/sql", http.StripPrefix("/sql", gateway))
	mux.Handle("/sql/", http.StripPrefix("/sql", gateway))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server
}

func keyOf(r *http.Request) (tenants.ID, error) {
	key := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	if _, password, ok := r.BasicAuth(); ok {
		key = password
	}
	if tenant, ok := strings.CutPrefix(key, "k-"); ok {
		return tenants.ID(tenant), nil
	}
	return "", tenants.ErrUnauthenticated
}

// through asks the gateway as a tenant.
func through(t testing.TB, server *httptest.Server, tenant, statement string, params url.Values,
	header ...string) (int, string, http.Header) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+"/sql/?"+params.Encode(), strings.NewReader(statement))
	if err != nil {
		t.Fatal(err)
	}
	request.SetBasicAuth("anybody", "k-"+tenant)
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		body = fmt.Appendf(body, "\n[broken off: %v]", err)
	}
	return response.StatusCode, string(body), response.Header
}
