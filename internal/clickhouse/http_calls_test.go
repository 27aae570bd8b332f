package clickhouse_test

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/testkit/grafana"
)

// What tools send of their own accord, and what must be in the answer. Written down from the tools' sources.
var toolCalls = []struct {
	tool, statement, params, want string
}{
	{"clickhouse-go", "SELECT displayName(), version(), revision(), timezone()", "client_protocol_version=54460", "26."},
	{"clickhouse-jdbc", "select timezone(), version()", "compress=0&extremes=0&session_id=6d0e&max_result_rows=1000&result_overflow_mode=break", "UTC\t26."},
	{"clickhouse-jdbc", "SELECT currentUser() AS user, timezone() AS timezone, version() AS version LIMIT 1", "wait_end_of_query=0&query_id=1f3a", "UTC\t26."},
	{"clickhouse-jdbc", "SELECT version() as server_version", "wait_end_of_query=1&async_insert=0", "26."},
	{"clickhouse-jdbc", "select name from system.databases where name like '%'", "", "api"},
	{"clickhouse-connect", "SELECT version(), timezone()", "session_id=1&client_protocol_version=54405&wait_end_of_query=1&send_progress_in_http_headers=1&http_headers_progress_interval_ms=120000", "UTC"},
	{"clickhouse-connect", "SELECT name, value, readonly as readonly FROM system.settings LIMIT 10000", "session_id=1", "max_threads\t"},
	{"clickhouse-connect", "SELECT service FROM series", "client_protocol_version=54405&cast_string_to_dynamic_use_inference=1&date_time_input_format=best_effort&session_id=1", "apple"},
	{"@clickhouse/client", "SELECT 1 AS x FORMAT JSONEachRow", "query_id=a&session_id=b&http_headers_progress_interval_ms=1000&enable_http_compression=1", `{"x":1}`},
	{"clickhouse-client", "SHOW TABLES", "", "metrics_10s"},
	{"dbeaver", "SELECT * FROM system.tables WHERE database = 'api' SETTINGS max_execution_time = 5", "", "metrics_10s"},
	{"superset", "EXISTS TABLE `api`.`series`", "", "1"},
	{"metabase", "SELECT 1 SETTINGS max_threads = 2 FORMAT TSV", "log_comment=metabase", "1"},
	// Grafana's plugin: connect, editor, variables, ad hoc filters.
	{"grafana", "SELECT 1", "", "1"},
	{"grafana", "SELECT version()", "", "26."},
	{"grafana", "SHOW DATABASES", "", "api"},
	{"grafana", `SHOW TABLES FROM "api"`, "", "services_1h"},
	{"grafana", `DESC TABLE "api"."metrics_10s"`, "", "sketch\tAggregateFunction"},
	{"grafana", `DESCRIBE TABLE "api"."series"`, "", "labels\tMap(String, String)"},
	{"grafana", "SELECT database, name FROM system.tables ORDER BY database, name", "", "api\tseries"},
	{"grafana", "SELECT database, table, name, type, comment FROM system.columns WHERE (database, table) IN (('api', 'series')) ORDER BY database, table, position", "", "api\tseries\ttenant"},
	{"grafana", "SELECT name, type, table FROM system.columns WHERE database IN ('api')", "", "labels\tMap(String, String)\tseries"},
	{"grafana", "SELECT currentDatabase()", "", "api"},
	{"grafana", "\n SELECT\n name, is_aggregate, case_insensitive, alias_to, origin, description,\n syntax, arguments, returned_value, examples, categories\n FROM system.functions\n LIMIT 10000\n", "", "p99\t"},
	{"grafana", `SELECT DISTINCT arrayJoin(labels.keys) as keys FROM "api"."series" LIMIT 1000`, "", "apple"},
	{"grafana", "SELECT DISTINCT service FROM api.series SETTINGS max_execution_time=10", "", "apple"},
	{"grafana", "select distinct metric from api.series limit 1000", "limit=1000000", "apple"},
	{"grafana", "SELECT value FROM system.settings WHERE name='readonly'", "", "2"},
	{"grafana", "EXPLAIN AST SELECT service FROM api.series", "", "SelectQuery"},
}

// Macros in statements, as they stand in the editor.
var macroCalls = []string{
	"SELECT $__timeInterval(ts) AS time, service, sum(count) / $__interval_s AS rate FROM api.services_10s WHERE $__timeFilter(ts) GROUP BY time, service ORDER BY time",
	"SELECT $__timeInterval_ms(ts) AS time, p99(sketch) AS p99 FROM api.metrics_10s WHERE $__timeFilter_ms(ts) GROUP BY time ORDER BY time",
	"SELECT metric, max(max) AS worst FROM api.metrics_1m WHERE ts >= $__fromTime AND ts < $__toTime GROUP BY metric",
	"SELECT metric, count() FROM api.metrics_1h WHERE ts >= $__fromTime_ms AND ts < $__toTime_ms GROUP BY metric",
	"SELECT toDate(ts) AS day, sum(count) FROM api.services_1h WHERE $__dateFilter(day) GROUP BY day",
	"SELECT toDate(ts) AS day, sum(count) FROM api.services_1h WHERE $__dt(day, ts) GROUP BY day",
}

func TestToolsCalls(t *testing.T) {
	server, client := migrated(t, nil)
	twoTenants(t, server, client)
	gateway := gate(t, client, nil)
	for _, call := range toolCalls {
		params, err := url.ParseQuery(call.params)
		if err != nil {
			t.Fatal(err)
		}
		status, answer, _ := through(t, gateway, "acme", call.statement, params)
		if status != http.StatusOK || !strings.Contains(answer, call.want) || leaks(answer) {
			t.Errorf("%s: %s ?%s: got %d %s, want %q in it",
				call.tool, call.statement, call.params, status, answer[:min(len(answer), 400)], call.want)
		}
	}
	to := time.Now()
	view := grafana.View{From: to.Add(-24 * time.Hour), To: to, Interval: time.Minute}
	for _, raw := range macroCalls {
		statement, err := view.SQL(raw)
		if err != nil {
			t.Fatal(err)
		}
		if status, answer, _ := through(t, gateway, "acme", statement, nil); status != http.StatusOK ||
			answer == "" || leaks(answer) {
			t.Errorf("%s: got %d %s, want rows", statement, status, answer)
		}
	}
}

// direct asks the server as the gateway does, without it.
func direct(t *testing.T, client *clickhouse.Client, statement string, params url.Values,
	header http.Header) (string, http.Header) {
	t.Helper()
	response, err := client.SQL(t.Context(), "acme", http.MethodPost, params, header, strings.NewReader(statement))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body), response.Header
}

// Every format, in every compression, reaches the client byte for byte as the server wrote it.
func TestFormatsAndCompressionsPass(t *testing.T) {
	server, client := migrated(t, nil)
	gateway := gate(t, client, nil)
	formats := strings.Fields(ask(t, server, "SELECT name FROM system.formats WHERE is_output ORDER BY name"))
	if len(formats) < 60 {
		t.Fatalf("got %d formats of the server, want all", len(formats))
	}
	volatile := regexp.MustCompile(`("elapsed(_ns)?":\s*"?|<elapsed>)[0-9.e-]+`)
	const statement = "SELECT number, toString(number) AS text, number / 3 AS third FROM numbers(2000) ORDER BY number"
	passed := 0
	for _, format := range formats {
		params := url.Values{"default_format": {format}}
		want, wantHeader := direct(t, client, statement, params, nil)
		status, got, header := through(t, gateway, "acme", statement, params)
		if wantHeader.Get("X-ClickHouse-Exception-Code") != "" {
			if status == http.StatusOK || !strings.Contains(got, "Code: "+wantHeader.Get("X-ClickHouse-Exception-Code")) {
				t.Errorf("%s: got %d %s, want the server's refusal %s", format, status, got, want)
			}
			continue // wants a schema or a template
		}
		passed++
		if volatile.ReplaceAllString(got, "") != volatile.ReplaceAllString(want, "") &&
			!strings.Contains("Parquet ORC Arrow Avro", format) {
			t.Errorf("%s: got %d bytes, want the server's %d", format, len(got), len(want))
		}
		if header.Get("Content-Type") != wantHeader.Get("Content-Type") ||
			header.Get("X-ClickHouse-Format") != wantHeader.Get("X-ClickHouse-Format") {
			t.Errorf("%s: got headers %v, want those of %v", format, header, wantHeader)
		}
	}
	if passed < 50 {
		t.Errorf("got %d formats answered, want at least 50", passed)
	}
	t.Logf("%d formats", passed)
	for accepted, encoding := range map[string]string{
		"gzip": "gzip", "deflate": "deflate", "br": "br", "zstd": "zstd", "lz4": "lz4", "gzip, deflate, br, zstd": "zstd",
		"gzip;q=0, deflate": "deflate", "xz": "", "": "",
	} {
		params := url.Values{"enable_http_compression": {"1"}, "default_format": {"CSV"}}
		want, _ := direct(t, client, statement, url.Values{"default_format": {"CSV"}}, nil)
		_, packed, header := through(t, gateway, "acme", statement, params, "Accept-Encoding", accepted)
		if got := unpacked(t, packed, encoding); got != want || header.Get("Content-Encoding") != encoding {
			t.Errorf("%s: got %d bytes as %q, want the server's %d as %q",
				accepted, len(got), header.Get("Content-Encoding"), len(want), encoding)
		}
		// Errors can be read whatever was accepted.
		status, text, header := through(t, gateway, "acme", "SELECT nothing FROM series", params, "Accept-Encoding", accepted)
		if status != http.StatusNotFound || !strings.HasPrefix(text, "Code: 47. DB::Exception: ") ||
			header.Get("Content-Encoding") != "" {
			t.Errorf("%s: got %d %q, want error 47 as text", encoding, status, text)
		}
	}
}

func TestHeadersPass(t *testing.T) {
	server, client := migrated(t, nil)
	twoTenants(t, server, client)
	gateway := gate(t, client, nil)
	status, body, h := through(t, gateway, "acme", "SELECT count() FROM api.series", url.Values{
		"query_id": {"my-query"}, "send_progress_in_http_headers": {"1"},
		"http_headers_progress_interval_ms": {"1"}, "wait_end_of_query": {"1"},
	})
	if status != http.StatusOK || body != "1\n" {
		t.Fatalf("got %d %s, want 1", status, body)
	}
	for name, want := range map[string]string{
		"X-Clickhouse-Query-Id": "^my-query$", "X-Clickhouse-Summary": `"read_rows":"[1-9]`, "X-Clickhouse-Format": "^TSV$",
		"X-Clickhouse-Timezone": "^UTC$",
	} {
		if !regexp.MustCompile(want).MatchString(h.Get(name)) {
			t.Errorf("%s: got %q, want %s", name, h.Get(name), want)
		}
	}
	if len(h["X-Clickhouse-Progress"]) == 0 {
		t.Errorf("got no X-ClickHouse-Progress in %v", h)
	}
	for name := range h {
		if strings.Contains(name, "Display-Name") {
			t.Errorf("%s: got %q, want no name of the server", name, h.Get(name))
		}
	}
	status, body, h = through(t, gateway, "acme", "SELECT * FROM nowhere", url.Values{"query_id": {"my-query"}})
	if status != http.StatusNotFound || h.Get("X-ClickHouse-Exception-Code") != "60" ||
		h.Get("X-ClickHouse-Query-Id") != "my-query" || !strings.HasPrefix(body, "Code: 60.") {
		t.Errorf("got %d %s with %v, want ClickHouse's error 60", status, body, h)
	}
}

// A large answer passes as it is made: the first rows are there while the last are not thought of yet.
func TestLargeAnswersStream(t *testing.T) {
	_, client := migrated(t, nil)
	gateway := gate(t, client, nil)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, gateway.URL+"/sql?max_block_size=1000",
		strings.NewReader("SELECT number, repeat('x', 2000) FROM numbers(100000) FORMAT TSV"))
	if err != nil {
		t.Fatal(err)
	}
	request.SetBasicAuth("x", "k-acme")
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	begin := make([]byte, 100)
	if _, err := io.ReadFull(response.Body, begin); err != nil || !bytes.HasPrefix(begin, []byte("0\txxx")) {
		t.Fatalf("got %q (%v), want the first row", begin, err)
	}
	n, err := io.Copy(io.Discard, response.Body)
	if err != nil || n < 2e8 {
		t.Errorf("got %d bytes (%v), want all 200 MB", n, err)
	}
}

// unpacked decodes an answer, with the readers that clients use.
func unpacked(t *testing.T, packed, encoding string) string {
	t.Helper()
	text, err := decoded(packed, encoding)
	if err != nil {
		t.Fatalf("%s: %v", encoding, err)
	}
	return text
}

// begun decodes what there is of an answer that broke off.
func begun(t *testing.T, packed, encoding string) string {
	t.Helper()
	text, err := decoded(packed, encoding)
	if err == nil {
		t.Errorf("%s: what broke off reads as whole", encoding)
	}
	return text
}

func decoded(packed, encoding string) (string, error) {
	in := strings.NewReader(packed)
	var out io.Reader = in
	var err error
	switch encoding {
	case "gzip":
		out, err = gzip.NewReader(in)
	case "deflate":
		out, err = zlib.NewReader(in)
	case "br":
		out = brotli.NewReader(in)
	case "zstd":
		out, err = zstd.NewReader(in)
	case "lz4":
		out = lz4.NewReader(in)
	}
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(out)
	return string(text), err
}
