package app

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/vigie-io/vigie/internal/auth"
	"github.com/vigie-io/vigie/internal/config"
)

// At endpoints that tenants reach, what names tenants or the process's inside is for operators.
func TestEndpointsOfTenants(t *testing.T) {
	admin, adminDigest := auth.NewKey()
	tenant, tenantDigest := auth.NewKey()
	// visit says what each path answers.
	visit := func(public, openMetrics bool, listener net.Addr, key string) (statuses string) {
		t.Helper()
		cfg := config.Default()
		cfg.Auth.OpenMetrics = openMetrics
		cfg.Auth.Keys = []auth.Key{
			{SHA256: adminDigest, Tenant: "ops", Roles: []auth.Role{auth.Admin}},
			{SHA256: tenantDigest, Tenant: "acme", Roles: []auth.Role{auth.Read, auth.Write}},
		}
		p := Process{Name: "test", Log: slog.New(slog.DiscardHandler)}
		p.prepare()
		endpoint, err := p.open(t.Context(), cfg, "127.0.0.1:0", "test.listen")
		if err != nil {
			t.Fatal(err)
		}
		if listener == nil {
			listener = endpoint.listener.Addr()
		}
		endpoint.tenants = public
		reload, err := newReloader(cfg, &p, listener)
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- endpoint.serve(ctx, reload, &p, func(context.Context) error { return nil }) }()
		defer func() { stop(); <-ended }()
		for _, path := range []string{"/-/healthy", "/metrics", "/config", "/debug/pprof/", "/debug/pprof/cmdline"} {
			request, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+endpoint.listener.Addr().String()+path, nil)
			if key != "" {
				request.Header.Set("Authorization", "Bearer "+key)
			}
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(response.Body)
			_ = response.Body.Close()
			statuses += " " + response.Status[:3]
			if response.StatusCode != http.StatusOK && strings.Contains(string(body), adminDigest) {
				t.Errorf("%s: got %s, want nothing of the configuration", path, body)
			}
		}
		return statuses[1:]
	}
	f := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: got %s, want %s for health, metrics, config, profiles and the command line", what, got, want)
		}
	}
	network := &net.TCPAddr{IP: net.IPv4zero, Port: 7070}
	f("nobody", visit(true, false, network, ""), "200 401 401 401 401")
	f("a tenant", visit(true, false, network, tenant), "200 403 403 403 403")
	f("an operator", visit(true, false, network, admin), "200 200 200 200 404")
	f("nobody, open_metrics", visit(true, true, network, ""), "200 200 401 401 401")
	f("a tenant at a loopback listener", visit(true, false, nil, tenant), "200 403 403 403 403")
	f("somebody on this machine", visit(true, false, nil, ""), "200 200 200 200 404")
	f("an endpoint of operators", visit(false, false, network, ""), "200 200 200 200 404")
}
