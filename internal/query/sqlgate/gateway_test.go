package sqlgate_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ClickHouse/ch-go/compress"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/vigie-io/vigie/internal/query/slots"
	"github.com/vigie-io/vigie/internal/query/sqlgate"
	"github.com/vigie-io/vigie/internal/tenants"
)

// upstream records what it was asked and answers as told.
type upstream struct {
	tenant  tenants.ID
	method  string
	params  url.Values
	header  http.Header
	body    string
	calls   int
	respond func(ctx context.Context) (*http.Response, error)
}

func (u *upstream) SQL(ctx context.Context, tenant tenants.ID, method string, params url.Values, header http.Header, body io.Reader) (*http.Response, error) {
	text, err := io.ReadAll(body)
	u.tenant, u.method, u.params, u.header, u.body = tenant, method, params, header, string(text)
	u.calls++
	if err != nil {
		return nil, err
	}
	if u.respond != nil {
		return u.respond(ctx)
	}
	return reply(200, "1\n"), nil
}

func reply(status int, body string) *http.Response {
	return &http.Response{
		StatusCode: status, ContentLength: -1, Body: io.NopCloser(strings.NewReader(body)),
		Header: http.Header{
			"Content-Type":                     {"text/tab-separated-values; charset=UTF-8"},
			"X-Clickhouse-Query-Id":            {"q1"},
			"X-Clickhouse-Format":              {"TabSeparated"},
			"X-Clickhouse-Server-Display-Name": {"db-7.internal"},
			"Set-Cookie":                       {"a=b"},
		},
	}
}

var keys = map[string]tenants.ID{"Bearer k-acme": "acme", "Bearer k-demo": "demo", "Basic dTprLWFjbWU=": "acme"}

func authenticate(r *http.Request) (tenants.ID, error) {
	switch header := r.Header.Get("Authorization"); {
	case header == "Bearer k-writer":
		return "", tenants.ErrForbidden
	case keys[header] == "":
		return "", tenants.ErrUnauthenticated
	default:
		return keys[header], nil
	}
}

func newGateway(t testing.TB, u *upstream, change ...func(*sqlgate.Config, *tenants.Limits)) *httptest.Server {
	t.Helper()
	cfg, limits := sqlgate.DefaultConfig(), tenants.DefaultConfig().Defaults
	for _, c := range change {
		c(&cfg, &limits)
	}
	g, err := sqlgate.New(cfg, sqlgate.Options{
		Upstream: u, Authenticate: authenticate,
		Limits:     func(tenants.ID) tenants.Limits { return limits },
		Slots:      slots.New(func(tenants.ID) (int, int) { return limits.QueryConcurrency, 0 }),
		Registerer: prometheus.NewRegistry(),
		Log:        slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(g)
	t.Cleanup(s.Close)
	return s
}

func send(t testing.TB, method, url, body string, header ...string) (int, string, http.Header) {
	t.Helper()
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text), response.Header
}

func TestWaysToAsk(t *testing.T) {
	u := &upstream{}
	s := newGateway(t, u)
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = z.Write([]byte("SELECT 1"))
	_ = z.Close()
	f := func(method, query, body, want string, header ...string) {
		t.Helper()
		u.calls = 0
		status, text, h := send(t, method, s.URL+"/?"+query, body, append(header, "Authorization", "Bearer k-acme")...)
		if status != 200 || text != "1\n" || u.calls != 1 || u.body != want || u.tenant != "acme" {
			t.Errorf("%s ?%s %q: got %d %q, upstream %q of %s; want %q", method, query, body, status, text, u.body, u.tenant, want)
		}
		if h.Get("X-ClickHouse-Query-Id") != "q1" || h.Get("X-ClickHouse-Server-Display-Name") != "" || h.Get("Set-Cookie") != "" {
			t.Errorf("headers of the answer: got %v", h)
		}
	}
	f("POST", "", "SELECT 1", "SELECT 1")
	f("GET", "query=SELECT+1", "", "SELECT 1")
	f("POST", "query=SELECT+1", "", "SELECT 1")
	f("POST", "query=SELECT+1", "FORMAT JSON", "SELECT 1\nFORMAT JSON")
	f("POST", "", zipped.String(), "SELECT 1", "Content-Encoding", "gzip")
	f("POST", "decompress=1", block(t, 0x82, "SELECT 1"), "SELECT 1")
	f("POST", "decompress=1", block(t, 0x90, "SELECT ")+block(t, 0x02, "1"), "SELECT 1")
}

// block is text in ClickHouse's own compression.
func block(t testing.TB, method byte, text string) string {
	t.Helper()
	packed := []byte(text)
	switch method {
	case 0x82:
		// All of it as literals: valid LZ4, and too short for the library to bother.
		packed = append([]byte{byte(len(text) << 4)}, text...)
		if _, err := lz4.UncompressBlock(packed, make([]byte, len(text))); err != nil {
			t.Fatal(err)
		}
	case 0x90:
		w, err := zstd.NewWriter(nil)
		if err != nil {
			t.Fatal(err)
		}
		packed = w.EncodeAll([]byte(text), nil)
	}
	head := make([]byte, 25)
	head[16] = method
	binary.LittleEndian.PutUint32(head[17:], uint32(len(packed)+9))
	binary.LittleEndian.PutUint32(head[21:], uint32(len(text)))
	return string(head) + string(packed)
}

func TestCredentials(t *testing.T) {
	u := &upstream{}
	s := newGateway(t, u)
	f := func(want int, wantCode, query string, header ...string) {
		t.Helper()
		u.tenant, u.calls = "", 0
		status, text, h := send(t, "GET", s.URL+"/?query=SELECT+1"+query, "", header...)
		if status != want || h.Get("X-ClickHouse-Exception-Code") != wantCode {
			t.Errorf("%s %v: got %d code %q %s, want %d code %q", query, header, status, h.Get("X-ClickHouse-Exception-Code"), text, want, wantCode)
		}
		if (want == 200) != (u.tenant == "acme") {
			t.Errorf("%s %v: got tenant %q at the database", query, header, u.tenant)
		}
	}
	f(200, "", "", "Authorization", "Bearer k-acme")
	f(200, "", "", "Authorization", "Basic dTprLWFjbWU=")
	f(200, "", "", "X-ClickHouse-User", "anyone", "X-ClickHouse-Key", "k-acme")
	f(200, "", "&user=anyone&password=k-acme")
	f(401, "194", "")
	f(403, "516", "", "X-ClickHouse-Key", "k-nobody")
	f(403, "497", "", "X-ClickHouse-Key", "k-writer")
	// Whoever claims to be another tenant is the tenant of the key.
	f(200, "", "", "Authorization", "Bearer k-acme", "X-Vigie-Tenant", "demo", "X-ClickHouse-User", "demo", "X-Scope-OrgID", "demo")
	for name := range u.header {
		if name != "User-Agent" {
			t.Errorf("header %s reached the database", name)
		}
	}
}

func TestParameters(t *testing.T) {
	u := &upstream{}
	s := newGateway(t, u)
	ask := func(query string) (int, string) {
		t.Helper()
		status, text, _ := send(t, "GET", s.URL+"/?password=k-acme&query=SELECT+1&"+query, "")
		return status, text
	}
	if status, text := ask("default_format=JSON&client_protocol_version=54460&param_x=1&compress=1&output_format_json_quote_64bit_integers=0&query_id=a&readonly=2&max_execution_time=5&database=default&session_id=s&buffer_size=9"); status != 200 {
		t.Fatalf("got %d %s", status, text)
	}
	want := url.Values{"default_format": {"JSON"}, "client_protocol_version": {"54460"}, "param_x": {"1"}, "output_format_json_quote_64bit_integers": {"0"},
		"query_id": {"acme:a"}, "database": {"api"}, "max_execution_time": {"5"}, "max_rows_to_read": {"500000000"},
		"max_bytes_to_read": {"53687091200"}, "max_result_rows": {"1000000"}, "max_memory_usage": {"2147483648"}, "max_threads": {"8"}}
	if u.params.Encode() != want.Encode() {
		t.Errorf("got %s, want %s", u.params.Encode(), want.Encode())
	}
	for _, refused := range []string{"additional_table_filters=x", "role=admin", "allow_ddl=1", "param_=1", "stacktrace=1", "use_query_cache=1", "format_display_secrets_in_show_and_select=1", "format_template_row=x", "format_schema=x", "output_format_schema=x", "output_format_avro_confluent_subject=x"} {
		if status, text := ask(refused); status != 400 || !strings.Contains(text, "Code: 115. DB::Exception:") {
			t.Errorf("%s: got %d %s, want it refused by name", refused, status, text)
		}
	}
	if status, text := ask("max_execution_time=soon"); status != 400 {
		t.Errorf("got %d %s", status, text)
	}
}

// The tenant's limits go along, and a client may only lower them.
func TestLimitsGoAlong(t *testing.T) {
	u := &upstream{}
	s := newGateway(t, u, func(_ *sqlgate.Config, l *tenants.Limits) { l.SQLReadRows = 1000 })
	if status, text, _ := send(t, "GET", s.URL+"/?password=k-acme&query=SELECT+1&max_rows_to_read=0&max_result_rows=10", ""); status != 200 {
		t.Fatalf("got %d %s", status, text)
	}
	if got := u.params.Get("max_rows_to_read"); got != "1000" {
		t.Errorf("max_rows_to_read=0 means no limit: got %s at the database, want 1000", got)
	}
	if got := u.params.Get("max_result_rows"); got != "10" {
		t.Errorf("max_result_rows: got %s, want 10", got)
	}
}

// Statements of a tenant that run at once share its threads; another tenant has its own.
func TestThreadsAreShared(t *testing.T) {
	asked, release := make(chan struct{}), make(chan struct{})
	u := &upstream{respond: func(context.Context) (*http.Response, error) {
		asked <- struct{}{}
		<-release
		return reply(200, "1\n"), nil
	}}
	s := newGateway(t, u, func(c *sqlgate.Config, _ *tenants.Limits) { c.TenantThreads = 6 })
	var running sync.WaitGroup
	ask := func(key, more, want string) {
		t.Helper()
		running.Go(func() { send(t, "GET", s.URL+"/?query=SELECT+1"+more, "", "X-ClickHouse-Key", key) })
		<-asked
		if got := u.params.Get("max_threads"); got != want {
			t.Errorf("%s%s: got max_threads %s, want %s", key, more, got, want)
		}
	}
	for _, want := range []string{"6", "3", "2", "1", "1", "1", "1"} {
		ask("k-acme", "", want)
	}
	ask("k-demo", "", "6")
	ask("k-demo", "&max_threads=2", "2")
	ask("k-demo", "&max_threads=20", "2")
	close(release)
	running.Wait()
}

func TestRefusals(t *testing.T) {
	u := &upstream{}
	s := newGateway(t, u, func(c *sqlgate.Config, _ *tenants.Limits) { c.MaxQuerySize = 1000 })
	f := func(status int, want, method, path, body string, header ...string) {
		t.Helper()
		got, text, h := send(t, method, s.URL+path, body, append(header, "X-ClickHouse-Key", "k-acme")...)
		if got != status || !strings.HasPrefix(text, want) || h.Get("X-ClickHouse-Exception-Code") == "" {
			t.Errorf("%s %s: got %d %s, want %d %s", method, path, got, text, status, want)
		}
	}
	f(403, "Code: 164. DB::Exception: INSERT is not allowed", "POST", "/", "INSERT INTO t VALUES (1)")
	f(400, "Code: 62. DB::Exception: several statements", "POST", "/", "SELECT 1; SELECT 2")
	// The parameter and the body are one statement, wherever it is cut.
	f(403, "Code: 164. DB::Exception: SETTINGS is not allowed", "POST", "/?query=SELECT+(1", "SETTINGS a=1)")
	f(400, "Code: 115. DB::Exception: setting or parameter \"a\"", "POST", "/?query=SELECT+1", "SETTINGS a=1")
	f(400, "Code: 62.", "POST", "/?query=SELECT+'a", "b")
	f(413, "Code: 223.", "POST", "/", "SELECT "+strings.Repeat("1,", 600)+"1")
	f(413, "Code: 223.", "POST", "/?decompress=1", block(t, 0x02, "SELECT "+strings.Repeat("1,", 450))+block(t, 0x02, strings.Repeat("1,", 300)))
	f(400, "Code: 36.", "POST", "/?decompress=1", "not compressed at all, but long enough")
	f(501, "Code: 48.", "POST", "/", "x", "Content-Encoding", "snappy")
	f(501, "Code: 48.", "POST", "/", "x", "Content-Type", "multipart/form-data; boundary=x")
	f(404, "Code: 36.", "GET", "/play", "")
	f(405, "Code: 36.", "DELETE", "/?query=SELECT+1", "")
	if u.calls != 0 {
		t.Errorf("got %d calls of the database, want none", u.calls)
	}
}

func TestZipBomb(t *testing.T) {
	u := &upstream{}
	s := newGateway(t, u)
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	chunk := bytes.Repeat([]byte(" "), 1<<20)
	for range 64 {
		_, _ = z.Write(chunk)
	}
	_ = z.Close()
	if status, text, _ := send(t, "POST", s.URL+"/", b.String(), "Content-Encoding", "gzip", "X-ClickHouse-Key", "k-acme"); status != 413 || u.calls != 0 {
		t.Errorf("got %d %s", status, text)
	}
}

func TestAlive(t *testing.T) {
	s := newGateway(t, &upstream{})
	for _, path := range []string{"/", "/ping", "/replicas_status"} {
		if status, text, _ := send(t, "GET", s.URL+path, ""); status != 200 || text != "Ok.\n" {
			t.Errorf("%s: got %d %q, want Ok.", path, status, text)
		}
	}
}

func TestUpstreamTrouble(t *testing.T) {
	u := &upstream{}
	s := newGateway(t, u, func(_ *sqlgate.Config, l *tenants.Limits) { l.QueryTimeout = 50 * time.Millisecond })
	ask := func() (int, string, http.Header) {
		return send(t, "GET", s.URL+"/?query=SELECT+1", "", "X-ClickHouse-Key", "k-acme")
	}
	u.respond = func(context.Context) (*http.Response, error) {
		return nil, errors.New("dial tcp 10.0.0.7:8123: refused")
	}
	if status, text, _ := ask(); status != 502 || strings.Contains(text, "10.0.0.7") {
		t.Errorf("got %d %s, want 502 without the address", status, text)
	}
	u.respond = func(ctx context.Context) (*http.Response, error) { <-ctx.Done(); return nil, ctx.Err() }
	if status, text, _ := ask(); status != 504 || !strings.Contains(text, "query_timeout = 50ms") {
		t.Errorf("got %d %s, want 504 naming the limit", status, text)
	}
	u.respond = func(context.Context) (*http.Response, error) {
		r := reply(404, "Code: 60. DB::Exception: Unknown table. (UNKNOWN_TABLE)\n")
		r.Header.Set("X-ClickHouse-Exception-Code", "60")
		return r, nil
	}
	if status, text, h := ask(); status != 404 || !strings.HasPrefix(text, "Code: 60.") || h.Get("X-ClickHouse-Exception-Code") != "60" {
		t.Errorf("got %d %s %v, want ClickHouse's own error", status, text, h)
	}
	// An answer that breaks off must not look whole.
	u.respond = func(context.Context) (*http.Response, error) {
		r := reply(200, "")
		r.Body = io.NopCloser(io.MultiReader(strings.NewReader("1\n2\n"), broken{}))
		return r, nil
	}
	response, err := http.Get(s.URL + "/?query=SELECT+1&password=k-acme")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if text, err := io.ReadAll(response.Body); err == nil {
		t.Errorf("got all of %q, want a broken connection", text)
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestStreamsAndBounds(t *testing.T) {
	u := &upstream{}
	s := newGateway(t, u, func(_ *sqlgate.Config, l *tenants.Limits) { l.QueryConcurrency = 1 })
	reader, writer := io.Pipe()
	u.respond = func(context.Context) (*http.Response, error) {
		r := reply(200, "")
		r.Body = reader
		return r, nil
	}
	go func() { _, _ = writer.Write([]byte("first\n")) }()
	response, err := http.Get(s.URL + "/?query=SELECT+1&password=k-acme")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	line := make([]byte, 6)
	if _, err := io.ReadFull(response.Body, line); err != nil || string(line) != "first\n" {
		t.Fatalf("got %q %v, want the first rows while the query still runs", line, err)
	}
	// acme's only place is taken; demo is not concerned.
	status, text, h := send(t, "GET", s.URL+"/?query=SELECT+1", "", "X-ClickHouse-Key", "k-acme")
	if status != 429 || h.Get("Retry-After") == "" || !strings.Contains(text, "query_concurrency = 1") {
		t.Errorf("got %d %s, want 429 naming the limit", status, text)
	}
	u.respond = nil
	if status, text, _ := send(t, "GET", s.URL+"/?query=SELECT+1", "", "X-ClickHouse-Key", "k-demo"); status != 200 {
		t.Errorf("demo: got %d %s, want 200", status, text)
	}
	_ = writer.Close()
	if _, err := io.ReadAll(response.Body); err != nil {
		t.Errorf("got %v at the end", err)
	}
}

// endless is an answer without an end.
type endless struct{ read *atomic.Int64 }

func (e endless) Read(p []byte) (int, error) {
	e.read.Add(int64(len(p)))
	return len(p), nil
}

// A client that stops reading takes no more memory than the connection's, and no longer than its tenant's
// query_timeout.
func TestClientsThatStopReading(t *testing.T) {
	u := &upstream{}
	s := newGateway(t, u, func(_ *sqlgate.Config, l *tenants.Limits) {
		l.QueryConcurrency, l.QueryTimeout = 1, 500*time.Millisecond
	})
	var read atomic.Int64
	u.respond = func(context.Context) (*http.Response, error) {
		r := reply(200, "")
		r.Body = io.NopCloser(endless{&read})
		return r, nil
	}
	connection, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	if _, err := io.WriteString(connection, "GET /?query=SELECT+1&password=k-acme HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(connection, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	// Its place is free again.
	deadline := time.Now().Add(20 * time.Second)
	u.respond = nil
	for {
		status, text, _ := send(t, "GET", s.URL+"/?query=SELECT+1", "", "X-ClickHouse-Key", "k-acme")
		if status == 200 {
			break
		}
		if status != 429 && status != 504 || time.Now().After(deadline) {
			t.Fatalf("got %d %s, want a place again", status, text)
		}
		time.Sleep(10 * time.Millisecond)
	}
	if got := read.Load(); got > 64<<20 {
		t.Errorf("got %d bytes read for a client that took 1000, want no more than buffers hold", got)
	}
}

// Errors are ClickHouse's, without where it keeps things.
func TestErrorsTellNoInternals(t *testing.T) {
	u := &upstream{}
	s := newGateway(t, u)
	f := func(text, want string) {
		t.Helper()
		u.respond = func(context.Context) (*http.Response, error) {
			r := reply(500, text)
			r.Header.Set("X-Clickhouse-Exception-Code", "36")
			return r, nil
		}
		if status, got, _ := send(t, "GET", s.URL+"/?query=SELECT+1", "", "X-ClickHouse-Key", "k-acme"); status != 500 || got != want {
			t.Errorf("got %d %q, want %q", status, got, want)
		}
	}
	f("Code: 36. DB::Exception: route = '/pay/data' is wrong. (BAD_ARGUMENTS)\n", "Code: 36. DB::Exception: route = '/pay/data' is wrong. (BAD_ARGUMENTS)\n")
	f("Code: 36. DB::Exception: broken: (while reading from part /var/lib/clickhouse/store/7f5/7f5a/2026_1_1_0/ located on disk default of type local, from mark 0): While executing X. (BAD_ARGUMENTS)\n",
		"Code: 36. DB::Exception: broken: (while reading…, from mark 0): While executing X. (BAD_ARGUMENTS)\n")
	f("Code: 36. DB::Exception: Received from 10.0.0.7:9000. DB::Exception: x. (BAD_ARGUMENTS)\n", "Code: 36. DB::Exception: … DB::Exception: x. (BAD_ARGUMENTS)\n")
	f("Code: 36. DB::Exception: cannot open /srv/ch/data/user_files/x. (BAD_ARGUMENTS)\n", "Code: 36. DB::Exception: cannot open … (BAD_ARGUMENTS)\n")
	// What was ready before the error is not the error.
	f("1\n2\nCode: 36. DB::Exception: x. (BAD_ARGUMENTS)\n", "Code: 36. DB::Exception: x. (BAD_ARGUMENTS)\n")
}

// A client that asks for ClickHouse's own compression reads errors in it, also the gateway's.
func TestFramedErrors(t *testing.T) {
	s := newGateway(t, &upstream{})
	status, body, _ := send(t, "POST", s.URL+"/?compress=1", "INSERT INTO t VALUES (1)", "X-ClickHouse-Key", "k-acme")
	text, err := io.ReadAll(compress.NewReader(strings.NewReader(body))) // ch-go's, which checks the checksum
	if status != 403 || !errors.Is(err, io.EOF) || !strings.HasPrefix(string(text), "Code: 164. DB::Exception: INSERT") {
		t.Errorf("got %d %q (%v), want the exception as a compressed block", status, text, err)
	}
}
