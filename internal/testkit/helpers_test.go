package testkit_test

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/testkit"
)

func TestBuildBinary(t *testing.T) {
	path := testkit.BuildBinary(t, "./internal/testkit/testdata/hello")
	output, err := exec.Command(path).CombinedOutput()
	if err != nil || string(output) != "hello\n" {
		t.Fatalf("built binary: got %q, %v, want hello", output, err)
	}
	if again := testkit.BuildBinary(t, "./internal/testkit/testdata/hello"); again != path {
		t.Errorf("built twice: got %s, want %s", again, path)
	}
}

// Servers are told of a port before they listen on it: in between, neither another test nor an outgoing connection may
// get it.
func TestFreeAddr(t *testing.T) {
	given := map[string]bool{}
	for range 200 {
		addr := testkit.FreeAddr(t)
		if given[addr] {
			t.Fatalf("%s was given twice", addr)
		}
		given[addr] = true
	}
	for addr := range given {
		listener, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		listener.Close()
	}
	_, text, err := net.SplitHostPort(testkit.FreeAddr(t))
	port, _ := strconv.Atoi(text)
	if err != nil || port >= 32768 {
		t.Errorf("port: got %q, %v, want one below those of outgoing connections", text, err)
	}
}

func TestEventually(t *testing.T) {
	calls := 0
	testkit.Eventually(t, time.Minute, func() error {
		if calls++; calls < 3 {
			return errors.New("not yet")
		}
		return nil
	})
	if calls != 3 {
		t.Errorf("calls: got %d, want 3", calls)
	}
}

// TestMissing runs itself once more as a test whose part is missing.
func TestMissing(t *testing.T) {
	const inner = "VIGIE_TESTKIT_INNER"
	if os.Getenv(inner) != "" {
		testkit.Missing(t, "Widget", "install widget")
		t.Fatal("the test goes on")
	}
	f := func(ci string, wantPass bool, noted string) {
		t.Helper()
		file := filepath.Join(t.TempDir(), "missing")
		cmd := exec.Command(os.Args[0], "-test.run=^TestMissing$", "-test.v")
		cmd.Env = append(os.Environ(), inner+"=1", "CI="+ci, testkit.EnvMissing+"="+file)
		output, err := cmd.CombinedOutput()
		if (err == nil) != wantPass || !strings.Contains(string(output), "Widget is missing: install widget") {
			t.Errorf("with CI=%q: got %v and %q, want passed %v", ci, err, output, wantPass)
		}
		if got, _ := os.ReadFile(file); string(got) != noted {
			t.Errorf("noted with CI=%q: got %q, want %q", ci, got, noted)
		}
	}
	f("", true, "TestMissing: Widget is missing: install widget\n")
	f("true", false, "")
}
