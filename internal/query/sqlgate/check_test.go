package sqlgate

import (
	"errors"
	"math/rand/v2"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestCheckTakes(t *testing.T) {
	f := func(sql string) {
		t.Helper()
		if _, err := check(sql); err != nil {
			t.Errorf("%s: got %v, want it taken", sql, err)
		}
	}
	f("SELECT 1")
	f("select 1;")
	f("SELECT 1 ; ; -- done")
	f("  \n\t(SELECT 1) UNION ALL (SELECT 2)")
	f("\ufeffSELECT 1")
	f("WITH 1 AS x SELECT x FORMAT JSONEachRow")
	f("SHOW TABLES FROM api")
	f("DESCRIBE TABLE api.metrics_10s")
	f("DESC api.series")
	f("EXPLAIN SELECT 1")
	f("EXPLAIN PLAN actions = 1, json = 1 SELECT 1")
	f("EXISTS TABLE api.series")
	f("SELECT name, value FROM system.settings WHERE name = 'readonly'")
	f("# a comment\nSELECT 1")
	f("SELECT 'SETTINGS a=1; file(x)' -- SETTINGS\n, /* ; file( */ 2")
	f("SELECT 'it''s', 'back\\'slash', `a b`, \"c\"")
	f("SELECT $$file('x'); SETTINGS$$, $tag$ $$ SETTINGS $tag$")
	f("SELECT 1.5e-3, .5, 0xff, 0b101, 1_000, 1e5, 0x1p4")
	f("SELECT labels['file'] AS file, count AS `settings`, m.file, m.`file` FROM metrics_1m AS m GROUP BY ALL")
	f("SELECT url, remote, format FROM metrics_1m GROUP BY url")
	f("SELECT {from:DateTime}, {t:Identifier}.x FROM {t:Identifier}")
	f("SELECT arrayMap(x -> x + 1, [1,2]), (1, 2).1, a::String, x ? y : z, @@version")
	f("SELECT * APPLY sum FROM metrics_1m")
	f("SELECT '\u00a0 naïve ‘quotes’' AS `naïve`")
	f("SELECT quantilesDDMerge(0.0054, 0.99)(sketch) FROM api.metrics_1m")
}

func TestCheckRefuses(t *testing.T) {
	f := func(sql string, want code, text string) {
		t.Helper()
		_, err := check(sql)
		var e *Exception
		if !errors.As(err, &e) || e.code != want || !strings.Contains(err.Error(), text) {
			t.Errorf("%q: got %v, want %s with %q", sql, err, want.name, text)
		}
	}
	f("", syntaxError, "empty")
	f(" -- nothing\n;", syntaxError, "empty")
	f("INSERT INTO t VALUES (1)", readonly, "INSERT")
	f("DROP TABLE t", readonly, "DROP")
	f("SET max_threads = 1", readonly, "SET")
	f("SYSTEM FLUSH LOGS", readonly, "SYSTEM")
	f("KILL QUERY WHERE 1", readonly, "KILL")
	f("FROM t SELECT x", readonly, "FROM")
	f("`SELECT` 1", readonly, "")
	f("EXECUTE AS demo SELECT 1", readonly, "EXECUTE")
	f("EXPLAIN INSERT INTO t SELECT 1 ", readonly, "")
	f("EXPLAIN ESTIMATE SELECT 1", readonly, "ESTIMATE")
	f("EXPLAIN TABLE OVERRIDE mysql(1) SELECT 1", readonly, "TABLE")
	f("SELECT 1; SELECT 2", syntaxError, "several statements")
	f("SELECT 1;/**/DROP TABLE t", syntaxError, "several statements")
	f("SELECT 1 SETTINGS max_threads = (1)", readonly, "SETTINGS")
	f("SELECT 1 SETTINGS max_threads = {x:UInt8}", readonly, "SETTINGS")
	f("SELECT 1 SETTINGS max_threads = 'a\\'b'", readonly, "SETTINGS")
	f("SELECT 1 SETTINGS max_threads = 1 LIMIT 1", readonly, "SETTINGS")
	f("SELECT 1 SETTINGS max_threads = 1 UNION ALL SELECT 2", readonly, "SETTINGS")
	f("SELECT 1 SETTINGS a = 1 SETTINGS b = 2", readonly, "SETTINGS")
	f("(SELECT 1 SETTINGS max_threads = 1)", readonly, "SETTINGS")
	f("SELECT (SELECT 1 SETTINGS max_threads = 1", readonly, "SETTINGS")
	f("SELECT * FROM system.settings SETTINGS", readonly, "SETTINGS")
	f("SELECT * FROM a.system.settings", readonly, "SETTINGS")
	f("SELECT * FROM system, settings", readonly, "SETTINGS")
	f("EXPLAIN indexes = 1 SELECT 1", readonly, "indexes")
	f("SELECT * FROM (SELECT 1 sEtTiNgS log_comment = 'beta')", readonly, "SETTINGS")
	f("SELECT 1 INTO OUTFILE 'x'", readonly, "OUTFILE")
	f("SELECT 1 PARALLEL WITH SELECT 2", readonly, "PARALLEL")
	for _, call := range []string{
		"file('/etc/passwd')", "FILE ('x')", "file/* */('x')", "file--\n('x')", "`file`('x')", "\"file\"('x')",
		"eval('SELECT 1')", "mergeTreeIndex('vigie','rollups_10s')", "mergeTreeAnalyzeIndexes(1)", "mergeTreeProjection('a')",
		"catboostEvaluate('m')", "getClientHTTPHeader('X-Vigie-Tenant')", "getClientHttpHeader('x')", "url('http://x')",
		"remote('h', 'd', 't')", "s3('x')", "executable('x')", "icebergS3('x')", "fileCluster('c','x')", "filesystemFree('d')",
	} {
		f("SELECT "+call, accessDenied, "not allowed")
		f("SELECT * FROM "+call, accessDenied, "not allowed")
	}
	f("SELECT '/etc/passwd' AS p, * APPLY file", accessDenied, "file")
	f("SELECT * APPLY(file)", accessDenied, "file")
	// A name alone can be a function.
	f("SELECT arrayMap(file, ['/etc/passwd'])", accessDenied, "file")
	f("SELECT arrayMap(`file`, ['x']), arrayFold(\"FILE\", [1], 2)", accessDenied, "file")
	f("SELECT arrayMap(/* */file/* */, ['x'])", accessDenied, "file")
	f("SELECT arrayMap(getClientHTTPHeader, ['X-Vigie-Tenant'])", accessDenied, "getclienthttpheader")
	f("WITH file AS f SELECT 1", accessDenied, "file")
	f("SELECT file", accessDenied, "file")
	f("SELECT * APPLY {f:Identifier}", accessDenied, "APPLY")
	f("SELECT {f:Identifier}('/etc/passwd')", accessDenied, "parameter")
	f("SELECT 'x", syntaxError, "not closed")
	f("SELECT `x", syntaxError, "not closed")
	f("SELECT /* x", syntaxError, "not closed")
	f("SELECT /* /* */ SETTINGS */ 1", syntaxError, "comment inside")
	f("SELECT /* a /*/ SETTINGS x=1", syntaxError, "comment inside")
	f("SELECT // SETTINGS\n1", syntaxError, "//")
	f("SELECT `fi\\x6ce`('x')", syntaxError, "backslash")
	f("SELECT `fi``le`('x')", syntaxError, "quote in a name")
	f("SELECT “file”('x')", syntaxError, "outside of quotes")
	f("SELECT 1 − 2", syntaxError, "outside of quotes")
	f("SELECT\u00a01", syntaxError, "outside of quotes")
	f("SELECT 'a\x00b'", syntaxError, "zero byte")
	f("SELECT \x00 1", syntaxError, "outside of quotes")
	f("SELECT 1 \\G", syntaxError, "outside of quotes")
	f("SELECT #SETTINGS x=1", syntaxError, "outside of quotes")
	f("SELECT $a", syntaxError, "'$'")
	f("SELECT $a$ x", syntaxError, "not closed")
	f("SELECT 1file('x')", syntaxError, "not a number")
}

// A SETTINGS clause at the very end becomes parameters of the request.
func TestClosingSettings(t *testing.T) {
	f := func(sql, statement, set string) {
		t.Helper()
		got, err := check(sql)
		if err != nil || got.text != statement || got.set.Encode() != set {
			t.Errorf("%s: got %+v (%v), want %q, %s", sql, got, err, statement, set)
		}
	}
	f("SELECT 1", "SELECT 1", "")
	f("SELECT a FROM b SETTINGS max_execution_time=10", "SELECT a FROM b  ", "max_execution_time=10")
	f("\ufeffSELECT 1 settings a = 'x', b = 2 /* c */ FORMAT JSON;", "\ufeffSELECT 1   /* c */ FORMAT JSON;", "a=x&b=2")
	f("SELECT 1 FORMAT JSON SETTINGS a = 1", "SELECT 1 FORMAT JSON  ", "a=1")
	f("SELECT 1 SETTINGS a = 1, a = 2", "SELECT 1  ", "a=2")
	f("SELECT 1.SETTINGS x = 1", "SELECT 1. ", "x=1")
	f("SELECT 1/**/SETTINGS/**/x = 1", "SELECT 1/**/ ", "x=1")
	f("SELECT * FROM system.settings WHERE name = 'a'", "SELECT * FROM system.settings WHERE name = 'a'", "")
	f("SELECT * FROM (SELECT 1) SETTINGS max_threads = 1", "SELECT * FROM (SELECT 1)  ", "max_threads=1")
}

func TestIdentifierParameters(t *testing.T) {
	f := func(sql, params string, want code) {
		t.Helper()
		values, err := url.ParseQuery(params)
		if err != nil {
			t.Fatal(err)
		}
		checked, err := check(sql)
		if err != nil {
			t.Fatal(err)
		}
		err = checkIdentifiers(checked.identifiers, values)
		var e *Exception
		if want == (code{}) && err != nil || want != (code{}) && (!errors.As(err, &e) || e.code != want) {
			t.Errorf("%s ?%s: got %v, want %s", sql, params, err, want.name)
		}
	}
	f("SELECT * FROM {t:Identifier}", "param_t=api.series", code{})
	f("SELECT {x:String}", "param_x=file", code{})
	f("SELECT arrayMap({f:Identifier}, ['x'])", "param_f=file", accessDenied)
	f("SELECT arrayMap({ F /**/ : /**/ identifier }, ['x'])", "param_F=FILE", accessDenied)
	f("SELECT arrayMap({f:Identifier}, ['x'])", "param_f=a.file", accessDenied)
	f("SELECT arrayMap({f:Identifier}, ['x'])", "param_f=upper&param_f=file", accessDenied)
	f("SELECT arrayMap({f:Identifier}, ['x'])", "param_f=%60file%60", badArguments)
	f("SELECT arrayMap({f:Identifier}, ['x'])", "param_f=fi%5Cx6ce", badArguments)
	f("SELECT * FROM {t:Identifier}", "param_t=", badArguments)
}

// Pieces of SQL whose reading is known. A statement put together from them must be refused exactly when one of
// the pieces is a danger in the open.
var (
	harmless = []string{
		"1", "a", "+", ",", "(", ")", "'file('", "'SETTINGS'", "'a''b'", "'\\''", "'--'", "'/*'", "`eval`,", "\"x y\"",
		"-- file('x') SETTINGS\n", "/* eval('x'); SETTINGS */", "$$ file('x'); $$", "$q$ SETTINGS $$ $q$", "# eval(1)\n",
		"1.5", "x.y", "{p:String},", "'$$'", "'`'", "\"'\"", "`'`", "-", "*", "files", "AS file,", "m.file,", "myfile(", "evaluate(", "settings_x",
	}
	dangers = []string{
		"SETTINGS", "settings", "file(", "File (", "`file`(", "eval(", "file/**/(", "file -- '\n(", "mergeTreeIndex(",
		"getClientHTTPHeader(", "; SELECT 2", "INTO OUTFILE", "catboostEvaluate(", "arrayMap(file, x)", "`file`",
	}
)

func TestDangersShowThroughAnyNoise(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		pieces := rapid.SliceOfN(rapid.SampledFrom(harmless), 0, 12).Draw(rt, "pieces")
		sql := "SELECT " + strings.Join(pieces, " ")
		if _, err := check(sql); err != nil {
			rt.Fatalf("%q: got %v, want it taken", sql, err)
		}
		at := rapid.IntRange(0, len(pieces)).Draw(rt, "at")
		danger := rapid.SampledFrom(dangers).Draw(rt, "danger")
		sql = "SELECT " + strings.Join(pieces[:at], " ") + " " + danger + " " + strings.Join(pieces[at:], " ")
		if _, err := check(sql); err == nil {
			rt.Fatalf("%q: got it taken, want it refused for %s", sql, danger)
		}
	})
}

// stripped is another reading of ClickHouse's lexical rules, slow and separate from the lexer: what remains of a
// statement without strings, heredocs and comments, names without their quotes.
var (
	strippable = regexp.MustCompile("(?s)^(?:'(?:[^'\\\\]|\\\\.|'')*'|--[^\n]*|#[ !][^\n]*|/\\*.*?\\*/)")
	names      = regexp.MustCompile("(?s)^(?:`((?:[^`\\\\]|\\\\.|``)*)`|\"((?:[^\"\\\\]|\\\\.|\"\")*)\")")
	nameSigns  = regexp.MustCompile(`(?s)[^A-Za-z0-9_$]`)
	heredocs   = regexp.MustCompile(`(?s)^\$[A-Za-z0-9_]*\$`)
	words      = regexp.MustCompile(`^[A-Za-z0-9_$]+`)
	forbidden  = regexp.MustCompile(`(?i)(^|[^a-z0-9_$.])(settings([^a-z0-9_$"]|$)|((file|catboostevaluate|getclienthttpheader|mergetree\w*)"?\s*[(,]|eval"?\s*\())`)
	named      = regexp.MustCompile(`(?i)\bas\s+"?file"?\s*,`)
)

func stripped(sql string) string {
	var out strings.Builder
	for sql != "" {
		if m := heredocs.FindString(sql); m != "" {
			if end := strings.Index(sql[len(m):], m); end >= 0 {
				sql = sql[end+2*len(m):]
				out.WriteString("''")
				continue
			}
		}
		if m := strippable.FindString(sql); m != "" {
			sql = sql[len(m):]
			if m[0] == '\'' {
				out.WriteString("''")
			} else {
				out.WriteString(" ")
			}
			continue
		}
		if m := names.FindStringSubmatch(sql); m != nil {
			out.WriteString("\"" + nameSigns.ReplaceAllString(m[1]+m[2], "x") + "\"")
			sql = sql[len(m[0]):]
			continue
		}
		n := max(1, len(words.FindString(sql)))
		out.WriteString(sql[:n])
		sql = sql[n:]
	}
	return out.String()
}

func FuzzCheck(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var b strings.Builder
		for range rng.IntN(8) {
			all := append(harmless, dangers...)
			b.WriteString(all[rng.IntN(len(all))])
		}
		f.Add("SELECT " + b.String())
	}
	f.Add("SELECT x.`file`AS file,")
	f.Fuzz(func(t *testing.T, sql string) {
		taken, err := check(sql)
		if err != nil {
			return
		}
		if again, err := check(taken.text); err != nil || again.text != taken.text || len(again.set) > 0 {
			t.Errorf("%q: got it as %q, which is then %+v (%v)", sql, taken.text, again, err)
		}
		rest := stripped(taken.text)
		if m := forbidden.FindString(named.ReplaceAllString(rest, " AS x,")); m != "" {
			t.Errorf("taken, and without strings and comments it says %q: %q", m, sql)
		}
		if strings.Contains(strings.TrimRight(strings.TrimSpace(rest), "; \n\t\r\v\f"), ";") {
			t.Errorf("taken with a semicolon inside: %q", sql)
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	sql := "SELECT service, toStartOfMinute(ts) AS t, sum(count) FROM api.metrics_10s WHERE ts >= {from:DateTime} AND labels['route'] = '/pay' GROUP BY service, t ORDER BY t FORMAT JSONCompact"
	b.ReportAllocs()
	for b.Loop() {
		if _, err := check(sql); err != nil {
			b.Fatal(err)
		}
	}
}
