package testkit

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
)

func TestChoose(t *testing.T) {
	answers := func() (string, error) { return "an engine", nil }
	silent := func() (string, error) { return "", errors.New("nobody is there") }
	unasked := func() (string, error) { t.Error("the engine is asked, want not"); return "", nil }
	f := func(env string, built bool, ping func() (string, error), containers bool, why, fails string) {
		t.Helper()
		got, gotWhy, err := choose(env, built, ping)
		if got != containers || !strings.Contains(gotWhy, why) || (err == nil) != (fails == "") || err != nil &&
			!strings.Contains(err.Error(), fails) {
			t.Errorf("%q built=%v: got %v, %q, %v, want %v, %q, %q", env, built, got, gotWhy, err, containers, why, fails)
		}
	}
	f("", true, answers, true, "are containers of an engine", "")
	f("", true, silent, false, "no Docker engine answers: nobody is there", "")
	// People with an engine hear what they could have.
	f("", false, answers, false, "an engine answers, but the tests are built without -tags containers", "")
	f("", false, silent, false, "nobody is there", "")
	f("never", true, unasked, false, "never", "")
	f("always", true, answers, true, "containers of an engine", "")
	f("always", true, silent, false, "nobody", "VIGIE_TEST_CONTAINERS=always: no Docker engine answers: nobody is there")
	f("always", false, answers, false, "-tags containers", "without -tags containers")
	f("yes", true, unasked, false, "want always, never", `VIGIE_TEST_CONTAINERS="yes"`)
}

func TestPingDocker(t *testing.T) {
	path := filepath.Join(t.TempDir(), "docker.sock")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	status := http.StatusOK
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/_ping" {
			t.Errorf("got %s, want /_ping", r.URL)
		}
		w.Header().Set("Api-Version", "1.51")
		w.WriteHeader(status)
	}))
	server.Listener = listener
	server.Start()
	defer server.Close()
	f := func(host, want, fails string) {
		t.Helper()
		got, err := pingDocker(t.Context(), host)
		if got != want || (err == nil) != (fails == "") || err != nil && !strings.Contains(err.Error(), fails) {
			t.Errorf("%s: got %q, %v, want %q, %q", host, got, err, want, fails)
		}
	}
	f("unix://"+path, "the Docker engine at unix://"+path+" (API 1.51)", "")
	status = http.StatusServiceUnavailable
	f("unix://"+path, "", "503")
	f("unix://"+path+".none", "", "ask unix://")
	f("ssh://host", "", "want unix:///path or tcp://host:port")
	f("tcp://"+FreeAddr(t), "", "refused")
}
