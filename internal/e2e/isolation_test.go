package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/testkit"
)

// secret is what tenant demo stores and tenant acme must never see, in a metric name, a label and a value.
const (
	secretMetric = "demo_secret_seconds"
	secretLabel  = "plan9-from-demo"
	secretValue  = "424242.125"
)

// attacks are statements with which tenant acme tries to read rows, keys, sizes or names of tenant demo.
var attacks = []string{
	"SELECT * FROM api.metrics_10s", "SELECT * FROM api.series", "SELECT * FROM api.services_10s",
	"SELECT * FROM vigie.rollups_10s", "SELECT * FROM vigie.series", "SELECT * FROM vigie.label_values", "SELECT * FROM vigie.progress",
	"SELECT * FROM merge('vigie', '.*')", "SELECT * FROM merge('api', '.*')",
	"SELECT * FROM mergeTreeIndex('vigie', 'rollups_10s')", "SELECT * FROM mergeTreeProjection('vigie', 'rollups_10s', 'p')",
	"SELECT * FROM remote('127.0.0.1', 'vigie', 'series')", "SELECT * FROM cluster('default', vigie.series)",
	"SELECT * FROM (SELECT * FROM api.metrics_10s SETTINGS log_comment = 'demo')",
	"SELECT * FROM api.metrics_10s SETTINGS additional_table_filters = {'vigie.rollups_10s': '1'}",
	"SELECT * FROM api.series WHERE throwIf(tenant = 'demo', '" + secretLabel + "')",
	"SELECT * FROM api.metrics_10s WHERE throwIf(sum > 424242, 'leak " + secretLabel + "')",
	"SELECT * FROM api.series PREWHERE tenant = 'demo'", "SELECT * FROM api.series FINAL WHERE tenant = 'demo'",
	"SELECT getClientHTTPHeader('X-Vigie-Tenant')", "SELECT * FROM url('http://127.0.0.1/', 'CSV', 'a String')",
	"SELECT file('/etc/passwd')", "SELECT * FROM file('/etc/passwd', 'LineAsString')", "SELECT/**/file/**/('/proc/self/environ')",
	"SELECT * FROM executable('cat', 'TSV', 'a String')", "SELECT * FROM dictionary('d')", "SELECT * FROM s3('http://x/y', 'CSV')",
	"SELECT * FROM system.tables WHERE total_rows > 0 AND database = 'vigie'", "SELECT * FROM system.parts", "SELECT * FROM system.processes",
	"SELECT * FROM system.query_log", "SELECT * FROM system.users", "SELECT * FROM information_schema.tables WHERE table_schema = 'vigie'",
	"SHOW CREATE TABLE vigie.rollups_10s", "SHOW TABLES FROM vigie", "SHOW PROCESSLIST", "DESCRIBE vigie.rollups_10s",
	"EXPLAIN ESTIMATE SELECT * FROM vigie.rollups_10s", "EXPLAIN indexes = 1 SELECT * FROM vigie.series WHERE tenant = 'demo'",
	"SELECT eval('SELECT * FROM vigie.series')", "EXECUTE AS vigie SELECT 1", "SYSTEM FLUSH LOGS", "KILL QUERY WHERE 1",
	"CREATE TABLE api.x (a Int8) ENGINE = Memory", "INSERT INTO vigie.ingest_series SELECT 1", "GRANT ALL ON *.* TO vigie_sql",
	"SELECT 1; SELECT * FROM vigie.series", "SELECT 1 INTO OUTFILE '/tmp/x'", "BACKUP DATABASE vigie TO Disk('d', 'b')",
	"WITH t AS (SELECT * FROM vigie.series) SELECT * FROM t", "SELECT (SELECT count() FROM vigie.series)",
	"SELECT * FROM api.series UNION ALL SELECT * FROM vigie.series", "SELECT * FROM numbers(10) WHERE number IN (SELECT 1 FROM vigie.series)",
	"SELECT * FROM view(SELECT * FROM vigie.series)", "SELECT * FROM loop(vigie.series)", "SELECT * FROM viewExplain('EXPLAIN', '', (SELECT * FROM vigie.series))",
	"SELECT dictGet('d', 'a', 1)", "SELECT joinGet('vigie.series', 'labels', 1)", "SELECT hasColumnInTable('vigie', 'series', 'labels')",
	"SELECT catboostEvaluate('/etc/passwd', 1)", "SET allow_ddl = 1", "USE vigie",
}

// TestTenantsCannotSeeEachOther stores a secret of tenant demo and lets tenant acme try everything to see it.
func TestTenantsCannotSeeEachOther(t *testing.T) {
	in := install(t, testkit.Kafka(t), []string{"ingest", "stream", "query"})
	body := fmt.Sprintf(`{"name":%q,"value":%s,"labels":{"service":"vault","note":%q}}`, secretMetric, secretValue, secretLabel)
	if status, answer := in.post("demo", "/v1/events/metrics", body, nil); status != http.StatusOK {
		t.Fatalf("got %d %s", status, answer)
	}
	if status, answer := in.post("acme", "/v1/events/metrics", good("acme"), nil); status != http.StatusOK {
		t.Fatalf("got %d %s", status, answer)
	}
	testkit.Eventually(t, time.Minute, func() error {
		for _, tenant := range []string{"acme", "demo"} {
			if got := in.sql(tenant, "SELECT sum(count) FROM api.metrics_10s"); got != "1" {
				return fmt.Errorf("tenant %s: got %s events, want 1", tenant, got)
			}
		}
		if got := in.sql("demo", "SELECT labels['note'] FROM api.series"); got != secretLabel {
			return fmt.Errorf("tenant demo reads %q of its own series", got)
		}
		return nil
	})
	for _, attack := range attacks {
		status, answer := in.trySQL("acme", attack+" FORMAT TSV")
		in.refuseLeak(attack, answer)
		if status == http.StatusOK && strings.Contains(answer, "root:") {
			t.Errorf("%s: reads the server's files", attack)
		}
		status, answer = in.trySQL("acme", attack)
		in.refuseLeak(attack, answer)
		if status == http.StatusOK && strings.Contains(attack, "vigie.") {
			t.Errorf("%s: got 200 %s, want a refusal", attack, last(answer, 300))
		}
	}
	in.attackParameters()
	in.attackPromQL()
	if got := in.sql("demo", "SELECT sum(count) FROM api.metrics_10s"); got != "1" {
		t.Errorf("afterwards tenant demo reads %s events, want 1", got)
	}
}

// attackParameters sends credentials, tenants and settings of its own beside an honest key.
func (in *installation) attackParameters() {
	in.t.Helper()
	statement := "SELECT * FROM api.series"
	for _, query := range []string{
		"user=vigie", "user=vigie_view_owner", "readonly=0&allow_ddl=1", "allow_get_client_http_header=0", "database=vigie",
		"session_id=x", "role=vigie", "query_id=1&replace_running_query=1", "additional_table_filters={}",
		"X-Vigie-Tenant=demo", "param_tenant=demo", "log_comment=demo", "query_cache=1&use_query_cache=1",
	} {
		_, answer, err := fetch(http.MethodPost, in.queryURL+"/sql?"+query, in.keys["acme"], nil, strings.NewReader(statement))
		if err != nil {
			in.t.Fatal(err)
		}
		in.refuseLeak("?"+query, answer)
	}
	for name, value := range map[string]string{
		"X-Vigie-Tenant": "demo", "X-Scope-Orgid": "demo", "X-Clickhouse-User": "vigie", "X-Forwarded-For": "127.0.0.1", "X-Clickhouse-Database": "vigie",
	} {
		_, answer, err := fetch(http.MethodPost, in.queryURL+"/sql", in.keys["acme"], http.Header{name: {value}}, strings.NewReader(statement))
		if err != nil {
			in.t.Fatal(err)
		}
		in.refuseLeak(name+": "+value, answer)
	}
}

// attackPromQL looks for the secret on every read endpoint.
func (in *installation) attackPromQL() {
	in.t.Helper()
	now := time.Now().Unix()
	for _, query := range []string{
		`{__name__=~".+"}`, secretMetric, secretMetric + "_count", `{tenant="demo"}`, `count({__name__=~".+"}) by (__name__)`,
		`{note="` + secretLabel + `"}`, `label_replace({__name__=~".+"}, "a", "$1", "note", "(.*)")`,
	} {
		_, answer := in.tryPromQL("acme", query, now)
		in.refuseLeak(query, strings.ReplaceAll(answer, query, ""))
	}
	for _, path := range []string{
		"/api/v1/labels", "/api/v1/label/__name__/values", "/api/v1/label/note/values", "/api/v1/metadata",
		"/api/v1/series?match[]={__name__=~\".%2B\"}", "/api/v1/targets", "/api/v1/status/config", "/api/v1/status/tsdb", "/api/v1/rules",
		"/metrics", "/config", "/debug/pprof/heap?debug=1", "/federate?match[]={__name__=~\".%2B\"}",
		"/api/v1/read", "/api/v1/query_exemplars?query=x&start=0&end=1", "/api/v1/admin/tsdb/snapshot",
	} {
		for _, header := range []http.Header{nil, {"X-Scope-Orgid": {"demo"}}, {"X-Vigie-Tenant": {"demo"}}} {
			_, answer, err := fetch(http.MethodGet, in.queryURL+path, in.keys["acme"], header, nil)
			if err != nil {
				in.t.Fatal(err)
			}
			in.refuseLeak(path, answer)
		}
	}
}

func (in *installation) refuseLeak(attack, answer string) {
	in.t.Helper()
	answer = strings.ReplaceAll(answer, attack, "")
	for _, secret := range []string{secretMetric, secretValue, "vault"} {
		if strings.Contains(answer, secret) {
			in.t.Errorf("%s: tenant acme sees %s of tenant demo: %s", attack, secret, last(answer, 500))
		}
	}
	if strings.Contains(answer, secretLabel) && !strings.Contains(attack, secretLabel) {
		in.t.Errorf("%s: tenant acme sees a label of tenant demo: %s", attack, last(answer, 500))
	}
	if strings.Contains(attack, "throwIf") && strings.Contains(answer, "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO") {
		in.t.Errorf("%s: the condition saw a row of tenant demo: %s", attack, last(answer, 500))
	}
}
