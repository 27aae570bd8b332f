package cli

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/testkit"
)

const backfillPassword = "service-password-1"

// gate stands between a command and ClickHouse. It counts blocks, and at the one it waits for calls stop before or
// after the block is passed on.
type gate struct {
	mu     sync.Mutex
	blocks int
	at     int // 0: never
	after  bool
	stop   func()
}

func (g *gate) set(at int, after bool, stop func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.blocks, g.at, g.after, g.stop = 0, at, after, stop
}

// pass returns what to do before and after the request.
func (g *gate) pass(r *http.Request) (before, after func()) {
	before, after = func() {}, func() {}
	g.mu.Lock()
	defer g.mu.Unlock()
	if strings.HasPrefix(r.URL.Query().Get("query"), "INSERT INTO vigie.ingest_") {
		if g.blocks++; g.blocks == g.at && g.after {
			after = g.stop
		} else if g.blocks == g.at {
			before = g.stop
		}
	}
	return before, after
}

func (g *gate) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.blocks
}

// backfillCommand is a vigie program, its database and its folder.
type backfillCommand struct {
	*gate
	binary, dir string
	addr        string // of the gate
	server      *testkit.Server
}

func newBackfillCommand(t *testing.T) *backfillCommand {
	t.Helper()
	users, err := clickhouse.UsersXML(clickhouse.Access{
		ServicePassword: backfillPassword, SQLPassword: "sql-password-12345", Limits: clickhouse.DefaultSQLLimits(),
	})
	if err != nil {
		t.Fatal(err)
	}
	c := &backfillCommand{gate: &gate{}, binary: testkit.BuildBinary(t, "./cmd/vigie"), dir: t.TempDir(), server: testkit.ClickHouse(t, users)}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: c.server.HTTPAddr})
	proxy.ErrorHandler = func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) } // the command is gone
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		before, after := c.pass(r)
		before()
		answer := httptest.NewRecorder()
		proxy.ServeHTTP(answer, r.Clone(t.Context())) // whatever becomes of the command
		after()
		for name, values := range answer.Header() {
			w.Header()[name] = values
		}
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes())
	}))
	t.Cleanup(front.Close)
	c.addr = strings.TrimPrefix(front.URL, "http://")
	cfg := clickhouse.DefaultConfig()
	cfg.Addrs, cfg.Password = []string{c.server.HTTPAddr}, backfillPassword
	client, err := clickhouse.NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Migrate(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	return c
}

// run runs `vigie backfill`, with its output in pipes. At the at-th block (0: none) it gets the signal.
func (c *backfillCommand) run(t *testing.T, at int, after bool, signal os.Signal, args ...string) (code int, out, errs string) {
	t.Helper()
	cmd := exec.Command(c.binary, append([]string{"backfill"}, args...)...)
	cmd.Dir = c.dir
	cmd.Env = append(os.Environ(), "VIGIE_CLICKHOUSE_ADDRS="+c.addr, "VIGIE_CLICKHOUSE_PASSWORD="+backfillPassword)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	ended := make(chan struct{})
	c.set(at, after, func() {
		_ = cmd.Process.Signal(signal)
		<-ended // so that the command never sees the answer
	})
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	close(ended)
	return cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()
}

func (c *backfillCommand) count(t *testing.T) string {
	t.Helper()
	response, err := http.Post("http://"+c.server.HTTPAddr+"/?user="+clickhouse.UserService+"&password="+backfillPassword, "text/plain",
		strings.NewReader("SELECT sum(count) FROM vigie.rollups_1h"))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var n string
	if _, err := fmt.Fscan(response.Body, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// The program as a person and a script see it: exit codes, lines on a pipe, the file of rejects, and that neither
// Ctrl-C nor kill -9, before or after a block is stored, loses or doubles an event.
func TestBackfillCommand(t *testing.T) {
	c := newBackfillCommand(t)
	at := time.Now().Add(-time.Hour).Unix()
	for i := range 3 {
		var text bytes.Buffer
		text.WriteString("tenant,time,name,value,labels.n\n")
		for n := range 1_000 {
			fmt.Fprintf(&text, "acme,%d,m,%d,%d\n", at+int64(n), i, n%7)
		}
		if i == 1 {
			text.WriteString("acme,yesterday,m,1,0\nacme\n")
		}
		if err := os.WriteFile(filepath.Join(c.dir, fmt.Sprint(i, ".csv")), text.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"-signal=metrics", "-from=*.csv", "-job=old"}
	f := func(at int, after bool, signal os.Signal, code int, out, errs string) string {
		t.Helper()
		gotCode, gotOut, gotErrs := c.run(t, at, after, signal, args...)
		if gotCode != code || !strings.Contains(gotOut, out) || !strings.Contains(gotErrs, errs) {
			t.Errorf("got %d, %q, %q, want %d, %q, %q", gotCode, gotOut, gotErrs, code, out, errs)
		}
		return gotErrs
	}
	const interrupted = "interrupted; the same command goes on from here\n"
	f(1, false, syscall.SIGINT, exitError, "", interrupted)
	f(2, true, syscall.SIGINT, exitError, "", interrupted)
	f(2, true, syscall.SIGKILL, -1, "", "")
	f(3, true, syscall.SIGKILL, -1, "", "") // in the second file
	errs := f(0, false, nil, exitFailure, "rows rejected\n  rejected as ", "100 %  ")
	for _, want := range []string{"1.csv row 1002: bad_time: ", "1.csv row 1003: bad_csv: ", "already loaded by job old"} {
		if !strings.Contains(errs, want) {
			t.Errorf("got %q, want %q", errs, want)
		}
	}
	if strings.ContainsAny(errs, "\r\x1b") {
		t.Errorf("got %q, want plain lines in a pipe", errs)
	}
	if got := c.count(t); got != "3000" {
		t.Errorf("got %s events, want 3000", got)
	}
	rejects, err := os.ReadFile(filepath.Join(c.dir, "old.rejects.ndjson"))
	if err != nil || strings.Count(string(rejects), "\n") != 2 || !strings.Contains(string(rejects), `"file":"1.csv","row":1003,"reason":"bad_csv"`) {
		t.Errorf("rejects: got %s, %v", rejects, err)
	}

	f(0, false, nil, exitFailure, "3 files, 3 of them already loaded; 0 rows and 0 events loaded, 0 rows rejected\n2 rows of these files had been rejected by earlier runs\n", "already loaded")
	if c.gate.count() != 0 {
		t.Errorf("got %d blocks, want none", c.gate.count())
	}
	verify := exec.Command(c.binary, "verify", "-from=*.csv", "-job=old", "-table=all")
	verify.Dir, verify.Env = c.dir, append(os.Environ(), "VIGIE_CLICKHOUSE_ADDRS="+c.addr, "VIGIE_CLICKHOUSE_PASSWORD="+backfillPassword)
	if text, err := verify.CombinedOutput(); err != nil || !strings.Contains(string(text), "files of job old: 3001 records, 3000 events counted, 1 refused, ") || !strings.Contains(string(text), " rows compared: 0 differences\n") {
		t.Errorf("verify: got %v, %s", err, text)
	}
	args = []string{"-signal=metrics", "-from=0.csv", "-job=once-more"}
	f(0, false, nil, exitOK, "1 files, 0 of them already loaded; 1000 rows and 1000 events loaded, 0 rows rejected\n", "100 %  1000 rows")
	args = []string{"-signal=metrics", "-from=*.none"}
	f(0, false, nil, exitError, "", "there are none")
	args = []string{"-signal=metric", "-from=*.csv"}
	f(0, false, nil, exitError, "", "-signal \"metric\"")
}

func TestReplaceFlags(t *testing.T) {
	f := func(args, want string) {
		t.Helper()
		of, _, _, err := parseBackfill(strings.Fields("-signal metrics " + args))
		got := ""
		if err != nil {
			got = err.Error()
		} else if of.Replace != nil {
			got = fmt.Sprint(of.Replace.From.Unix(), " ", of.Replace.To.Unix(), " ", of.Replace.Empty, " ", of.Replace.Rejects)
		}
		if !strings.Contains(got, want) || got == "" != (want == "") {
			t.Errorf("%s: got %q, want %q", args, got, want)
		}
	}
	const hours = "-range 2026-11-01T00:00:00Z/2026-11-01T02:00:00+01:00 "
	f("-from a.csv", "")
	f("-replace -tenant acme -from a.csv "+hours, "1793491200 1793494800 false false")
	f("-replace -replace-empty -accept-rejects -tenant acme "+hours, "1793491200 1793494800 true true")
	f("-replace -tenant acme "+hours, "-from: want files")
	f("-replace -from a.csv "+hours, "-replace: want -tenant")
	f("-from a.csv "+hours, "want -replace with them")
	f("-replace -tenant acme -from a.csv -range 2026-11-01", "want two times")
}

// A log gets one line of what is done, however often it is said.
func TestProgressInALog(t *testing.T) {
	var log bytes.Buffer
	o := newBackfillOutput(Streams{Err: &log}, "")
	o.Progress(1, 5, 1) // the first at once
	o.Progress(2, 5, 2)
	o.Progress(5, 5, 5)
	o.Progress(5, 5, 5)
	if lines := strings.Count(log.String(), "\n"); lines != 2 || !strings.Contains(log.String(), "100 %  5 rows") {
		t.Errorf("got %q, want a line of the first fifth and one of the end", log.String())
	}
}
