package clickhouse_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/vigie-io/vigie/migrations"
)

// BenchmarkVisible is what looking for replaced rows costs a read of ten million rows: none replaced, and a year of
// hours.
func BenchmarkVisible(b *testing.B) {
	server, _ := migrated(b, nil)
	ask(b, server, `INSERT INTO vigie.rollups_1m (tenant, metric, service, series_id, ts, count, sum)
SELECT 'acme', 'm', 's', number % 1000, toDateTime(toStartOfMinute(now() - toIntervalDay(7)) + 60 * intDiv(number, 1000), 'UTC'), 1, 1 FROM numbers(10000000)`)
	read := func(where string) func(*testing.B) {
		return func(b *testing.B) {
			for b.Loop() {
				ask(b, server, "SELECT series_id, sum(r.count), sum(r.sum) FROM vigie.rollups_1m AS r WHERE tenant = 'acme' AND metric = 'm' AND "+where+" GROUP BY series_id FORMAT Null SETTINGS max_threads = 1")
			}
		}
	}
	b.Run("unasked", read("1"))
	b.Run("none", read(migrations.Visible("r", "'acme'")))
	for _, rows := range []int{1, 50} {
		for range rows {
			ask(b, server, "INSERT INTO vigie.replaced (tenant, metric, from, to, gen, at, job) SELECT 'acme', '', intDiv(toUnixTimestamp(now()), 3600) - 8760, intDiv(toUnixTimestamp(now()), 3600) - 24, rand64(), now64(6), ''")
		}
		b.Run(fmt.Sprint("replacements=", rows), read(migrations.Visible("r", "'acme'")))
	}
}

// The generation of a window is that of the latest replacement that it lies in, as a plain loop finds it.
func TestWindowGeneration(t *testing.T) {
	server, _ := migrated(t, nil)
	r := rand.New(rand.NewPCG(1, 2))
	type replacement struct {
		tenant   string
		from, to int64 // hours
		at       int
	}
	const first, gap = 490_000, 1800 // an hour; seconds after which a session ends
	var all []replacement
	var rows []string
	for i := range 60 {
		p := replacement{tenant: []string{"acme", "demo"}[r.IntN(2)], from: first + r.Int64N(90), at: r.IntN(40)}
		p.to = p.from + 1 + r.Int64N(20)
		all = append(all, p)
		rows = append(rows, fmt.Sprintf("('%s','',%d,%d,%d,%d,'',[('w',0),('s',%d)])", p.tenant, p.from, p.to, i+1, p.at, gap-1))
	}
	ask(t, server, "INSERT INTO vigie.replaced (tenant, metric, from, to, gen, at, job, windows) VALUES "+strings.Join(rows, ","))
	var windows, want []string
	for i := range 2000 {
		tenant, metric := []string{"acme", "demo", "zeta"}[r.IntN(3)], []string{"w", "s"}[r.IntN(2)]
		start := int64(first*3600) + r.Int64N(100*3600)
		end, reach := start+1+r.Int64N(30_000), int64(0)
		if metric == "s" {
			end, reach = end+gap, gap-1
		}
		windows = append(windows, fmt.Sprintf("(%d,'%s','%s',%d,%d)", i, tenant, metric, start, end))
		gen, at := 0, -1
		for n, p := range all { // of two at one time the greater generation
			if p.tenant == tenant && start >= p.from*3600 && end <= p.to*3600+reach && p.at >= at {
				gen, at = n+1, p.at
			}
		}
		want = append(want, fmt.Sprint(gen))
	}
	got := ask(t, server, "SELECT "+migrations.WindowGeneration("w", "")+" FROM (SELECT c1 AS i, c2 AS tenant, c3 AS metric, toDateTime(c4, 'UTC') AS start, toDateTime(c5, 'UTC') AS end FROM VALUES("+
		strings.Join(windows, ",")+")) AS w ORDER BY w.i FORMAT TabSeparated")
	lines, replaced := strings.Split(got, "\n"), 0
	for i := range want {
		if lines[i] != want[i] {
			t.Fatalf("window %s: got generation %s, want %s", windows[i], lines[i], want[i])
		}
		if want[i] != "0" {
			replaced++
		}
	}
	if replaced < 200 {
		t.Fatalf("got %d windows of 2000 in replaced hours: the test proves little", replaced)
	}
}

// The same of a million windows of five minutes, in four days, that are all replaced: day by day in turns, or by hours
// at a time, so that each hour has few replacements that have not been replaced in their turn.
func BenchmarkVisibleWindows(b *testing.B) {
	server, _ := migrated(b, nil)
	ask(b, server, `INSERT INTO vigie.windows (tenant, metric, series_id, start, end, part, version, count)
SELECT 'acme', 'w', number % 1000, toDateTime(intDiv(toUnixTimestamp(now()), 86400) * 86400 - 86400 * 5 + 300 * intDiv(number, 1000), 'UTC') AS s, s + 300, 'p', 1, 1 FROM numbers(1000000)`)
	read := func(where string) func(*testing.B) {
		return func(b *testing.B) {
			for b.Loop() {
				ask(b, server, "SELECT series_id, sum(w.count) FROM vigie.windows AS w WHERE tenant = 'acme' AND metric = 'w' AND "+where+" GROUP BY series_id FORMAT Null SETTINGS max_threads = 1")
			}
		}
	}
	b.Run("unasked", read("1"))
	b.Run("none", read(migrations.VisibleWindows("w", "'acme'")))
	for n, done := range []int{1, 100, 1000} {
		before := []int{0, 1, 100}[n]
		ask(b, server, fmt.Sprintf(`INSERT INTO vigie.replaced (tenant, metric, from, to, gen, at, job, windows)
SELECT 'acme', '', intDiv(toUnixTimestamp(now()), 86400) * 24 - 120 + number %% 5 * 24 AS f, f + 24, rand64(), now64(6) + number, '', [('w', 0), ('x', 0)] FROM numbers(%d, %d)`, before, done-before))
		b.Run(fmt.Sprint("replacements=", done), read(migrations.VisibleWindows("w", "'acme'")))
	}
}

// A file with statements that read rollups says which generation they mean, or they show what was replaced beside what
// replaced it.
func TestReadersKnowGenerations(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	reads := regexp.MustCompile(`vigie\.(rollups_|services_|windows|" ?\+ ?(q\.Table|table))`)
	found := 0
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") || path == "replace.go" {
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !reads.Match(text) {
			continue
		}
		found++
		if !slices.ContainsFunc([]string{"migrations.Visible(", "gen = 0", "migrations.VisibleWindows(", "migrations.WindowGeneration("}, func(word string) bool { return strings.Contains(string(text), word) }) {
			t.Errorf("%s reads rollups: want migrations.Visible, or gen = 0", path)
		}
	}
	if found < 2 {
		t.Fatalf("got %d reads, want those of panerows.go and verify.go: the test proves nothing", found)
	}
}
