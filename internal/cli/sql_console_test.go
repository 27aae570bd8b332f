package cli

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"

	"github.com/vigie-io/vigie/internal/testkit"
)

// screen is what a terminal shows, as it comes.
type screen struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// A person types statements of several lines, completes a name, cancels a query, asks for help, and finds the history
// again.
func TestSQLConsole(t *testing.T) {
	asked, cancelled := make(chan string, 100), make(chan struct{}, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch text := string(body); {
		case strings.Contains(text, "arrayJoin([table, name])"):
			_, _ = io.WriteString(w, "metrics_10s\nservice\n")
		case strings.Contains(text, "slow"):
			asked <- text
			<-r.Context().Done()
			cancelled <- struct{}{}
		case strings.Contains(text, "broken"):
			w.Header().Set("X-ClickHouse-Exception-Code", "60")
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, "Code: 60. DB::Exception: Unknown table.\n")
		default:
			asked <- r.URL.Query().Get("default_format") + " " + text
			_, _ = io.WriteString(w, "an answer\n")
		}
	}))
	defer server.Close()
	state := t.TempDir()
	begin := func() (*exec.Cmd, *os.File, *screen) {
		t.Helper()
		cmd := exec.Command(testkit.BuildBinary(t, "./cmd/vigie"), "sql")
		cmd.Env = append(os.Environ(), "VIGIE_URL="+server.URL, "VIGIE_KEY=k", "XDG_STATE_HOME="+state, "TERM=xterm")
		terminal, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 24, Cols: 200})
		if err != nil {
			t.Fatal(err)
		}
		shown := &screen{}
		go func() { _, _ = io.Copy(shown, terminal) }() // ends with the program
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = terminal.Close() })
		return cmd, terminal, shown
	}
	cmd, terminal, shown := begin()
	sees := func(want string, times int) {
		t.Helper()
		testkit.Eventually(t, 20*time.Second, func() error {
			if strings.Count(shown.String(), want) < times {
				return fmt.Errorf("got %q, want %q %d times", shown.String(), want, times)
			}
			return nil
		})
	}
	types := func(text string) {
		t.Helper()
		if _, err := io.WriteString(terminal, text); err != nil {
			t.Fatal(err)
		}
	}
	hears := func(want string) {
		t.Helper()
		select {
		case got := <-asked:
			if got != want {
				t.Errorf("got %q asked, want %q", got, want)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("nothing was asked, want %q; on the screen: %q", want, shown)
		}
	}
	sees("vigie> ", 1)
	types("SELECT 1\r")
	sees("    -> ", 1)
	types("FROM metr\t;\r")
	hears("PrettyCompact SELECT 1\nFROM metrics_10s")
	sees("an answer", 1)
	types(";\r") // nothing is asked
	types("\\f CSV\r")
	sees("answers in CSV", 1)
	types("SELECT half\x03")
	types("SELECT 2;\r")
	hears("CSV SELECT 2")
	types("SELECT slow;\r")
	hears("SELECT slow")
	types("\x03")
	select {
	case <-cancelled:
	case <-time.After(20 * time.Second):
		t.Fatal("Ctrl-C did not end the query")
	}
	sees("cancelled", 1)
	types("SELECT broken;\r")
	sees("Code: 60. DB::Exception: Unknown table.", 1)
	types("\\d\r")
	hears("CSV SELECT name, comment FROM system.tables WHERE database = 'api' ORDER BY name")
	types("\\?\r")
	sees("Tab completes names", 1)
	types("\\q\r")
	if err := cmd.Wait(); err != nil {
		t.Errorf("\\q: %v, want exit code 0", err)
	}
	if info, err := os.Stat(filepath.Join(state, "vigie", "sql_history")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("history: got %v, %v, want a file of mode 0600", info, err)
	}

	cmd, terminal, shown = begin()
	sees("vigie> ", 1)
	types("\x1b[A\x1b[A\x1b[A\x1b[A\r") // up, to before \q, \?, \d
	sees("Code: 60. DB::Exception: Unknown table.", 1)
	types("\x04")
	if err := cmd.Wait(); err != nil {
		t.Errorf("Ctrl-D: %v, want exit code 0", err)
	}
}
