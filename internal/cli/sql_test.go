package cli

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestSQLCommand(t *testing.T) {
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.URL.Path != "/sql" {
			http.NotFound(w, r)
			return
		}
		asked = append(asked, r.URL.Path+" "+r.URL.Query().Get("default_format")+" "+r.Header.Get("Authorization")+" "+string(body))
		if strings.Contains(string(body), "broken") {
			w.Header().Set("X-ClickHouse-Exception-Code", "60")
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, "Code: 60. DB::Exception: Unknown table. (UNKNOWN_TABLE)\n")
			return
		}
		_, _ = io.WriteString(w, "1\n")
		if strings.Contains(string(body), "cut") {
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
	}))
	defer server.Close()
	script := filepath.Join(t.TempDir(), "s.sql")
	if err := os.WriteFile(script, []byte("SELECT 1;\n\n-- two\nSELECT ';'\n  FROM b;\nSELECT 3"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := func(code int, args []string, in string, out, problem string, want ...string) {
		t.Helper()
		asked = nil
		var stdout, stderr bytes.Buffer
		got := Vigie("test", append([]string{"sql"}, args...), Streams{
			In: strings.NewReader(in), Out: &stdout, Err: &stderr, Environ: []string{"VIGIE_URL=" + server.URL, "VIGIE_KEY=k"},
		})
		if got != code || stdout.String() != out || !strings.Contains(stderr.String(), problem) || (problem == "") != (stderr.Len() == 0) {
			t.Errorf("%q: got code %d, %q, %q, want %d, %q, %q", args, got, stdout.String(), stderr.String(), code, out, problem)
		}
		if !slices.Equal(asked, want) {
			t.Errorf("%q: got %q asked, want %q", args, asked, want)
		}
	}
	f(0, []string{"SELECT 1"}, "", "1\n", "", "/sql TabSeparated Bearer k SELECT 1")
	f(0, []string{"-format", "CSV", "SELECT 1"}, "", "1\n", "", "/sql CSV Bearer k SELECT 1")
	f(0, []string{"SELECT 1", "-format", "CSV"}, "", "1\n", "", "/sql CSV Bearer k SELECT 1")
	f(0, []string{"SELECT 1; SELECT 2;"}, "", "1\n1\n", "", "/sql TabSeparated Bearer k SELECT 1", "/sql TabSeparated Bearer k SELECT 2")
	f(0, nil, "SELECT 1; SELECT 2;\n", "1\n1\n", "", "/sql TabSeparated Bearer k SELECT 1", "/sql TabSeparated Bearer k SELECT 2")
	f(0, nil, "SELECT 1;\nSELECT 2;\n", "1\n1\n", "", "/sql TabSeparated Bearer k SELECT 1", "/sql TabSeparated Bearer k SELECT 2")
	f(0, []string{"-f", script}, "", "1\n1\n1\n", "", "/sql TabSeparated Bearer k SELECT 1",
		"/sql TabSeparated Bearer k -- two\nSELECT ';'\n  FROM b", "/sql TabSeparated Bearer k SELECT 3")
	// The first that fails ends the run, in the server's words.
	f(1, nil, "SELECT 1;\nSELECT broken;\nSELECT 3;\n", "1\n", "vigie sql: Code: 60. DB::Exception: Unknown table.",
		"/sql TabSeparated Bearer k SELECT 1", "/sql TabSeparated Bearer k SELECT broken")
	f(1, []string{"SELECT cut"}, "", "1\n", "not all of it", "/sql TabSeparated Bearer k SELECT cut")
	f(2, nil, " \n;\n", "", "no statement")
	f(2, []string{"SELECT", "1"}, "", "", "vigie sql: got [\"SELECT\" \"1\"], want statements in one pair of quotes, or -f, or standard input\n")
	f(2, []string{"-x"}, "", "", "-x\n`vigie sql -help`")
	f(2, []string{"SELECT 1", "-x"}, "", "", "-x\n`vigie sql -help`")
	f(2, []string{"SELECT 1", "-f", script}, "", "", "or -f")
	f(0, []string{"-url", strings.TrimPrefix(server.URL, "http://"), "SELECT 1"}, "", "1\n", "", "/sql TabSeparated Bearer k SELECT 1")
	f(1, []string{"-url", server.URL + "/other", "SELECT 1"}, "", "", "/other/sql?default_format=TabSeparated answered 404 Not Found, not as a query service does; -url")
	f(1, []string{"-f", script + ".not"}, "", "", "read statements")
	f(1, []string{"-url", "http://127.0.0.1:1", "SELECT 1"}, "", "", "VIGIE_URL says where")
}
