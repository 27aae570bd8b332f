package clickhouse_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/internal/testkit"
)

// sources of random statements: what a tenant may read, and what not.
var sources = []string{
	"api.series", "series", "`api`.`metrics_10s`", "metrics_1m AS m", "\"services_10s\"", "api.windows", "late_windows",
	"limits", "dead_letters", "queries",
	"system.one", "system.tables", "system.functions", "system.settings", "numbers(3)", "numbers(2) AS n",
	"values('a UInt8', 1)", "view(SELECT 1 AS a)",
	"generateSeries(1, 3)", "zeros(2)", "{t:Identifier}", "api.{t:Identifier}",
	"vigie.series", "`vigie`.series", "vigie.rollups_10s", "system.parts", "system.processes",
	"system.users", "information_schema.tables",
	"merge('vigie', '.*')", "merge('api', 'series')", "remote('127.0.0.1', vigie.series)", "cluster('default', vigie.series)",
	"mergeTreeIndex('vigie', 'series')",
	"loop(vigie.series)", "url('http://127.0.0.1:1/', 'CSV', 'a String')", "file('x', 'CSV', 'a String')", "dictionary('d')",
	"view(SELECT * FROM vigie.series)",
	"viewIfPermitted(SELECT 1 AS a ELSE null('a UInt8'))",
	"viewIfPermitted(SELECT count() AS a FROM vigie.series ELSE null('a UInt64'))",
}

// statement draws a SELECT with sources wherever a table may stand.
func statement(rt *rapid.T, depth int) string {
	pick := func(from []string) string { return rapid.SampledFrom(from).Draw(rt, "part") }
	source := func() string {
		if depth > 0 && rapid.IntRange(0, 3).Draw(rt, "nested") == 0 {
			return "(" + statement(rt, depth-1) + ")"
		}
		return pick(sources)
	}
	out := pick([]string{"", "", "WITH (SELECT count() FROM " + source() + ") AS c ",
		"WITH c AS (SELECT * FROM " + source() + ") "}) +
		pick([]string{"SELECT ", "select ", "SELECT/**/", "SELECT -- x\n", "SELECT DISTINCT "}) +
		pick([]string{"count()", "*", "1", "(SELECT any(1) FROM " + source() + ")", "exists(SELECT 1 FROM " + source() + ")",
			"arrayMap(x -> x + 1, [1])", "arrayMap(upper, ['a'])"}) +
		pick([]string{" FROM ", " from ", "\nFROM/* from */"}) + source()
	out += pick([]string{"", "", "", " WHERE 1 IN (SELECT count() FROM " + source() + ")", " WHERE 1", " PREWHERE 1"})
	out += pick([]string{"", "", "", " LIMIT 10", " UNION ALL SELECT count() FROM " + source(), " ORDER BY 1"})
	return out
}

var (
	treeTables    = regexp.MustCompile(`(?m)^\s*TABLE id: .*table_name: (\S+?),?$|table_name: ([^\s,]+)`)
	treeFunctions = regexp.MustCompile(`table_function_name: (\w+)`)
)

// TestAcceptedStatementsReadTheApiOnly asks the server itself, as one who sees everything, which tables a statement
// reads that a tenant got an answer to.
func TestAcceptedStatementsReadTheApiOnly(t *testing.T) {
	f := newFront(t)
	answered, refused := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		sql := statement(rt, 2)
		params := url.Values{"param_t": {rapid.SampledFrom([]string{"series", "api.series", "vigie.series", "metrics_1m"}).Draw(rt, "param")}}
		status, answer, _ := through(t, f.gateway, "acme", sql, params)
		if betrays(answer) {
			rt.Fatalf("%s: got %s", sql, answer)
		}
		if status != http.StatusOK {
			refused++
			return
		}
		answered++
		tree := f.explain(sql, params)
		if !strings.Contains(tree, "QUERY id:") {
			rt.Fatalf("%s: got no tree: %s", sql, tree)
		}
		for _, m := range treeTables.FindAllStringSubmatch(tree, -1) {
			name := m[1] + m[2]
			if system, ok := strings.CutPrefix(name, "system."); ok && slices.Contains(systemTablesRead, system) {
				continue
			}
			if !strings.HasPrefix(name, "api.") {
				rt.Fatalf("%s: answered, and reads %s\n%s", sql, name, tree)
			}
		}
		for _, m := range treeFunctions.FindAllStringSubmatch(tree, -1) {
			if !slices.Contains(tableFunctionsAllowed, m[1]) {
				rt.Fatalf("%s: answered, and calls %s", sql, m[1])
			}
		}
	})
	t.Logf("%d statements answered, %d refused", answered, refused)
	if all := answered + refused; answered < all/10 || refused < all/10 {
		t.Error("want some of both")
	}
}

// explain is the server's own reading of a statement, with the rights of the service user.
func (f *front) explain(sql string, params url.Values) string {
	f.t.Helper()
	_, answer := f.server.Post(f.t, clickhouse.UserService, string(access().ServicePassword),
		"database=api&"+params.Encode(), "EXPLAIN QUERY TREE "+sql)
	return answer
}

// TestHeavyTenantHarmsNoOther lets one tenant send 50 queries without end at once, first for the processor, then for
// memory. It never holds more than its places, and another tenant is answered meanwhile.
func TestHeavyTenantHarmsNoOther(t *testing.T) {
	const places, crowd = 4, 50
	server, client := migrated(t, func(a *clickhouse.Access) { a.Limits.MaxMemory, a.Limits.MaxMemoryAll = 128<<20, 256<<20 })
	twoTenants(t, server, client)
	gateway := gate(t, client, func(l *tenants.Limits) { l.QueryConcurrency = places })
	running := func() (n int) {
		_, err := fmt.Sscan(ask(t, server, "SELECT count() FROM system.processes WHERE query_id LIKE 'acme:%'"), &n)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	for kind, heavy := range map[string]string{
		"processor": "SELECT count() FROM numbers(1000000000000) WHERE sipHash64(number) = 1",
		"memory":    "SELECT length(groupArray(toString(number))) FROM numbers(1000000000000)",
	} {
		t.Run(kind, func(t *testing.T) {
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			var turnedAway atomic.Int64
			var clients sync.WaitGroup
			for i := range crowd {
				clients.Go(func() {
					for ctx.Err() == nil {
						request, err := http.NewRequestWithContext(ctx, http.MethodPost, fmt.Sprintf("%s/sql?query_id=h%d&max_rows_to_read=500000000", gateway.URL, i), strings.NewReader(heavy))
						if err != nil {
							t.Error(err)
							return
						}
						request.SetBasicAuth("x", "k-acme")
						response, err := http.DefaultClient.Do(request)
						if err != nil {
							return
						}
						if response.StatusCode == http.StatusTooManyRequests {
							turnedAway.Add(1)
							time.Sleep(20 * time.Millisecond)
						}
						_, _ = io.Copy(io.Discard, response.Body)
						_ = response.Body.Close()
					}
				})
			}
			testkit.Eventually(t, 30*time.Second, func() error {
				if n := running(); n < places-1 || turnedAway.Load() < crowd/2 {
					return fmt.Errorf("got %d running and %d turned away, want the crowd at the door", n, turnedAway.Load())
				}
				return nil
			})
			busy := 0
			for range 20 {
				status, answer, _ := through(t, gateway, "demo", "SELECT metric, sum(count) FROM api.metrics_10s GROUP BY metric", nil)
				if status != http.StatusOK || !strings.Contains(answer, secretWord) {
					t.Errorf("demo, beside the crowd: got %d %s", status, answer)
				}
				n := running()
				if n > places {
					t.Errorf("got %d queries of acme running, want at most %d", n, places)
				}
				busy += min(1, n)
			}
			if busy == 0 {
				t.Error("the crowd was never there while demo asked")
			}
			stop()
			clients.Wait()
			testkit.Eventually(t, 20*time.Second, func() error {
				if n := running(); n > 0 {
					return fmt.Errorf("%d queries outlive their clients", n)
				}
				return nil
			})
			t.Logf("%s: %d turned away, acme busy at %d of 20 answers to demo", kind, turnedAway.Load(), busy)
		})
	}
}
