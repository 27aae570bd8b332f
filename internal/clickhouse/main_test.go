package clickhouse_test

import (
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/internal/testkit"
	"github.com/vigie-io/vigie/pkg/series"
	"github.com/vigie-io/vigie/pkg/sketches"
)

var update = flag.Bool("update", false, "rewrite golden files")

func TestMain(m *testing.M) { testkit.Main(m) }

func access() clickhouse.Access {
	return clickhouse.Access{
		ServicePassword: "service-password-1", SQLPassword: "sql-password-12345", Limits: clickhouse.DefaultSQLLimits(),
	}
}

// newServer starts a server with Vigie's users, and connects to it.
func newServer(t testing.TB, change func(*clickhouse.Access)) (*testkit.Server, *clickhouse.Client) {
	t.Helper()
	a, users := accessOf(t, change)
	server := testkit.ClickHouse(t, users)
	return server, connect(t, server, a)
}

func accessOf(t testing.TB, change func(*clickhouse.Access)) (a clickhouse.Access, usersXML []byte) {
	t.Helper()
	a = access()
	if change != nil {
		change(&a)
	}
	usersXML, err := clickhouse.UsersXML(a)
	if err != nil {
		t.Fatal(err)
	}
	return a, usersXML
}

func connect(t testing.TB, server *testkit.Server, a clickhouse.Access) *clickhouse.Client {
	t.Helper()
	cfg := clickhouse.DefaultConfig()
	cfg.Addrs = []string{server.HTTPAddr}
	cfg.Password, cfg.SQLPassword = a.ServicePassword, a.SQLPassword
	cfg.SQL = a.Limits
	client, err := clickhouse.NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

var schema testkit.Prepared

// migrated is newServer with all migrations done.
func migrated(t testing.TB, change func(*clickhouse.Access)) (*testkit.Server, *clickhouse.Client) {
	t.Helper()
	a, users := accessOf(t, change)
	server := schema.ClickHouse(t, users, func(s *testkit.Server) {
		client := connect(t, s, a)
		defer client.Close()
		if _, err := client.Migrate(t.Context(), false); err != nil {
			t.Fatal(err)
		}
	})
	return server, connect(t, server, a)
}

// ask runs a statement as the service user and returns the answer as TabSeparated.
func ask(t testing.TB, server *testkit.Server, statement string) string {
	t.Helper()
	status, answer := post(t, server, clickhouse.UserService, string(access().ServicePassword), statement)
	if status != http.StatusOK {
		t.Fatalf("%s: %s", statement, answer)
	}
	return strings.TrimSuffix(answer, "\n")
}

func post(t testing.TB, server *testkit.Server, user, password, statement string) (status int, answer string) {
	t.Helper()
	return server.Post(t, user, password, "wait_end_of_query=1", statement)
}

// tenantSQL runs a statement as the gateway would.
func tenantSQL(t testing.TB, client *clickhouse.Client, tenant tenants.ID, statement string,
	params url.Values) (status int, answer string) {
	t.Helper()
	response, err := client.SQL(t.Context(), tenant, http.MethodPost, params, nil, strings.NewReader(statement))
	if err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body) // an exception in the middle breaks the body: part of the answer
	return response.StatusCode, string(body)
}

func mustTenantSQL(t testing.TB, client *clickhouse.Client, tenant tenants.ID, statement string) string {
	t.Helper()
	status, answer := tenantSQL(t, client, tenant, statement, nil)
	if status != http.StatusOK {
		t.Fatalf("%s: %s", statement, answer)
	}
	return strings.TrimSuffix(answer, "\n")
}

// row is one row of a rollup block, spelled out.
type row struct {
	grain          pipeline.Grain
	tenant, metric string
	service        string
	id             series.ID
	pane           uint32
	values         []float64
	lastTime       int64
	last           float64
	lastHist       string
}

func rollups(rows ...row) *pipeline.Rollups {
	out := &pipeline.Rollups{}
	for _, r := range rows {
		var sketch sketches.Sketch
		var sum, least, greatest float64
		for i, v := range r.values {
			sketch.Add(v)
			sum += v
			if i == 0 || v < least {
				least = v
			}
			if i == 0 || v > greatest {
				greatest = v
			}
		}
		out.Grain = append(out.Grain, r.grain)
		out.Tenant = append(out.Tenant, r.tenant)
		out.Metric = append(out.Metric, r.metric)
		out.Service = append(out.Service, r.service)
		out.Series = append(out.Series, r.id)
		out.Pane = append(out.Pane, r.pane)
		out.Count = append(out.Count, uint64(len(r.values)))
		out.Sum = append(out.Sum, sum)
		out.Min = append(out.Min, least)
		out.Max = append(out.Max, greatest)
		out.LastTime = append(out.LastTime, r.lastTime)
		out.Last = append(out.Last, r.last)
		out.LastHist = append(out.LastHist, r.lastHist)
		out.Sketch = sketch.AppendDD(out.Sketch)
	}
	return out
}

func insertRollups(t testing.TB, client *clickhouse.Client, token string, rows ...row) {
	t.Helper()
	insertRows(t, client, pipeline.TableRollups, token, rows...)
}

// insertRows puts rows of rollups into one of the tables that take them.
func insertRows(t testing.TB, client *clickhouse.Client, table, token string, rows ...row) {
	t.Helper()
	block, err := clickhouse.Encoder{}.EncodeRollups(nil, rollups(rows...))
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Insert(t.Context(), table, token, len(rows), block); err != nil {
		t.Fatal(err)
	}
}

// insertReach says how far one source partition reaches (Unix ms).
func insertReach(t testing.TB, client *clickhouse.Client, table string, through, updated int64) {
	t.Helper()
	block, err := clickhouse.Encoder{}.EncodeProgress(nil, &pipeline.ProgressRows{Topic: []string{"in"}, Partition: []int32{0},
		Tenant: []string{""}, Time: []int64{through}, Updated: []int64{updated}})
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Insert(t.Context(), table, fmt.Sprint(table, through), 1, block); err != nil {
		t.Fatal(err)
	}
}

func insertSeries(t testing.TB, client *clickhouse.Client, token string, rows *pipeline.SeriesRows) {
	t.Helper()
	block, err := clickhouse.Encoder{}.EncodeSeries(nil, rows)
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Insert(t.Context(), pipeline.TableSeries, token, len(rows.Tenant), block); err != nil {
		t.Fatal(err)
	}
}

// today is a pane start that no tier's retention touches, at the start of an hour.
func today(t testing.TB, server *testkit.Server) uint32 {
	t.Helper()
	var seconds uint32
	if _, err := fmt.Sscan(ask(t, server, "SELECT toUnixTimestamp(toStartOfHour(now() - 7200))"), &seconds); err != nil {
		t.Fatal(err)
	}
	return seconds
}
