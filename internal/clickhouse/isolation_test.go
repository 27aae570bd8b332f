package clickhouse_test

import (
	"bytes"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/pipeline/windowed"
	"github.com/vigie-io/vigie/internal/query/querylog"
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
			windowRow{part: word, version: 1, kind: windowed.Late, delta: 1, count: uint64(number), sum: number})
		for i := range windows.Metric {
			windows.Metric[i], windows.Service[i], windows.Labels[i] = word, word, series.Labels{{Name: word, Value: word}}
		}
		insertWindows(t, client, "windows "+tenant, windows)
		insertLimits(t, client, "limits "+tenant, limitRows(tenant, at, limitRow{part: word, reason: "rate_events", told: 1, most: uint64(number), used: uint64(number), dropped: uint64(number)}))
		insertLetters(t, client, "letters "+tenant, pipeline.LetterRow{
			Tenant: tenant, Signal: "metrics", Reason: "bad_value", Topic: word, Offset: int64(number),
			Time: time.Now().UnixMilli(), Letters: 1, Events: uint64(number),
			Bytes: uint64(number), Detail: word, Excerpt: word,
		})
		err := client.InsertQueries(t.Context(), "queries "+tenant, []querylog.Entry{{
			Tenant: tenants.ID(tenant), Time: time.Now(), Kind: querylog.Range, Text: word, Samples: int64(number),
			Status: word, Pushdown: word, Plan: word,
		}})
		if err != nil {
			t.Fatal(err)
		}
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

var apiViews = []string{"metrics_10s", "metrics_1m", "metrics_1h", "services_10s", "services_1m", "services_1h", "series",
	"label_values", "windows", "late_windows", "limits", "dead_letters", "queries"}

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
	for _, attack := range serverAttacks(t) {
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
	for _, statement := range serverAttacks(t) {
		word, _, _ := strings.Cut(statement, " ")
		switch word {
		case "SELECT", "WITH", "EXPLAIN", "SHOW", "DESCRIBE", "EXISTS", "SET", "USE":
			if !strings.Contains(statement, "vigie.") && !strings.Contains(statement, "'vigie'") ||
				strings.Contains(statement, "FROM api.") ||
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
		"X-Vigie-Tenant": {"demo"}, "x-vigie-tenant": {"demo"}, "X-Clickhouse-User": {"vigie"},
		"X-Clickhouse-Key": {string(access().ServicePassword)},
		"Authorization":    {"Basic dmlnaWU6c2VydmljZS1wYXNzd29yZC0x"}, "X-Clickhouse-Quota": {"demo"},
	}
	params := url.Values{"user": {"vigie"}, "password": {string(access().ServicePassword)}, "role": {"x"},
		"session_id": {"s"}, "quota_key": {"demo"}}
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
	good := url.Values{"max_execution_time": {"0"}, "max_result_rows": {"99999999999"}, "max_threads": {"1"},
		"output_format_json_quote_64bit_integers": {"1"}, "default_format": {"JSONEachRow"}}
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
