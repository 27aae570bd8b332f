package auth_test

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vigie-io/vigie/internal/auth"
	"github.com/vigie-io/vigie/internal/tenants"
)

var (
	loopback = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 7071}
	public   = &net.TCPAddr{IP: net.IPv4zero, Port: 7071}
)

func newAuthenticator(t testing.TB, config auth.Config, listener net.Addr) *auth.Authenticator {
	t.Helper()
	a, err := auth.New(config, listener)
	if err != nil {
		t.Fatalf("new authenticator: %v", err)
	}
	return a
}

func TestNewKey(t *testing.T) {
	plain, digest := auth.NewKey()
	other, _ := auth.NewKey()
	if !strings.HasPrefix(plain, "vgk_") || len(plain) != 56 || plain == other {
		t.Errorf("got %d characters with prefix %q, want 56 with vgk_, and two keys that differ", len(plain), plain[:4])
	}
	if digest != auth.Digest(plain) || len(digest) != 64 {
		t.Errorf("digest: got %q, want %q", digest, auth.Digest(plain))
	}
}

func TestTenantByKey(t *testing.T) {
	writer, writerSum := auth.NewKey()
	reader, readerSum := auth.NewKey()
	a := newAuthenticator(t, auth.Config{
		Keys: []auth.Key{
			{SHA256: writerSum, Tenant: "acme", Roles: []auth.Role{auth.Write}, Name: "agent"},
			{SHA256: strings.ToUpper(readerSum), Tenant: "demo", Roles: []auth.Role{auth.Read, auth.Admin}},
		},
		LoopbackTenant: "dev",
	}, loopback)

	f := func(prepare func(*http.Request), role auth.Role, want tenants.ID, wantErr error) {
		t.Helper()
		r := httptest.NewRequest("POST", "http://127.0.0.1:7071/v1/events/metrics", nil)
		r.RemoteAddr = "127.0.0.1:4711"
		prepare(r)
		got, err := a.Tenant(r, role)
		if got != want || !errors.Is(err, wantErr) {
			t.Errorf("got %q, %v, want %q, %v", got, err, want, wantErr)
		}
		if err != nil && (strings.Contains(err.Error(), writer) || strings.Contains(err.Error(), reader)) {
			t.Errorf("the error shows a key: %v", err)
		}
	}
	authorization := func(value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("Authorization", value) }
	}
	f(authorization("Bearer "+writer), auth.Write, "acme", nil)
	f(authorization("bearer  "+writer), auth.Write, "acme", nil)
	f(func(r *http.Request) { r.SetBasicAuth("whoever", writer) }, auth.Write, "acme", nil)
	f(func(r *http.Request) { r.SetBasicAuth("", reader) }, auth.Read, "demo", nil)
	f(authorization("Bearer "+reader), auth.Admin, "demo", nil)
	f(authorization("Bearer "+writer), auth.Read, "", auth.ErrForbidden)
	f(authorization("Bearer "+writer), auth.Admin, "", auth.ErrForbidden)
	f(authorization("Bearer "+writer[:len(writer)-1]), auth.Write, "", auth.ErrUnauthenticated)
	f(authorization("Bearer "+writerSum), auth.Write, "", auth.ErrUnauthenticated)
	// A bad credential never falls back to the tenant of development.
	f(authorization(""), auth.Write, "", auth.ErrUnauthenticated)
	f(authorization("Bearer "), auth.Write, "", auth.ErrUnauthenticated)
	f(authorization("Basic !!"), auth.Write, "", auth.ErrUnauthenticated)
	f(authorization("Digest "+writer), auth.Write, "", auth.ErrUnauthenticated)
	// The key names the tenant, whatever a header says.
	f(func(r *http.Request) {
		r.Header.Set("Authorization", "Bearer "+writer)
		r.Header.Set("X-Scope-OrgID", "demo")
	}, auth.Write, "acme", nil)
}

func TestLoopbackTenant(t *testing.T) {
	f := func(tenant tenants.ID, listener net.Addr, remote, host string, header http.Header, role auth.Role, trusted bool) {
		t.Helper()
		r := httptest.NewRequest("GET", "http://"+host+"/", nil)
		r.RemoteAddr = remote
		for name, values := range header {
			r.Header[name] = values
		}
		got, err := newAuthenticator(t, auth.Config{LoopbackTenant: tenant}, listener).Tenant(r, role)
		if trusted && (got != tenant || err != nil) || !trusted && (got != "" || !errors.Is(err, auth.ErrUnauthenticated)) {
			t.Errorf("got %q, %v, want trusted %v", got, err, trusted)
		}
	}
	const here, host = "127.0.0.1:4711", "127.0.0.1:7071"
	f("demo", loopback, here, host, nil, auth.Write, true)
	f("demo", loopback, here, "localhost:7071", nil, auth.Read, true)
	f("demo", &net.TCPAddr{IP: net.IPv6loopback, Port: 7071}, "[::1]:99", "[::1]:7071", nil, auth.Read, true)
	f("demo", loopback, here, host, http.Header{"Origin": {"http://localhost:3000"}}, auth.Read, true)

	f("", loopback, here, host, nil, auth.Read, false)
	f("demo", nil, here, host, nil, auth.Read, false)
	f("demo", public, here, host, nil, auth.Read, false)
	f("demo", loopback, "10.0.0.7:1", host, nil, auth.Read, false)
	f("demo", loopback, here, host, nil, auth.Admin, false)
	// A proxy on this machine speaks for somebody else.
	for _, name := range []string{"Forwarded", "Via", "X-Forwarded-For", "X-Real-Ip", "Cf-Connecting-Ip"} {
		f("demo", loopback, here, host, http.Header{name: {""}}, auth.Read, false)
	}
	// A page in this machine's browser: by its own origin, or by a name that it rebinds to 127.0.0.1.
	f("demo", loopback, here, host, http.Header{"Origin": {"https://evil.example"}}, auth.Write, false)
	f("demo", loopback, here, host, http.Header{"Origin": {"null"}}, auth.Write, false)
	f("demo", loopback, here, host, http.Header{"Sec-Fetch-Site": {"cross-site"}}, auth.Write, false)
	f("demo", loopback, here, "evil.example:7071", nil, auth.Read, false)
}

func TestConfigErrors(t *testing.T) {
	_, sum := auth.NewKey()
	good := auth.Key{SHA256: sum, Tenant: "acme", Roles: []auth.Role{auth.Read}}
	f := func(config auth.Config, want string) {
		t.Helper()
		_, err := auth.New(config, loopback)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error with %q", err, want)
		}
	}
	edit := func(change func(*auth.Key)) auth.Config {
		key := good
		change(&key)
		return auth.Config{Keys: []auth.Key{key}}
	}
	f(edit(func(k *auth.Key) { k.SHA256 = "abc" }), "sha256")
	f(edit(func(k *auth.Key) { k.SHA256 = "vgk_THEKEYITSELF" }), "sha256")
	f(edit(func(k *auth.Key) { k.Tenant = "a#b" }), "a#b")
	f(edit(func(k *auth.Key) { k.Roles = nil }), "roles")
	f(edit(func(k *auth.Key) { k.Roles = []auth.Role{"root"} }), "root")
	f(auth.Config{Keys: []auth.Key{good, good}}, "same sha256")
	f(auth.Config{LoopbackTenant: "_x"}, "loopback_tenant")
	f(auth.Config{KeysFile: filepath.Join(t.TempDir(), "none.yaml")}, "keys_file")
}

func TestReload(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	plain, sum := auth.NewKey()
	ask := func(a *auth.Authenticator) error {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Authorization", "Bearer "+plain)
		_, err := a.Tenant(r, auth.Read)
		return err
	}
	write("")
	config := auth.Config{KeysFile: path}
	a := newAuthenticator(t, config, nil)
	if err := ask(a); !errors.Is(err, auth.ErrUnauthenticated) {
		t.Errorf("before: got %v, want ErrUnauthenticated", err)
	}
	write(fmt.Sprintf("keys:\n- sha256: %s\n  tenant: acme\n  roles: [read]\n", sum))
	if err := a.Reload(config); err != nil || ask(a) != nil {
		t.Errorf("after: got %v, %v, want the key to be known", err, ask(a))
	}
	write("keys:\n- sha265: typo\n")
	if err := a.Reload(config); err == nil || ask(a) != nil {
		t.Errorf("bad file: got %v, %v, want an error and the old keys", err, ask(a))
	}
	if err := a.Reload(auth.Config{}); err != nil || !errors.Is(ask(a), auth.ErrUnauthenticated) {
		t.Errorf("without keys: got %v, %v, want the key to be gone", err, ask(a))
	}
}

func TestOperator(t *testing.T) {
	admin, adminSum := auth.NewKey()
	reader, readerSum := auth.NewKey()
	config := auth.Config{LoopbackTenant: "demo", Keys: []auth.Key{
		{SHA256: adminSum, Tenant: "acme", Roles: []auth.Role{auth.Admin}}, {SHA256: readerSum, Tenant: "acme", Roles: []auth.Role{auth.Read, auth.Write}},
	}}
	f := func(listener net.Addr, remote, key string, want bool) {
		t.Helper()
		r := httptest.NewRequest("POST", "http://127.0.0.1:7072/-/reload", nil)
		r.RemoteAddr = remote
		if key != "" {
			r.Header.Set("Authorization", "Bearer "+key)
		}
		if err := newAuthenticator(t, config, listener).Operator(r); (err == nil) != want {
			t.Errorf("listener %v, from %s, key %q: got %v, want allowed %v", listener, remote, key, err, want)
		}
	}
	public := &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 7072}
	f(loopback, "127.0.0.1:999", "", true)
	f(loopback, "10.0.0.2:999", "", false)
	f(public, "127.0.0.1:999", "", false)
	f(public, "10.0.0.2:999", admin, true)
	f(public, "10.0.0.2:999", reader, false)
	f(loopback, "127.0.0.1:999", reader, false)
	f(loopback, "127.0.0.1:999", "vgk_unknown", false)
}

func BenchmarkTenant(b *testing.B) {
	plain, sum := auth.NewKey()
	a := newAuthenticator(b, auth.Config{Keys: []auth.Key{{SHA256: sum, Tenant: "acme", Roles: []auth.Role{auth.Write}}}}, nil)
	r := httptest.NewRequest("POST", "/", nil)
	r.Header.Set("Authorization", "Bearer "+plain)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := a.Tenant(r, auth.Write); err != nil {
			b.Fatal(err)
		}
	}
}
