package testkit

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// Prepared is what servers of ClickHouse begin with where that takes long to make, as migrations do: it is made once in
// a process, and each server gets a copy. The zero value holds nothing yet. It is safe for concurrent use.
type Prepared struct {
	mu  sync.Mutex
	dir string // data directory of a server that has ended; "" until it is made
}

// ClickHouse starts a server as the function ClickHouse does, with what prepare leaves in an empty one. The first call
// runs prepare, on a server of its own with the same users; prepare ends its test when it fails, and keeps no connection.
// An outside server is prepared each time.
func (p *Prepared) ClickHouse(t testing.TB, usersXML []byte, prepare func(*Server)) *Server {
	t.Helper()
	if os.Getenv(EnvClickHouse) != "" {
		server := ClickHouse(t, usersXML)
		prepare(server)
		return server
	}
	dir := filepath.Join(t.TempDir(), "clickhouse")
	if err := os.CopyFS(dir, os.DirFS(p.prepared(t, usersXML, prepare))); err != nil {
		t.Fatal(err)
	}
	return startClickHouse(t, dir, usersXML)
}

// prepared is the directory to copy.
func (p *Prepared) prepared(t testing.TB, usersXML []byte, prepare func(*Server)) string {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dir != "" {
		return p.dir
	}
	dir, err := os.MkdirTemp("", "vigie-prepared-")
	if err != nil {
		t.Fatal(err)
	}
	preparedDirs.add(dir)
	server := startClickHouse(t, dir, usersXML)
	prepare(server)
	httpClient.CloseIdleConnections() // the server's end would wait for them
	if err := server.engine.Close(); err != nil {
		t.Fatal(err)
	}
	logs, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range logs { // of the time before
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	p.dir = dir
	return dir
}

// preparedDirs are removed when the process ends.
var preparedDirs dirs

type dirs struct {
	mu  sync.Mutex
	all []string
}

func (d *dirs) add(dir string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all = append(d.all, dir)
}

func (d *dirs) remove() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, dir := range d.all {
		_ = os.RemoveAll(dir)
	}
}
