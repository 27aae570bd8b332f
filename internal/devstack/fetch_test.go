package devstack_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/devstack"
	"github.com/vigie-io/vigie/internal/testkit"
)

func mkdir(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
}

func absent(path string) error {
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		return fmt.Errorf("%s is still there (%v)", path, err)
	}
	return nil
}

func readPid(path string) (int, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(content)))
}

// fakeNPM puts a shell script named npm before everything else on PATH. It runs in the folder of the fetch.
func fakeNPM(t *testing.T, script string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "a bin")
	mkdir(t, dir)
	if err := os.WriteFile(filepath.Join(dir, "npm"), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
}

func fetch(t *testing.T, cache string) (string, error) {
	t.Helper()
	t.Setenv(devstack.EnvClickHouseLib, "")
	return devstack.EnsureClickHouse(t.Context(), cache, nil)
}

const ways = "VIGIE_CLICKHOUSE_LIB to a libchdb.so of version 26.7, or use a ClickHouse server of your own (clickhouse.addrs)"

func TestFetchSaysTheWayOut(t *testing.T) {
	f := func(printed string, parts ...string) {
		t.Helper()
		fakeNPM(t, "echo 'npm error "+printed+"' >&2; exit 1")
		cache := filepath.Join(t.TempDir(), "a cache")
		_, err := fetch(t, cache)
		wantError(t, err, append(parts, printed, ways)...)
		if left, _ := filepath.Glob(filepath.Join(cache, ".fetch-*")); len(left) > 0 {
			t.Errorf("left over after an error: %v", left)
		}
	}
	f("code ENOTFOUND", "cannot be reached", "connect to the network")
	f("code ENOSPC", "disk is full", "free 800 MB")
	f("code EROFS", "may not write", "VIGIE_CACHE_DIR")
	f("code EINTEGRITY", "pinned checksum")
	f("code E404", "does not have the package")
	f("code E403", "refuses access")
	f("something new", "run npm by hand")
}

func TestFetchWithoutNPM(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := fetch(t, t.TempDir())
	wantError(t, err, "npm is not installed or not on PATH", "install Node.js", ways)
}

// With the real npm and a registry where nobody listens.
func TestFetchOffline(t *testing.T) {
	t.Setenv("npm_config_registry", "http://127.0.0.1:1/")
	t.Setenv("npm_config_cache", t.TempDir())
	_, err := fetch(t, t.TempDir())
	wantError(t, err, "the npm registry cannot be reached", ways)
}

func TestFetchIntoADirectoryThatIsNone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := fetch(t, filepath.Join(file, "cache"))
	wantError(t, err, "is not writable", "set VIGIE_CACHE_DIR", ways)
}

func TestFetchWithTooLittleDisk(t *testing.T) {
	_, err := devstack.EnsureCached(t.Context(), t.TempDir(), devstack.Part{
		Name: "huge", Space: 1 << 60, Valid: func(string) bool { return false }}, nil)
	wantError(t, err, "MB free", "are needed", "VIGIE_CACHE_DIR")
}

func TestFetchEndsWithItsContext(t *testing.T) {
	pidFile := filepath.Join(t.TempDir(), "pid")
	fakeNPM(t, `sh -c 'echo $$ > "`+pidFile+`"; exec sleep 300'`)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for ctx.Err() == nil {
			if _, err := readPid(pidFile); err == nil {
				cancel()
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	t.Setenv(devstack.EnvClickHouseLib, "")
	_, err := devstack.EnsureClickHouse(ctx, t.TempDir(), nil)
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want %v", err, context.Canceled)
	}
	pid, err := readPid(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, soon, func() error { return gone(pid) })
}

// linkNPM is an npm that takes the library from this machine's cache and counts its runs.
func linkNPM(t *testing.T) (runs func() int) {
	t.Helper()
	lib := library(t)
	count := filepath.Join(t.TempDir(), "runs")
	fakeNPM(t, `echo run >> "`+count+`"
folder=node_modules/@chdb/lib-linux-x64-gnu
mkdir -p $folder && { ln "`+lib+`" $folder/libchdb.so 2>/dev/null || cp "`+lib+`" $folder/libchdb.so; }
sleep 0.2`)
	return func() int {
		content, _ := os.ReadFile(count)
		return strings.Count(string(content), "run")
	}
}

func TestFetchOnceForAll(t *testing.T) {
	runs := linkNPM(t)
	t.Setenv(devstack.EnvClickHouseLib, "")
	cache := filepath.Join(t.TempDir(), "a cache with spaces")
	mkdir(t, filepath.Join(cache, ".fetch-of-a-killed-process"))
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if _, err := devstack.EnsureClickHouse(t.Context(), cache, nil); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got := runs(); got != 1 {
		t.Fatalf("runs of npm: got %d, want 1", got)
	}
	if err := absent(filepath.Join(cache, ".fetch-of-a-killed-process")); err != nil {
		t.Error(err)
	}

	lib, err := fetch(t, cache)
	if err != nil {
		t.Fatal(err)
	}
	cfg := clickHouseConfig(t, filepath.Join(t.TempDir(), "a data directory"))
	cfg.Lib = lib
	server := startClickHouse(t, cfg)
	mustQuery(t, server.HTTPAddr(), "SELECT 1", "1")
}

func TestFetchAgainWhenTheLibraryIsNotWhole(t *testing.T) {
	runs := linkNPM(t)
	cache := t.TempDir()
	lib, err := fetch(t, cache)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := os.Stat(lib)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(lib); err != nil { // it may be a link to the real one: write a new file
		t.Fatal(err)
	}
	if err := os.WriteFile(lib, []byte("cut off"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := fetch(t, cache); err != nil {
		t.Fatal(err)
	}
	got, err := os.Stat(lib)
	if err != nil {
		t.Fatal(err)
	}
	if got.Size() != whole.Size() || runs() != 2 {
		t.Errorf("got %d bytes after %d runs of npm, want %d after 2", got.Size(), runs(), whole.Size())
	}
}

func TestLibraryOfTheEnvironment(t *testing.T) {
	lib := filepath.Join(t.TempDir(), "libchdb.so")
	t.Setenv(devstack.EnvClickHouseLib, lib)
	_, err := devstack.EnsureClickHouse(t.Context(), t.TempDir(), nil)
	wantError(t, err, "VIGIE_CLICKHOUSE_LIB", lib)
	if err := os.WriteFile(lib, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := devstack.EnsureClickHouse(t.Context(), t.TempDir(), nil); err != nil || got != lib {
		t.Errorf("got %q, %v, want %q", got, err, lib)
	}
}

// Every package is pinned by checksum, and none says from where it is to be fetched.
func TestPins(t *testing.T) {
	content, err := os.ReadFile(filepath.Join("npm", "package-lock.json"))
	if err != nil {
		t.Fatal(err)
	}
	var lock struct {
		Packages map[string]struct{ Integrity, Resolved string }
	}
	if err := json.Unmarshal(content, &lock); err != nil {
		t.Fatal(err)
	}
	for name, pin := range lock.Packages {
		if name != "" && !strings.HasPrefix(pin.Integrity, "sha512-") {
			t.Errorf("integrity of %s: got %q, want a SHA-512", name, pin.Integrity)
		}
		if pin.Resolved != "" {
			t.Errorf("address of %s: got %s, want none", name, pin.Resolved)
		}
	}
}
