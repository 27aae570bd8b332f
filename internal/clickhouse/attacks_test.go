package clickhouse_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/testkit"
)

// readAttacks reads testdata/attacks.txt.
func readAttacks(t testing.TB) []string {
	t.Helper()
	text, err := os.ReadFile("testdata/attacks.txt")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\n")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if quoted, err := strconv.Unquote(line); err == nil && line[0] == '"' {
			line = quoted
		}
		out = append(out, line)
	}
	if len(out) < 250 {
		t.Fatalf("got %d attacks, want the whole file", len(out))
	}
	return out
}

// serverAttacks are those of the first part of the file: what the server holds against by itself.
func serverAttacks(t testing.TB) []string {
	t.Helper()
	all := readAttacks(t)
	i := slices.Index(all, "SELECT arrayMap(file, ['users.xml'])")
	if i < 100 {
		t.Fatalf("got %d attacks before those that the gateway refuses, want the first part", i)
	}
	return all[:i]
}

// front is a server with two tenants behind the gateway, and a canary: a listener that nothing may call.
type front struct {
	t       *testing.T
	server  *testkit.Server
	client  *clickhouse.Client
	gateway *httptest.Server
	canary  string
	called  atomic.Int64
	path    string // of the server's data, whose files hold everything

	refused, failed, harmless, through atomic.Int64
}

func newFront(t *testing.T) *front {
	f := &front{t: t}
	f.server, f.client = migrated(t, nil)
	twoTenants(t, f.server, f.client)
	f.gateway = gate(t, f.client, nil)
	f.path = ask(t, f.server, "SELECT getServerSetting('path')")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.canary = listener.Addr().String()
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			f.called.Add(1)
			_ = connection.Close()
		}
	})
	t.Cleanup(func() { _ = listener.Close(); accepting.Wait() })
	return f
}

// try sends an attack through the gateway and counts what became of it.
func (f *front) try(attack string, params url.Values) {
	status, answer, header := through(f.t, f.gateway, "acme", attack, params)
	switch {
	case betrays(answer):
		f.through.Add(1)
		f.t.Errorf("%s ?%s: got %d %s", attack, params.Encode(), status, answer[:min(len(answer), 500)])
	case status == http.StatusOK:
		f.harmless.Add(1)
	case header.Get("X-ClickHouse-Query-Id") == "":
		f.refused.Add(1)
	default:
		f.failed.Add(1)
	}
}

// betrays looks for anything that is not tenant acme's in an answer.
func betrays(answer string) bool {
	// What stands in users.xml and /etc/passwd.
	return leaks(answer) || strings.Contains(answer, "<networks>") || strings.Contains(answer, "root:x:")
}

// all tries attacks a few at a time.
func (f *front) all(attacks []string) {
	work := make(chan string)
	var workers sync.WaitGroup
	for range 4 {
		workers.Go(func() {
			for attack := range work {
				f.try(attack, nil)
			}
		})
	}
	for _, attack := range attacks {
		work <- attack
	}
	close(work)
	workers.Wait()
}

// run tries one kind of attack and prints what became of it.
func (f *front) run(t *testing.T, kind string, attack func(*testing.T)) {
	t.Run(kind, func(t *testing.T) {
		f.t = t
		counts := []*atomic.Int64{&f.refused, &f.failed, &f.harmless, &f.through}
		before := make([]int64, len(counts))
		for i, count := range counts {
			before[i] = count.Load()
		}
		attack(t)
		if calls := f.called.Load(); calls > 0 {
			t.Errorf("the server called out %d times", calls)
		}
		total := int64(0)
		for i, count := range counts {
			before[i] = count.Load() - before[i]
			total += before[i]
		}
		t.Logf("%d attempts: %d refused by the gateway, %d by the server, %d answered with nothing of others, %d through",
			total, before[0], before[1], before[2], before[3])
		if total == 0 {
			t.Error("no attempts")
		}
	})
}

// TestAttacks is what tenants try through the gateway. It prints how often.
func TestAttacks(t *testing.T) {
	f := newFront(t)
	before := totals(t, f.server)
	f.run(t, "listed", f.listed)
	f.run(t, "table functions", f.tableFunctions)
	f.run(t, "functions", f.functions)
	f.run(t, "system tables", f.systemTables)
	f.run(t, "settings", f.settings)
	f.run(t, "parameters", f.parameters)
	if after := totals(t, f.server); after != before {
		t.Errorf("after the attacks: got %s, want %s", after, before)
	}
	t.Logf("%d attempts, %d through", f.refused.Load()+f.failed.Load()+f.harmless.Load()+f.through.Load(), f.through.Load())
}

func (f *front) list(statement string) []string {
	f.t.Helper()
	return strings.Fields(ask(f.t, f.server, statement))
}

func (f *front) listed(t *testing.T) {
	var attacks []string
	for _, attack := range readAttacks(t) {
		attacks = append(attacks, attack, strings.ReplaceAll(attack, "'users.xml'", "'"+f.path+"/users.xml'"),
			"EXPLAIN "+attack, "EXPLAIN SYNTAX "+attack)
	}
	f.all(attacks)
}

// What a tenant may call in place of a table; everything else that the server knows must not get past the gateway.
var tableFunctionsAllowed = []string{
	"SQLStandardValues", "fuzzJSON", "generateRandom", "generateSeries", "generate_series", "null",
	"numbers", "numbers_mt", "primes",
	"values", "view", "viewIfPermitted", "zeros", "zeros_mt",
}

func (f *front) tableFunctions(t *testing.T) {
	names := f.list("SELECT name FROM system.table_functions ORDER BY name")
	if len(names) < 80 {
		t.Fatalf("got %d table functions, want the server's", len(names))
	}
	var attacks []string
	for _, name := range names {
		allowed := slices.Contains(tableFunctionsAllowed, name)
		for _, arguments := range []string{
			"'vigie', 'series'", "'vigie.series'", "vigie.series", "vigie, series",
			"'" + f.path + "/users.xml', 'LineAsString', 'a String'",
			"'http://" + f.canary + "/', 'CSV', 'a String'", "'" + f.canary + "', 'vigie', 'series'",
			"'" + f.canary + "', 'a', 'b', 'c', 'd'",
			"'default', 'vigie', 'series'", "'vigie', 'series', 'p'", "'EXPLAIN', '', (SELECT * FROM vigie.series)",
			"SELECT * FROM vigie.series", "",
		} {
			if name == "generateRandom" && arguments == "" {
				continue // anything may come, also what looks like a secret
			}
			statement := "SELECT * FROM " + name + "(" + arguments + ") LIMIT 100"
			attacks = append(attacks, statement, "DESCRIBE TABLE "+name+"("+arguments+")")
			if status, answer, header := through(t, f.gateway, "acme", statement, nil); !allowed &&
				header.Get("X-ClickHouse-Query-Id") != "" {
				t.Errorf("%s: got to the server: %d %s", statement, status, answer[:min(len(answer), 200)])
			}
			// Past the gateway the server refuses, or has nothing to tell.
			if _, answer := tenantSQL(t, f.client, "acme", statement, nil); betrays(answer) {
				t.Errorf("%s, past the gateway: got %s", statement, answer[:min(len(answer), 300)])
			}
		}
	}
	f.all(attacks)
}

// Any function that gives a value, called and by its name alone, with the path of a secret and the name of a table.
func (f *front) functions(t *testing.T) {
	names := f.list("SELECT name FROM system.functions WHERE origin = 'System' AND name NOT LIKE 'sleep%' ORDER BY name")
	if len(names) < 1500 {
		t.Fatalf("got %d functions, want the server's", len(names))
	}
	var attacks []string
	for _, name := range names {
		attacks = append(attacks, "SELECT "+name+"('"+f.path+"/users.xml')",
			"SELECT arrayMap("+name+", ['"+f.path+"/users.xml'])")
		if lower := strings.ToLower(name); strings.Contains(lower, "get") || strings.Contains(lower, "table") ||
			strings.Contains(lower, "dict") || strings.Contains(lower, "http") {
			attacks = append(attacks, "SELECT "+name+"('vigie.series', 'metric', 1)",
				"SELECT "+name+"('vigie', 'series', 'metric')", "SELECT "+name+"('X-ClickHouse-Key')")
		}
	}
	f.all(attacks)
}

// The tables of the server that tenants can read, all of which are about the server's program.
var systemTablesRead = []string{
	"aggregate_function_combinators", "collations", "columns", "completions", "contributors",
	"current_roles", "data_type_families",
	"database_engines", "databases", "dictionary_layouts", "disk_types", "enabled_roles", "formats",
	"functions", "licenses", "one",
	"privileges", "quota_usage", "settings", "table_engines", "table_functions", "tables", "time_zones",
}

func (f *front) systemTables(t *testing.T) {
	var read []string
	names := f.list("SELECT name FROM system.tables WHERE database = 'system' ORDER BY name")
	for _, name := range names {
		statement := "SELECT * FROM system.`" + name + "` LIMIT 20000"
		f.try(statement, nil)
		status, answer := tenantSQL(t, f.client, "acme", statement, nil)
		if betrays(answer) {
			t.Errorf("%s, past the gateway: got %s", statement, answer[:min(len(answer), 300)])
		}
		if status == http.StatusOK {
			read = append(read, name)
		}
		if status == http.StatusOK && (name == "tables" || name == "columns" || name == "databases") &&
			strings.Contains(answer, "vigie\t") {
			t.Errorf("%s: got names of tables that are not the tenant's", statement)
		}
	}
	if !slices.Equal(read, systemTablesRead) {
		t.Errorf("got system tables %v, want %v", read, systemTablesRead)
	}
}

// Any setting, as a parameter and at the end of a statement: the rows stay the tenant's.
func (f *front) settings(t *testing.T) {
	names := f.list("SELECT name FROM system.settings ORDER BY name")
	const statement = "SELECT groupUniqArray(tenant) FROM api.series"
	taken := 0
	for _, name := range names {
		for _, value := range []string{"1", "a.b"} {
			status, answer, _ := through(t, f.gateway, "acme", statement, url.Values{name: {value}})
			if status == http.StatusOK && !strings.Contains(answer, "acme") && answer != "" || strings.Contains(answer, "demo") {
				t.Errorf("?%s=%s: got %d %s", name, value, status, answer)
			}
			if status == http.StatusOK {
				taken++
			}
			f.try(statement+" SETTINGS "+name+" = '"+value+"'", nil)
		}
	}
	if taken < 50 || taken > len(names) {
		t.Errorf("got %d settings of %d taken, want those of the answer's form", taken, 2*len(names))
	}
}

func (f *front) parameters(t *testing.T) {
	secret := "'" + f.path + "/users.xml'"
	for _, statement := range []string{
		"SELECT arrayMap({f:Identifier}, [" + secret + "])", "SELECT {f:Identifier}(" + secret + ")",
		"SELECT * FROM {f:Identifier}",
		"SELECT * FROM {f:Identifier}(" + secret + ")", "SELECT * APPLY {f:Identifier} FROM (SELECT " + secret + ")",
		"SELECT * FROM {f:Identifier}.series",
		"SELECT arrayMap({f:Identifier}/**/, [" + secret + "])",
		"SELECT arrayMap({`f`:Identifier}, [" + secret + "])", "SELECT {f:String}",
		"SELECT * FROM {f:String}", "SELECT arrayMap({f:Expression}, [" + secret + "])",
		"SHOW TABLES FROM {f:Identifier}", "DESCRIBE {f:Identifier}",
	} {
		for _, value := range []string{"file", "FILE", "`file`", "fi\\x6ce", "\\file", "fi\\\nle", "vigie.series", "vigie",
			"series", "a.file", "file ", "file/**/", "$$file$$"} {
			f.try(statement, url.Values{"param_f": {value}})
			f.try(statement, url.Values{"param_f": {value, "upper"}})
			f.try(statement, url.Values{"param_F": {value}, "param_f": {"upper"}})
			f.try(statement, url.Values{"param_f": {"upper"}, "database": {value}})
		}
	}
}
