package devstack_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/vigie-io/vigie/internal/devstack"
	"github.com/vigie-io/vigie/internal/testkit"
)

func library(t *testing.T) string {
	t.Helper()
	lib, err := devstack.EnsureClickHouse(t.Context(), "", func(line string) { t.Log(line) })
	if err != nil {
		testkit.Missing(t, "ClickHouse", err.Error())
	}
	return lib
}

func clickHouseConfig(t *testing.T, dir string) devstack.ClickHouseConfig {
	t.Helper()
	return devstack.ClickHouseConfig{
		Dir: dir, Lib: library(t), HTTPAddr: testkit.FreeAddr(t), NativeAddr: testkit.FreeAddr(t), Log: testkit.Log(t)}
}

func startClickHouse(t *testing.T, cfg devstack.ClickHouseConfig) *devstack.ClickHouse {
	t.Helper()
	server, err := devstack.StartClickHouse(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	return server
}

func query(addr, sql string) (string, error) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Post("http://"+addr, "text/plain", strings.NewReader(sql))
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return "", err
	}
	text := strings.TrimSpace(string(body))
	if response.StatusCode != http.StatusOK {
		return "", errors.New(text)
	}
	return text, nil
}

func mustQuery(t *testing.T, addr, sql, want string) {
	t.Helper()
	if got, err := query(addr, sql); err != nil || got != want {
		t.Fatalf("%s: got %q, %v, want %q", sql, got, err, want)
	}
}

func fill(t *testing.T, addr string) {
	t.Helper()
	mustQuery(t, addr, "CREATE TABLE t (n UInt64) ENGINE = MergeTree ORDER BY n", "")
	mustQuery(t, addr, "INSERT INTO t SELECT number FROM numbers(1000)", "")
}

func TestClickHouseDiesWithItsParentAndKeepsItsData(t *testing.T) {
	cfg := clickHouseConfig(t, filepath.Join(t.TempDir(), "a directory with spaces & <signs>"))
	line, kill := parent(t, "clickhouse", cfg.Dir, cfg.Lib, cfg.HTTPAddr, cfg.NativeAddr)
	pid, err := strconv.Atoi(line)
	if err != nil {
		t.Fatal(err)
	}
	fill(t, cfg.HTTPAddr)
	kill()
	// At once, while the orphan is still ending: the start waits for it.
	server := startClickHouse(t, cfg)
	if err := gone(pid); err != nil {
		t.Errorf("engine of the killed parent: %v", err)
	}
	mustQuery(t, server.HTTPAddr(), "SELECT sum(n) FROM t", "499500")
}

func TestClickHouseOrphanEndsDuringAQuery(t *testing.T) {
	cfg := clickHouseConfig(t, t.TempDir())
	line, kill := parent(t, "clickhouse", cfg.Dir, cfg.Lib, cfg.HTTPAddr, cfg.NativeAddr)
	pid, err := strconv.Atoi(line)
	if err != nil {
		t.Fatal(err)
	}
	done := longQuery(t, cfg.HTTPAddr)
	kill()
	testkit.Eventually(t, soon, func() error { return gone(pid) })
	<-done
}

// longQuery starts a query that takes minutes and returns when the server works on it; done is closed when it ends.
func longQuery(t *testing.T, addr string) (done chan struct{}) {
	t.Helper()
	done = make(chan struct{})
	go func() {
		defer close(done)
		_, _ = query(addr, "SELECT sleepEachRow(1) FROM numbers(200) SETTINGS max_block_size = 1, function_sleep_max_microseconds_per_block = 0 FORMAT Null")
	}()
	testkit.Eventually(t, soon, func() error {
		got, err := query(addr, "SELECT count() FROM system.processes WHERE query LIKE '%sleepEachRow%' AND query NOT LIKE '%processes%'")
		if err == nil && got != "1" {
			err = fmt.Errorf("running long queries: got %s, want 1", got)
		}
		return err
	})
	return done
}

func TestClickHouseCloseEndsAQueryAndLeavesNothing(t *testing.T) {
	cfg := clickHouseConfig(t, t.TempDir())
	ignore := goleak.IgnoreCurrent()
	server := startClickHouse(t, cfg)
	pid := server.Pid()
	done := longQuery(t, server.HTTPAddr())
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	if err := gone(pid); err != nil {
		t.Error(err)
	}
	<-done
	if err := server.Err(); err != nil {
		t.Errorf("reason after Close: got %v, want nil", err)
	}
	if err := server.Restart(t.Context()); !errors.Is(err, devstack.ErrClosed) {
		t.Errorf("restart after Close: got %v, want %v", err, devstack.ErrClosed)
	}
	if err := server.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	goleak.VerifyNone(t, ignore)
}

func TestClickHouseStartsAgainAfterACrash(t *testing.T) {
	server := startClickHouse(t, clickHouseConfig(t, t.TempDir()))
	fill(t, server.HTTPAddr())
	for range 2 {
		pid := server.Pid()
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, soon, func() error {
			if server.Pid() == pid {
				return fmt.Errorf("process %d was not replaced", pid)
			}
			return nil
		})
		mustQuery(t, server.HTTPAddr(), "SELECT sum(n) FROM t", "499500")
	}
}

func TestClickHouseGivesUpWhenItCannotStartAgain(t *testing.T) {
	t.Parallel() // the pauses between attempts add up to 16 s
	cfg := clickHouseConfig(t, t.TempDir())
	cfg.Log = slog.New(slog.DiscardHandler)
	server := startClickHouse(t, cfg)
	var listener net.Listener
	killed := 0
	testkit.Eventually(t, soon, func() (err error) { // on a busy machine it may be there again before its port is taken
		if pid := server.Pid(); pid != killed {
			killed = pid
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
		listener, err = net.Listen("tcp", cfg.HTTPAddr)
		return err
	})
	defer listener.Close()
	select {
	case <-server.Done():
	case <-time.After(3 * soon):
		t.Fatal("supervision goes on, want it to give up")
	}
	wantError(t, server.Err(), "restart ClickHouse", cfg.HTTPAddr)
}

func TestClickHouseStaysDeadAfterKillUntilRestart(t *testing.T) {
	cfg := clickHouseConfig(t, t.TempDir())
	server := startClickHouse(t, cfg)
	fill(t, cfg.HTTPAddr)
	server.Kill()
	listener, err := net.Listen("tcp", cfg.HTTPAddr)
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, server.Restart(t.Context()), cfg.HTTPAddr, "another program")
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // a second restart finds logs of the first on disk
		if err := server.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		mustQuery(t, cfg.HTTPAddr, "SELECT sum(n) FROM t", "499500")
		mustQuery(t, cfg.HTTPAddr, "SYSTEM FLUSH LOGS", "")
		mustQuery(t, cfg.HTTPAddr, "SELECT count() > 0 FROM system.query_log", "1")
	}
}

func TestClickHouseRefusesADirectoryInUse(t *testing.T) {
	first := clickHouseConfig(t, t.TempDir())
	startClickHouse(t, first)
	second := clickHouseConfig(t, first.Dir)
	_, err := devstack.StartClickHouse(t.Context(), second)
	wantError(t, err, "in use by process "+strconv.Itoa(os.Getpid()), "another")
	mustQuery(t, first.HTTPAddr, "SELECT 1", "1")
}

func TestClickHouseRefusesAddresses(t *testing.T) {
	f := func(change func(*devstack.ClickHouseConfig), parts ...string) {
		t.Helper()
		cfg := clickHouseConfig(t, t.TempDir())
		change(&cfg)
		_, err := devstack.StartClickHouse(t.Context(), cfg)
		wantError(t, err, parts...)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	taken := listener.Addr().String()
	f(func(c *devstack.ClickHouseConfig) { c.HTTPAddr = taken }, "ClickHouse HTTP on "+taken, "another program uses this port", "configure another address")
	f(func(c *devstack.ClickHouseConfig) { c.NativeAddr = taken }, "ClickHouse native on "+taken, "another program uses this port")
	f(func(c *devstack.ClickHouseConfig) { c.HTTPAddr = "0.0.0.0:8123" }, "loopback")
	f(func(c *devstack.ClickHouseConfig) { c.HTTPAddr = "localhost" }, "want IP:port")
	f(func(c *devstack.ClickHouseConfig) { c.HTTPAddr = "127.0.0.1:0" }, "want a port above 0")
	f(func(c *devstack.ClickHouseConfig) {
		c.HTTPAddr = strings.Replace(c.HTTPAddr, "127.0.0.1", "127.0.0.2", 1)
	}, "same IP")
}

func TestClickHouseThatDoesNotStartSaysWhy(t *testing.T) {
	f := func(change func(*devstack.ClickHouseConfig), parts ...string) {
		t.Helper()
		cfg := clickHouseConfig(t, t.TempDir())
		change(&cfg)
		_, err := devstack.StartClickHouse(t.Context(), cfg)
		wantError(t, err, parts...)
		// Nothing is left that holds the directory.
		cfg = clickHouseConfig(t, cfg.Dir)
		if err := startClickHouse(t, cfg).Close(); err != nil {
			t.Error(err)
		}
	}
	f(func(c *devstack.ClickHouseConfig) { c.UsersXML = []byte("<clickhouse><users>") }, "start ClickHouse in", "users.xml", "last lines of")
	notALibrary := filepath.Join(t.TempDir(), "libchdb.so")
	if err := os.WriteFile(notALibrary, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	f(func(c *devstack.ClickHouseConfig) { c.Lib = notALibrary }, "load ClickHouse library")
	f(func(c *devstack.ClickHouseConfig) { c.Lib = notALibrary + ".none" }, "start ClickHouse: library")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := devstack.StartClickHouse(ctx, clickHouseConfig(t, t.TempDir()))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("start with an ended context: got %v, want %v", err, context.Canceled)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = devstack.StartClickHouse(t.Context(), clickHouseConfig(t, filepath.Join(file, "dir")))
	wantError(t, err, "choose another one")
}

func TestClickHouseFilesArePrivate(t *testing.T) {
	cfg := clickHouseConfig(t, t.TempDir())
	if err := os.WriteFile(filepath.Join(cfg.Dir, "users.xml"), []byte("old and readable"), 0o644); err != nil {
		t.Fatal(err)
	}
	startClickHouse(t, cfg)
	for _, name := range []string{"users.xml", "config.xml", "console.log", "devstack.lock"} {
		info, err := os.Stat(filepath.Join(cfg.Dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != 0o600 {
			t.Errorf("mode of %s: got %o, want 600", name, got)
		}
	}
}

// The scalar file() checks no rights in this engine, so only the sandbox keeps SQL users from the machine's files.
func TestClickHouseReadsNothingOutsideItsDirectory(t *testing.T) {
	cfg := clickHouseConfig(t, t.TempDir())
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("hush"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("VIGIE_TEST_SECRET", "hush")
	server := startClickHouse(t, cfg)
	if info, err := os.ReadFile("/sys/kernel/security/lsm"); err == nil && !strings.Contains(string(info), "landlock") {
		testkit.Missing(t, "Landlock", "this kernel runs without it; use Linux 5.13 or later")
	}
	for _, path := range []string{"/etc/passwd", secret, fmt.Sprintf("/proc/%d/environ", os.Getpid()), fmt.Sprintf("/proc/%d/maps", os.Getpid())} {
		if got, err := query(server.HTTPAddr(), fmt.Sprintf("SELECT file('%s')", path)); err == nil {
			t.Errorf("file('%s'): got %q, want an error", path, got)
		}
	}
	// Its own environment is readable, and holds nothing of ours.
	if got, err := query(server.HTTPAddr(), "SELECT file('/proc/self/environ')"); err == nil && strings.Contains(got, "hush") {
		t.Errorf("environment of the engine: got %q, want nothing of the parent's", got)
	}
}
