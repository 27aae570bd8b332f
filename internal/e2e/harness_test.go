package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/auth"
	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/testkit"
	"github.com/vigie-io/vigie/internal/units"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// program is one of Vigie's programs, running.
type program struct {
	t    testing.TB
	name string
	path string
	args []string
	env  []string
	cmd  *exec.Cmd
	done chan struct{}
	out  *tail
	kept *os.File // of all that it prints, or nil
}

// tail keeps the end of what a program printed, for the message of a failed test.
type tail struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *tail) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.text.Len() > 1<<20 {
		l.text.Reset()
	}
	return l.text.Write(p)
}

func (l *tail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// start runs a program with the environment given (and nothing of VIGIE_… of this test's own).
func start(t testing.TB, path string, args, env []string) *program {
	t.Helper()
	return startProgram(&program{t: t, name: filepath.Base(path), path: path, args: args, env: env, out: &tail{}})
}

// startKept is start, and what the program prints is in a file, too.
func startKept(t testing.TB, path string, args, env []string, file string) *program {
	t.Helper()
	kept, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kept.Close() })
	return startProgram(&program{t: t, name: filepath.Base(path), path: path, args: args, env: env, out: &tail{}, kept: kept})
}

func startProgram(p *program) *program {
	p.t.Helper()
	t := p.t
	p.start()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("output of %s:\n%s", p.name, last(p.out.String(), 8000))
		}
	})
	return p
}

func (p *program) start() {
	p.t.Helper()
	p.cmd = exec.Command(p.path, p.args...)
	p.cmd.Env = append(cleanEnvironment(), p.env...)
	var out io.Writer = p.out
	if p.kept != nil {
		out = io.MultiWriter(p.out, p.kept)
	}
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatalf("start %s: %v", p.name, err)
	}
	p.done = make(chan struct{})
	go func(cmd *exec.Cmd, done chan struct{}) { _ = cmd.Wait(); close(done) }(p.cmd, p.done)
}

// kill ends the program as a power cut would.
func (p *program) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// interrupt ends it as Ctrl-C does and returns the exit code.
func (p *program) interrupt() int {
	_ = p.cmd.Process.Signal(syscall.SIGINT)
	<-p.done
	return p.cmd.ProcessState.ExitCode()
}

func cleanEnvironment() []string {
	var env []string
	for _, entry := range os.Environ() {
		if !strings.HasPrefix(entry, "VIGIE_") || strings.HasPrefix(entry, "VIGIE_CACHE_DIR=") || strings.HasPrefix(entry, "VIGIE_CLICKHOUSE_LIB=") {
			env = append(env, entry)
		}
	}
	return env
}

func last(text string, n int) string { return text[max(0, len(text)-n):] }

// installation is Vigie's three programs on servers of the test's own.
type installation struct {
	t          testing.TB
	broker     *testkit.Broker
	clickhouse *testkit.Server
	env        []string
	keys       map[string]string // tenant → API key
	ingestURL  string
	queryURL   string
	streamURL  string
	ingest     *program
	stream     *program
	query      *program
}

var testTenants = []string{"acme", "demo", "zeta"}

var schema testkit.Prepared

// install starts ClickHouse, migrated by `vigie migrate`, and the programs named. Extra environment comes last.
func install(t testing.TB, broker *testkit.Broker, programs []string, extra ...string) *installation {
	t.Helper()
	service, sql := rand.Text(), rand.Text()
	users, err := clickhouse.UsersXML(clickhouse.Access{
		ServicePassword: units.Secret(service), SQLPassword: units.Secret(sql), Limits: clickhouse.DefaultSQLLimits(),
	})
	if err != nil {
		t.Fatal(err)
	}
	in := &installation{t: t, broker: broker, keys: map[string]string{}}
	ingestAddr, streamAddr, queryAddr := testkit.FreeAddr(t), testkit.FreeAddr(t), testkit.FreeAddr(t)
	in.ingestURL, in.streamURL, in.queryURL = "http://"+ingestAddr, "http://"+streamAddr, "http://"+queryAddr
	unique := strings.ToLower(rand.Text()[:8])
	in.env = append([]string{
		"VIGIE_KAFKA_BROKERS=" + broker.Addr, "VIGIE_KAFKA_GROUP=" + unique, "VIGIE_KAFKA_TRANSACTIONAL_ID_PREFIX=" + unique,
		"VIGIE_KAFKA_INSTANCE=one",
		"VIGIE_CLICKHOUSE_PASSWORD=" + service, "VIGIE_CLICKHOUSE_SQL_PASSWORD=" + sql,
		"VIGIE_INGEST_LISTEN=" + ingestAddr, "VIGIE_STREAM_LISTEN=" + streamAddr, "VIGIE_QUERY_LISTEN=" + queryAddr,
		"VIGIE_AUTH_KEYS=" + in.makeKeys(), "VIGIE_STREAM_COARSE_INTERVAL=1s", // who waits for the wider tiers need not wait long
	}, topicEnvironment(unique)...)
	in.clickhouse = schema.ClickHouse(t, users, func(s *testkit.Server) { in.on(s).vigie("migrate") })
	in.env = append(in.on(in.clickhouse).env, extra...)
	in.vigie("migrate")
	for _, name := range programs {
		p := start(t, testkit.BuildBinary(t, "./cmd/"+name), nil, in.env)
		switch name {
		case "ingest":
			in.ingest = p
			in.awaitReady(in.ingestURL)
		case "stream":
			in.stream = p
			in.awaitReady(in.streamURL)
		case "query":
			in.query = p
			in.awaitReady(in.queryURL)
		}
	}
	return in
}

// on is the installation with another ClickHouse.
func (in *installation) on(server *testkit.Server) *installation {
	other := *in
	other.env = append(slices.Clone(in.env), "VIGIE_CLICKHOUSE_ADDRS="+server.HTTPAddr)
	return &other
}

// topicEnvironment gives an installation topics of its own on a broker that tests share.
func topicEnvironment(unique string) []string {
	var env []string
	for _, topic := range []string{"metrics", "spans", "logs", "state_metrics", "state_spans", "state_logs", "results", "coarse", "state_coarse", "alerts", "dlq", "dlq_replayed", "parked", "rule_state"} {
		env = append(env, "VIGIE_KAFKA_TOPICS_"+strings.ToUpper(topic)+"_NAME="+unique+"."+topic)
	}
	return env
}

// topic is the installation's topic of the short name, such as "metrics".
func (in *installation) topic(name string) string {
	prefix := "VIGIE_KAFKA_TOPICS_" + strings.ToUpper(name) + "_NAME="
	for _, entry := range in.env {
		if value, ok := strings.CutPrefix(entry, prefix); ok {
			return value
		}
	}
	in.t.Fatalf("no topic %s", name)
	return ""
}

func (in *installation) makeKeys() string {
	var list []map[string]any
	for _, tenant := range testTenants {
		plain, digest := auth.NewKey()
		in.keys[tenant] = plain
		list = append(list, map[string]any{"sha256": digest, "tenant": tenant, "roles": []string{"read", "write"}})
	}
	text, err := json.Marshal(list)
	if err != nil {
		in.t.Fatal(err)
	}
	return string(text)
}

// vigie runs the operator's tool and returns what it printed.
func (in *installation) vigie(args ...string) string {
	in.t.Helper()
	cmd := exec.CommandContext(in.t.Context(), testkit.BuildBinary(in.t, "./cmd/vigie"), args...)
	cmd.Env = append(cleanEnvironment(), in.env...)
	output, err := cmd.CombinedOutput()
	if err != nil {
		in.t.Fatalf("vigie %s: %v\n%s", strings.Join(args, " "), err, output)
	}
	return string(output)
}

func (in *installation) awaitReady(base string) {
	in.t.Helper()
	testkit.Eventually(in.t, 90*time.Second, func() error {
		status, body, err := fetch(http.MethodGet, base+"/-/ready", "", nil, nil)
		if err != nil {
			return err
		}
		if status != http.StatusOK {
			return errors.New(body)
		}
		return nil
	})
}

// fetch sends one request and returns status and body.
func fetch(method, address, key string, header http.Header, body io.Reader) (int, string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, address, body)
	if err != nil {
		return 0, "", err
	}
	for name, values := range header {
		request.Header[name] = values
	}
	if key != "" {
		request.Header.Set("Authorization", "Bearer "+key)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return response.StatusCode, string(text), err
}

// post sends events of a tenant to ingest.
func (in *installation) post(tenant, path, body string, header http.Header) (int, string) {
	in.t.Helper()
	status, answer, err := fetch(http.MethodPost, in.ingestURL+path, in.keys[tenant], header, strings.NewReader(body))
	if err != nil {
		in.t.Fatalf("POST %s: %v", path, err)
	}
	return status, answer
}

// sql runs a statement as a tenant; a status other than 200 fails the test.
func (in *installation) sql(tenant, statement string) string {
	in.t.Helper()
	status, answer := in.trySQL(tenant, statement)
	if status != http.StatusOK {
		in.t.Fatalf("SQL %s: %d %s", statement, status, answer)
	}
	return answer
}

func (in *installation) trySQL(tenant, statement string) (int, string) {
	in.t.Helper()
	status, answer, err := fetch(http.MethodPost, in.queryURL+"/sql", in.keys[tenant], nil, strings.NewReader(statement))
	if err != nil {
		in.t.Fatalf("SQL %s: %v", statement, err)
	}
	return status, strings.TrimSpace(answer)
}

// sample is one element of a PromQL instant vector.
type sample struct {
	Metric map[string]string
	Value  float64
}

// promql evaluates an instant query as a tenant at a Unix time in seconds.
func (in *installation) promql(tenant, query string, at int64) []sample {
	in.t.Helper()
	status, answer := in.tryPromQL(tenant, query, at)
	if status != http.StatusOK {
		in.t.Fatalf("PromQL %s: %d %s", query, status, answer)
	}
	var decoded struct {
		Data struct {
			Result []struct {
				Metric map[string]string
				Value  [2]any
			}
		}
	}
	if err := json.Unmarshal([]byte(answer), &decoded); err != nil {
		in.t.Fatalf("PromQL %s: %v in %s", query, err, answer)
	}
	var out []sample
	for _, r := range decoded.Data.Result {
		text, _ := r.Value[1].(string)
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			in.t.Fatalf("PromQL %s: value %v", query, r.Value)
		}
		out = append(out, sample{r.Metric, value})
	}
	return out
}

func (in *installation) tryPromQL(tenant, query string, at int64) (int, string) {
	in.t.Helper()
	form := url.Values{"query": {query}, "time": {strconv.FormatInt(at, 10)}}
	status, answer, err := fetch(http.MethodPost, in.queryURL+"/api/v1/query", in.keys[tenant],
		http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}, strings.NewReader(form.Encode()))
	if err != nil {
		in.t.Fatalf("PromQL %s: %v", query, err)
	}
	return status, answer
}

// metric sums the samples of a metric of a program's /metrics whose labels contain all of want ("reason=\"x\"").
func metric(t testing.TB, base, name string, want ...string) float64 {
	t.Helper()
	_, text, err := fetch(http.MethodGet, base+"/metrics", "", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	total := 0.0
	for line := range strings.Lines(text) {
		series, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		bare, labels, _ := strings.Cut(series, "{")
		if !ok || bare != name || !containsAll(labels, want) {
			continue
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			t.Fatalf("metric %s: %v", line, err)
		}
		total += v
	}
	return total
}

func containsAll(text string, want []string) bool {
	for _, w := range want {
		if !strings.Contains(text, w) {
			return false
		}
	}
	return true
}

// number reads an environment variable that scales a test up.
func number(t testing.TB, name string, fallback int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return fallback
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		t.Fatalf("%s=%s: want a whole number", name, text)
	}
	return n
}
