package clickhouse_test

import (
	"fmt"
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
			ask(b, server, "INSERT INTO vigie.replaced SELECT 'acme', '', intDiv(toUnixTimestamp(now()), 3600) - 8760, intDiv(toUnixTimestamp(now()), 3600) - 24, rand64(), now64(6), ''")
		}
		b.Run(fmt.Sprint("replacements=", rows), read(migrations.Visible("r", "'acme'")))
	}
}
