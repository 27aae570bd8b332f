package testkit

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/devstack"
)

// EnvClickHouse is the HTTP address of a ClickHouse server to test against instead of an embedded one.
const EnvClickHouse = "VIGIE_TEST_CLICKHOUSE"

// httpClient lets an idle connection go before the embedded engine does, after 3 s: a POST on one that the server is
// just closing fails, and is not sent again.
var httpClient = &http.Client{Transport: &http.Transport{IdleConnTimeout: time.Second, MaxIdleConnsPerHost: 64}}

// Server is a ClickHouse server that one test has to itself.
type Server struct {
	// HTTPAddr and NativeAddr are IP:port; NativeAddr is "" for an outside server.
	HTTPAddr, NativeAddr string

	t      testing.TB
	engine *devstack.ClickHouse // nil for an outside server
}

// ClickHouse starts a server with an empty data directory and the users of usersXML (nil: one user `default`, without
// password, who may do everything), and ends it with the test. With VIGIE_TEST_CLICKHOUSE set it gives that server
// instead, data and all, and skips tests that need users of their own.
func ClickHouse(t testing.TB, usersXML []byte) *Server {
	t.Helper()
	if addr := os.Getenv(EnvClickHouse); addr != "" {
		if usersXML != nil {
			t.Skipf("needs a users.xml of its own, which the server of %s does not take", EnvClickHouse)
		}
		return &Server{HTTPAddr: addr, t: t}
	}
	return startClickHouse(t, filepath.Join(t.TempDir(), "clickhouse"), usersXML)
}

// startClickHouse starts a server on a data directory, which may hold what another one has left.
func startClickHouse(t testing.TB, dir string, usersXML []byte) *Server {
	t.Helper()
	lib, err := devstack.EnsureClickHouse(t.Context(), "", func(line string) { t.Log(line) })
	if err != nil {
		Missing(t, "ClickHouse", err.Error())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	engine, err := devstack.StartClickHouse(ctx, devstack.ClickHouseConfig{
		Dir: dir, HTTPAddr: FreeAddr(t), NativeAddr: FreeAddr(t),
		UsersXML: usersXML, Lib: lib, Log: Log(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		engine.Kill() // nobody reads its data any more, and its end in order waits for connections that idle
		_ = engine.Close()
	})
	return &Server{HTTPAddr: engine.HTTPAddr(), NativeAddr: engine.NativeAddr(), t: t, engine: engine}
}

// URL is the server's HTTP address as a URL, without a trailing slash.
func (s *Server) URL() string { return "http://" + s.HTTPAddr }

// Post sends a statement as a user, with the parameters of a URL's query, and returns what is answered, errors of the
// server included.
func (s *Server) Post(t testing.TB, user, password, params, statement string) (status int, answer string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL()+"/?"+params, strings.NewReader(statement))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X-ClickHouse-User", user)
	request.Header.Set("X-ClickHouse-Key", password)
	response, err := httpClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

// Pid is the process id of the server; it changes with every restart.
func (s *Server) Pid() int {
	s.needEmbedded()
	return s.engine.Pid()
}

// Kill ends the server as a crash would; it stays down until Restart.
func (s *Server) Kill() {
	s.t.Helper()
	s.needEmbedded()
	s.engine.Kill()
}

// Restart starts the server again, on the same addresses with its data, and stops it in order first if it runs.
func (s *Server) Restart() {
	s.t.Helper()
	s.needEmbedded()
	if err := s.engine.Restart(context.Background()); err != nil {
		s.t.Fatal(err)
	}
}

func (s *Server) needEmbedded() {
	if s.engine == nil {
		s.t.Helper()
		s.t.Skipf("stops and starts its server, which the one of %s does not allow", EnvClickHouse)
	}
}
