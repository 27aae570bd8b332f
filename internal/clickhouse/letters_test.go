package clickhouse_test

import (
	"testing"

	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/pipeline"
)

func insertLetters(t testing.TB, client *clickhouse.Client, token string, rows ...pipeline.LetterRow) {
	t.Helper()
	block, err := clickhouse.Encoder{}.EncodeLetters(nil, rows)
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Insert(t.Context(), pipeline.TableLetters, token, len(rows), block); err != nil {
		t.Fatal(err)
	}
}

// A letter is a row, also when its block comes twice; what epochs added up is one row a minute. Before and after parts
// are merged, and of the own tenant only.
func TestDeadLettersView(t *testing.T) {
	server, client := migrated(t, nil)
	ask(t, server, "SYSTEM STOP MERGES")
	at := int64(today(t, server)) * 1000
	row := func(tenant string, offset, time int64, n uint64) pipeline.LetterRow {
		r := pipeline.LetterRow{
			Tenant: tenant, Signal: "logs", Reason: "bad_json", Topic: "t", Partition: 2, Offset: offset, Time: at + time,
			Letters: n, Events: 2 * n, Bytes: 10 * n, Detail: "it's off",
		}
		if offset >= 0 {
			r.Excerpt = "{\"é"
		}
		return r
	}
	one := []pipeline.LetterRow{row("acme", 7, 5, 1), row("acme", 8, 5, 1), row("acme", -1, 0, 3), row("demo", 9, 5, 1)}
	insertLetters(t, client, "a", one...)
	insertLetters(t, client, "a", one...)
	insertLetters(t, client, "b", row("acme", -1, 0, 4), row("acme", -1, 60_000, 5))
	f := func() {
		t.Helper()
		got := mustTenantSQL(t, client, "acme", `SELECT tenant, toUnixTimestamp64Milli(ts) % 3600000 AS ms, signal, reason, detail, topic, partition, offset, letters, events, bytes, excerpt
			FROM api.dead_letters ORDER BY ms, offset FORMAT TSV`)
		want := "acme\t0\tlogs\tbad_json\tit\\'s off\tt\t2\t\\N\t7\t14\t70\t\n" +
			"acme\t5\tlogs\tbad_json\tit\\'s off\tt\t2\t7\t1\t2\t10\t{\"é\n" +
			"acme\t5\tlogs\tbad_json\tit\\'s off\tt\t2\t8\t1\t2\t10\t{\"é\n" +
			"acme\t60000\tlogs\tbad_json\tit\\'s off\tt\t2\t\\N\t5\t10\t50\t"
		if got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	}
	f()
	ask(t, server, "SYSTEM START MERGES")
	ask(t, server, "OPTIMIZE TABLE vigie.dead_letters FINAL")
	f()
}
