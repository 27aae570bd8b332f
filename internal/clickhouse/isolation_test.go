package clickhouse_test

import (
	"bytes"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/internal/testkit"
	"github.com/vigie-io/vigie/pkg/series"
)

// secretWord is in every text of tenant demo, secretNumber in every figure: neither may reach tenant acme.
const (
	secretWord   = "kumquat"
	secretNumber = 734291
)

func twoTenants(t *testing.T, server *testkit.Server, client *clickhouse.Client) {
	t.Helper()
	at := today(t, server)
	var rows []row
	announce := &pipeline.SeriesRows{}
	for i, tenant := range []string{"acme", "demo"} {
		word, number := "apple", 5.0
		if tenant == "demo" {
			word, number = secretWord, secretNumber
		}
		id := series.ID{Hi: uint64(i + 1), Lo: 7}
		for _, grain := range []pipeline.Grain{pipeline.GrainSeries, pipeline.GrainService} {
			rows = append(rows, row{grain: grain, tenant: tenant, metric: word, service: word, id: id, pane: at, values: []float64{number}, lastTime: 1, last: number})
		}
		announce.Tenant = append(announce.Tenant, tenant)
		announce.Metric = append(announce.Metric, word)
		announce.Service = append(announce.Service, word)
		announce.ID = append(announce.ID, id)
		announce.Kind = append(announce.Kind, 0)
		announce.Native = append(announce.Native, false)
		announce.Unit = append(announce.Unit, word)
		announce.Help = append(announce.Help, word)
		announce.Labels = append(announce.Labels, series.Labels{{Name: word, Value: word}})
		announce.LastSeen = append(announce.LastSeen, at)
		windows := windowRows(tenant, int64(at), windowRow{part: word, version: 1, count: uint64(number), sum: number},
			windowRow{part: word, version: 1, kind: pipeline.WindowLate, delta: 1, count: uint64(number), sum: number})
		for i := range windows.Metric {
			windows.Metric[i], windows.Service[i], windows.Labels[i] = word, word, series.Labels{{Name: word, Value: word}}
		}
		insertWindows(t, client, "windows "+tenant, windows)
		insertLimits(t, client, "limits "+tenant, limitRows(tenant, at, limitRow{part: word, reason: "rate_events", told: 1, most: uint64(number), used: uint64(number), dropped: uint64(number)}))
	}
	insertRollups(t, client, "rollups", rows...)
	insertSeries(t, client, "series", announce)
	block, err := clickhouse.Encoder{}.EncodeProgress(nil, &pipeline.ProgressRows{
		Topic: []string{secretWord}, Partition: []int32{0}, Tenant: []string{"demo"}, Time: []int64{1}, Updated: []int64{1},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Insert(t.Context(), pipeline.TableProgress, "progress", 1, block); err != nil {
		t.Fatal(err)
	}
}

var apiViews = []string{"metrics_10s", "metrics_1m", "metrics_1h", "services_10s", "services_1m", "services_1h", "series", "windows", "late_windows", "limits"}

// attacks must be refused, or answer without a trace of the other tenant. The gateway's checks of SQL are not in the
// way here: this is what the server itself holds against.
var attacks = []string{
	// Settings that would lift the policy, at the top and below.
	"SELECT * FROM api.series SETTINGS allow_get_client_http_header = 0",
	"SELECT * FROM (SELECT * FROM api.series SETTINGS allow_get_client_http_header = 0)",
	"SELECT * FROM (SELECT * FROM api.metrics_1m SETTINGS log_comment = 'demo')",
	"WITH x AS (SELECT * FROM api.series SETTINGS additional_table_filters = {'vigie.series': '1'}) SELECT * FROM x",
	"SELECT * FROM api.series SETTINGS additional_table_filters = {'vigie.series': 'tenant = \\'demo\\''}",
	"SELECT (SELECT groupArray(metric) FROM api.series SETTINGS optimize_move_to_prewhere = 0)",
	"SELECT * FROM api.metrics_10s WHERE tenant = 'demo' OR 1",
	"SELECT * FROM api.metrics_10s PREWHERE 1",
	"SELECT * FROM api.metrics_10s FINAL",
	"SET allow_get_client_http_header = 0",
	"SELECT * FROM view(SELECT * FROM api.series)",
	"SELECT * FROM view(SELECT * FROM vigie.series)",
	// Side channels through errors: they may fire on the own rows only.
	"SELECT sum(count) FROM api.metrics_10s WHERE throwIf(sum > 700000, 'kumquat leaks')",
	"SELECT count() FROM api.windows WHERE throwIf(metric = 'kum' || 'quat', 'kumquat leaks')", "SELECT sum(count) FROM api.windows WHERE throwIf(sum > 700000, 'kumquat leaks')",
	"SELECT count() FROM api.late_windows WHERE throwIf(metric = 'kum' || 'quat', 'kumquat leaks')", "SELECT sum(count) FROM api.late_windows WHERE throwIf(sum > 700000, 'kumquat leaks')",
	"SELECT count() FROM api.limits WHERE throwIf(used = 734000 + 291, 'kumquat leaks')", "SELECT sum(dropped) FROM api.limits WHERE throwIf(used > 700000, 'kumquat leaks')",
	"SELECT * FROM vigie.limits", "SELECT * FROM api.limits WHERE tenant = 'demo' OR 1",
	"SELECT count() FROM api.series WHERE throwIf(metric = 'kum' || 'quat', 'kumquat leaks')",
	"SELECT * FROM api.services_10s WHERE throwIf(service LIKE 'kumq%', 'kumquat leaks')",
	"SELECT count() FROM api.metrics_10s WHERE intDiv(1, toUInt32(sum) - 700000 - 34291) > 0", "SELECT count() FROM api.metrics_10s WHERE toUInt8(labels['apple']) > 0",
	// Around the views.
	"SELECT * FROM vigie.series", "SELECT * FROM vigie.rollups_10s", "SELECT * FROM vigie.progress", "SELECT * FROM vigie.ingest_series",
	"SELECT * FROM vigie.schema_migrations", "SELECT * FROM vigie.series_mv", "SELECT count() FROM vigie.series",
	"SELECT * FROM merge('vigie', '.*')", "SELECT * FROM merge('api', '.*')", "SELECT * FROM merge(REGEXP('.*'), '.*')",
	"SELECT * FROM mergeTreeIndex('vigie', 'series')", "SELECT * FROM mergeTreeProjection('vigie', 'series', 'p')",
	"SELECT * FROM mergeTreeAnalyzeIndexes('vigie', 'series', 1)", "SELECT * FROM mergeTreeIndex('vigie', 'rollups_10s', with_marks = 1)",
	"SELECT * FROM remote('127.0.0.1', 'vigie', 'series')", "SELECT * FROM remote('127.0.0.1', vigie.series, 'vigie', '')",
	"SELECT * FROM remoteSecure('127.0.0.1', 'vigie.series')", "SELECT * FROM cluster('default', 'vigie', 'series')",
	"SELECT * FROM clusterAllReplicas('default', vigie.series)", "SELECT * FROM loop('vigie', 'series')", "SELECT * FROM dictionary('vigie.series')",
	"SELECT dictGet('vigie.series', 'metric', 1)", "SELECT joinGet('vigie.series', 'metric', 1)", "SELECT hasColumnInTable('vigie', 'series', 'metric')",
	"SELECT * FROM url('http://127.0.0.1:1/', 'CSV', 'a String')", "SELECT * FROM s3('http://127.0.0.1:1/x', 'CSV', 'a String')",
	"SELECT * FROM file('users.xml', 'RawBLOB', 'a String')", "SELECT * FROM mysql('127.0.0.1:1', 'a', 'b', 'c', 'd')",
	"SELECT * FROM postgresql('127.0.0.1:1', 'a', 'b', 'c', 'd')", "SELECT * FROM mongodb('127.0.0.1:1', 'a', 'b', 'c', 'd', 'x Int8')",
	"SELECT * FROM redis('127.0.0.1:1', 'k', 'k String')", "SELECT * FROM sqlite('x.db', 't')", "SELECT * FROM executable('cat', 'CSV', 'a String')",
	"SELECT * FROM iceberg('http://127.0.0.1:1/')", "SELECT * FROM deltaLake('http://127.0.0.1:1/')", "SELECT * FROM hdfs('hdfs://127.0.0.1:1/', 'CSV', 'a String')",
	"SELECT * FROM timeSeriesData('vigie.series')", "SELECT * FROM filesystem('/')", "SELECT * FROM zeros(1) WHERE eval('SELECT * FROM vigie.series')",
	"SELECT * FROM eval('SELECT * FROM vigie.series')", "SELECT * FROM azureBlobStorage('x', 'y', 'z')",
	"SELECT * FROM generateSerialID('x')", "SELECT catboostEvaluate('/etc/passwd', 1)",
	// What the server knows about itself.
	"SELECT * FROM system.tables WHERE database = 'vigie'", "SELECT sum(total_rows) FROM system.tables WHERE database = 'vigie' HAVING sum(total_rows) > 0",
	"SELECT * FROM system.parts", "SELECT * FROM system.parts_columns", "SELECT * FROM system.processes", "SELECT * FROM system.query_log",
	"SELECT * FROM system.users", "SELECT * FROM system.row_policies", "SELECT * FROM system.grants", "SELECT * FROM system.query_cache",
	"SELECT * FROM system.columns WHERE database = 'vigie'", "SELECT * FROM information_schema.tables WHERE table_schema = 'vigie'",
	"SELECT * FROM system.mutations", "SELECT * FROM system.merges", "SELECT * FROM system.text_log", "SELECT * FROM system.part_log",
	"SELECT * FROM system.asynchronous_inserts", "SELECT * FROM system.errors", "SELECT * FROM system.stack_trace", "SELECT * FROM system.quotas_usage",
	"SHOW PROCESSLIST", "SHOW TABLES FROM vigie", "SHOW CREATE TABLE vigie.series", "SHOW CREATE USER vigie", "SHOW ACCESS", "SHOW GRANTS FOR vigie",
	"DESCRIBE vigie.series", "EXISTS vigie.series FORMAT Null", "EXPLAIN ESTIMATE SELECT * FROM vigie.series", "EXPLAIN SELECT * FROM vigie.series",
	"EXPLAIN ESTIMATE SELECT * FROM api.series WHERE metric = 'x'", "CHECK TABLE vigie.series",
	// Doing instead of reading.
	"INSERT INTO vigie.ingest_series (tenant) VALUES ('acme')", "INSERT INTO api.series (tenant) VALUES ('acme')",
	"INSERT INTO FUNCTION file('x.csv') SELECT * FROM api.series", "SELECT 1 INTO OUTFILE '/tmp/kumquat'",
	"CREATE TABLE api.t (a Int8) ENGINE = Memory", "CREATE TEMPORARY TABLE t (a Int8)", "CREATE VIEW api.v AS SELECT * FROM vigie.series",
	"CREATE OR REPLACE VIEW api.series AS SELECT * FROM vigie.series", "CREATE FUNCTION f AS x -> 1", "CREATE OR REPLACE FUNCTION p99 AS x -> 1",
	"CREATE USER u", "CREATE ROW POLICY p ON vigie.series USING 1 TO ALL", "ALTER TABLE vigie.series DELETE WHERE 1", "DROP VIEW api.series",
	"DROP TABLE vigie.series", "TRUNCATE TABLE vigie.series", "OPTIMIZE TABLE vigie.series", "DELETE FROM vigie.series WHERE 1",
	"GRANT SELECT ON vigie.* TO vigie_sql", "SET ROLE ALL", "EXECUTE AS vigie SELECT * FROM vigie.series", "EXECUTE AS vigie_view_owner",
	"SYSTEM SHUTDOWN", "SYSTEM FLUSH LOGS", "SYSTEM STOP LISTEN HTTP", "SYSTEM DROP QUERY CACHE", "KILL QUERY WHERE 1 SYNC", "BACKUP TABLE vigie.series TO Memory('b')",
	"RESTORE TABLE vigie.series FROM Memory('b')", "DETACH TABLE vigie.series", "ATTACH TABLE vigie.series", "RENAME TABLE vigie.series TO vigie.x",
	"USE vigie", "SELECT 1; SELECT * FROM vigie.series", "BEGIN TRANSACTION", "WATCH vigie.series",
	// Headers and credentials.
	"SELECT getClientHTTPHeader('X-ClickHouse-Key')", "SELECT getClientHTTPHeader('Authorization')",
}

// leaks looks for the other tenant and for passwords in an answer. Errors may quote the attack itself.
func leaks(answer string) bool {
	for line := range strings.Lines(answer) {
		line = strings.ReplaceAll(line, "throwIf", "")
		if strings.Contains(line, "kumquat leaks") && !strings.Contains(line, "FUNCTION_THROW_IF") {
			continue // the text of the query itself, quoted in an error of another kind
		}
		if strings.Contains(line, secretWord) && !strings.Contains(line, "/tmp/kumquat") || strings.Contains(line, "734291") {
			return true
		}
		if strings.Contains(line, string(access().SQLPassword)) || strings.Contains(line, string(access().ServicePassword)) {
			return true
		}
	}
	return false
}

func TestTenantsAreApart(t *testing.T) {
	server, client := migrated(t, nil)
	twoTenants(t, server, client)

	for _, view := range apiViews {
		if got := mustTenantSQL(t, client, "acme", "SELECT DISTINCT tenant FROM api."+view); got != "acme" {
			t.Errorf("api.%s as acme: got tenants %q, want acme only", view, got)
		}
		if got := mustTenantSQL(t, client, "demo", "SELECT * FROM api."+view); !leaks(got) {
			t.Errorf("api.%s as demo: got %q, which the test for leaks does not see", view, got)
		}
		if got := mustTenantSQL(t, client, "acme", "SELECT count() FROM api."+view+" WHERE tenant != 'acme'"); got != "0" {
			t.Errorf("api.%s: got %s rows of others, want 0", view, got)
		}
	}

	before := totals(t, server)
	for _, attack := range attacks {
		status, answer := tenantSQL(t, client, "acme", attack, nil)
		if leaks(answer) {
			t.Errorf("%s: got %d %s", attack, status, answer)
		}
	}
	if after := totals(t, server); after != before {
		t.Errorf("after the attacks: got %s, want %s", after, before)
	}
	if got := mustTenantSQL(t, client, "demo", "SELECT count() FROM api.series"); got != "1" {
		t.Errorf("after the attacks: demo has %s series, want 1", got)
	}
}

// What must be denied outright, not only answer harmlessly.
func TestTenantsMayOnlyRead(t *testing.T) {
	server, client := migrated(t, nil)
	twoTenants(t, server, client)
	for _, statement := range attacks {
		word, _, _ := strings.Cut(statement, " ")
		switch word {
		case "SELECT", "WITH", "EXPLAIN", "SHOW", "DESCRIBE", "EXISTS", "SET", "USE":
			if !strings.Contains(statement, "vigie.") && !strings.Contains(statement, "'vigie'") || strings.Contains(statement, "FROM api.") ||
				strings.Contains(statement, "system.") || strings.Contains(statement, "information_schema") {
				continue
			}
		}
		if status, answer := tenantSQL(t, client, "acme", statement, nil); status == http.StatusOK {
			t.Errorf("%s: got %s, want it denied", statement, answer)
		}
	}
}

func TestRequestsCannotChooseTheTenant(t *testing.T) {
	server, client := migrated(t, nil)
	twoTenants(t, server, client)
	const query = "SELECT groupUniqArray(tenant) FROM api.series"
	header := http.Header{
		"X-Vigie-Tenant": {"demo"}, "x-vigie-tenant": {"demo"}, "X-Clickhouse-User": {"vigie"}, "X-Clickhouse-Key": {string(access().ServicePassword)},
		"Authorization": {"Basic dmlnaWU6c2VydmljZS1wYXNzd29yZC0x"}, "X-Clickhouse-Quota": {"demo"},
	}
	params := url.Values{"user": {"vigie"}, "password": {string(access().ServicePassword)}, "role": {"x"}, "session_id": {"s"}, "quota_key": {"demo"}}
	response, err := client.SQL(t.Context(), "acme", http.MethodPost, params, header, strings.NewReader(query))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var body bytes.Buffer
	_, _ = body.ReadFrom(response.Body)
	if got := strings.TrimSpace(body.String()); got != "['acme']" {
		t.Errorf("got %s, want ['acme']", got)
	}
	for _, tenant := range []string{"", "de\nmo", "a b", "_x"} {
		if _, err := client.SQL(t.Context(), tenants.ID(tenant), http.MethodPost, nil, nil, strings.NewReader(query)); err == nil {
			t.Errorf("tenant %q: got no error", tenant)
		}
	}

	// Without the header, somebody who knows the password of the user still sees nothing.
	if status, answer := post(t, server, clickhouse.UserSQL, string(access().SQLPassword), "SELECT count() FROM api.series"); status != http.StatusOK || strings.TrimSpace(answer) != "0" {
		t.Errorf("without a tenant: got %d %s, want 0 rows", status, answer)
	}
	for _, user := range []string{clickhouse.UserViewOwner, "default"} {
		if status, answer := post(t, server, user, "", "SELECT 1"); status == http.StatusOK {
			t.Errorf("log in as %s: got %s, want it refused", user, answer)
		}
	}
}

// Settings in the URL may lower the bounds and not lift them or the policy.
func TestSettingsOfTenants(t *testing.T) {
	server, client := migrated(t, nil)
	twoTenants(t, server, client)
	bad := []url.Values{
		{"allow_get_client_http_header": {"0"}}, {"allow_ddl": {"1"}}, {"readonly": {"0"}}, {"use_query_cache": {"1"}},
		{"output_format_schema": {"kumquat.proto"}, "default_format": {"Protobuf"}},
		{"allow_introspection_functions": {"1"}}, {"max_memory_usage_for_user": {"0"}}, {"max_concurrent_queries_for_user": {"0"}},
	}
	for _, params := range bad {
		if status, answer := tenantSQL(t, client, "acme", "SELECT 1", params); status == http.StatusOK {
			t.Errorf("%v: got %s, want it refused", params, answer)
		}
	}
	good := url.Values{"max_execution_time": {"0"}, "max_result_rows": {"99999999999"}, "max_threads": {"1"}, "output_format_json_quote_64bit_integers": {"1"}, "default_format": {"JSONEachRow"}}
	status, answer := tenantSQL(t, client, "acme", "SELECT getSetting('max_execution_time') AS t, getSetting('max_result_rows') AS r", good)
	if want := `{"t":30,"r":1000000}`; status != http.StatusOK || strings.TrimSpace(answer) != want {
		t.Errorf("got %d %s, want %s", status, answer, want)
	}
	if status, answer := tenantSQL(t, client, "acme", "SELECT 1 + {x:UInt8}", url.Values{"param_x": {"2"}}); strings.TrimSpace(answer) != "3" {
		t.Errorf("parameter: got %d %s, want 3", status, answer)
	}
}

// The quota is each tenant's own, though all are one user.
func TestQuotaPerTenant(t *testing.T) {
	_, client := migrated(t, func(a *clickhouse.Access) { a.Limits.WindowQueries = 5 })
	over := false
	for range 12 {
		status, answer := tenantSQL(t, client, "acme", "SELECT count() FROM api.series", nil)
		over = over || status != http.StatusOK && strings.Contains(answer, "QUOTA_EXCEEDED")
	}
	if !over {
		t.Error("acme: got no QUOTA_EXCEEDED in 12 queries, want it after 5")
	}
	if status, answer := tenantSQL(t, client, "demo", "SELECT 1", nil); status != http.StatusOK {
		t.Errorf("demo: got %d %s, want its own quota", status, answer)
	}
}

// External tables come with a request and must not stand in for the views.
func TestExternalTableDoesNotShadowViews(t *testing.T) {
	server, client := migrated(t, nil)
	twoTenants(t, server, client)
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	part, err := form.CreateFormFile("ext", "ext")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = part.Write([]byte("1\n"))
	_ = form.Close()
	params := url.Values{"query": {"SELECT groupUniqArray(tenant) FROM api.series WHERE 1 IN ext"}, "ext_structure": {"x UInt8"}}
	response, err := client.SQL(t.Context(), "acme", http.MethodPost, params, http.Header{"Content-Type": {form.FormDataContentType()}}, &body)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var answer bytes.Buffer
	_, _ = answer.ReadFrom(response.Body)
	if leaks(answer.String()) || strings.Contains(answer.String(), "demo") {
		t.Errorf("got %s", answer.String())
	}
}
