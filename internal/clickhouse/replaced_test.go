package clickhouse_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/vigie-io/vigie/migrations"
)

// BenchmarkVisible is what looking for replaced rows costs a read of ten million rows: none replaced, and a year of hours.
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

// A file with statements that read rollups says which generation they mean, or they show what was replaced beside what replaced it.
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
		// panesWhere has it for those that build their condition with it.
		if !slices.ContainsFunc([]string{"migrations.Visible(", "panesWhere(", "gen = 0", "migrations.VisibleWindows(", "migrations.WindowGeneration("}, func(word string) bool { return strings.Contains(string(text), word) }) {
			t.Errorf("%s reads rollups: want migrations.Visible, or gen = 0", path)
		}
	}
	where, err := os.ReadFile("columns.go")
	if _, body, is := strings.Cut(string(where), "\nfunc panesWhere("); err != nil || !is || !strings.Contains(body, "migrations.Visible(") {
		t.Errorf("panesWhere in columns.go: want migrations.Visible in it, %v", err)
	}
	if found < 2 {
		t.Fatalf("got %d reads, want those of panes.go and verify.go: the test proves nothing", found)
	}
}
