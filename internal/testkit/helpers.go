package testkit

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"
)

// EnvMissing is a file to which Missing appends one line per skipped test, for a summary at the end of a run: `go test`
// itself shows skipped tests only with -v.
const EnvMissing = "VIGIE_TEST_MISSING"

// Missing ends a test whose part cannot be had: a skip for a person, a failure under CI=true. why should say how to
// get the part.
func Missing(t testing.TB, part, why string) {
	t.Helper()
	line := fmt.Sprintf("%s is missing: %s", part, why)
	if os.Getenv("CI") == "true" {
		t.Fatal(line)
	}
	fmt.Fprintf(os.Stderr, "\n*** SKIPPED %s: %s\n", t.Name(), line)
	note(t, line)
	t.Skip(line)
}

func note(t testing.TB, line string) {
	path := os.Getenv(EnvMissing)
	if path == "" {
		return
	}
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Logf("note a skipped test: %v", err)
		return
	}
	defer file.Close()
	fmt.Fprintf(file, "%s: %s\n", t.Name(), line)
}

// Eventually calls check until it returns nil, and fails the test with its last error after timeout. The first call is
// immediate; later ones come with pauses of 5 to 100 ms.
func Eventually(t testing.TB, timeout time.Duration, check func() error) {
	t.Helper()
	deadline := time.Now().Add(timeout)
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %s: %v", timeout, err)
		}
		time.Sleep(pause)
	}
}

// Log is a logger that writes to the test's own output at level Info, and nowhere once the test has ended: a part may
// log while it ends.
func Log(t testing.TB) *slog.Logger {
	out := &testOutput{w: t.Output()}
	t.Cleanup(out.close)
	return slog.New(slog.NewTextHandler(out, nil))
}

type testOutput struct {
	mu sync.Mutex
	w  io.Writer // nil once the test has ended
}

// Write implements io.Writer.
func (o *testOutput) Write(line []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.w == nil {
		return len(line), nil
	}
	return o.w.Write(line)
}

func (o *testOutput) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.w = nil
}
