package clickhouse_test

import (
	"testing"

	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/pipeline"
)

type limitRow struct {
	part, reason        string
	told                int64
	most, used, dropped uint64
}

func limitRows(tenant string, minute uint32, rows ...limitRow) *pipeline.LimitRows {
	l := &pipeline.LimitRows{}
	for _, r := range rows {
		l.Tenant, l.Signal, l.Reason, l.Part = append(l.Tenant, tenant), append(l.Signal, "metrics"), append(l.Reason, r.reason), append(l.Part, r.part)
		l.Minute, l.Told = append(l.Minute, minute/60*60), append(l.Told, r.told)
		l.Most, l.Used, l.Dropped = append(l.Most, r.most), append(l.Used, r.used), append(l.Dropped, r.dropped)
	}
	return l
}

func insertLimits(t testing.TB, client *clickhouse.Client, token string, rows *pipeline.LimitRows) {
	t.Helper()
	block, err := clickhouse.Encoder{}.EncodeLimits(nil, rows)
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Insert(t.Context(), pipeline.TableLimits, token, len(rows.Tenant), block); err != nil {
		t.Fatal(err)
	}
}

// What was lost adds up, once a token; the limit is the one told last; rates are used by all parts together, series by
// each. All of it before and after parts are merged, and of the own tenant only.
func TestLimitsView(t *testing.T) {
	server, client := migrated(t, nil)
	ask(t, server, "SYSTEM STOP MERGES")
	at := today(t, server)
	insertLimits(t, client, "a",
		limitRows("acme", at, limitRow{"t/0", "rate_events", 5, 100, 30, 7}, limitRow{"t/0", "series_limit", 5, 10, 4, 0}))
	insertLimits(t, client, "a",
		limitRows("acme", at, limitRow{"t/0", "rate_events", 5, 100, 30, 7}, limitRow{"t/0", "series_limit", 5, 10, 4, 0}))
	insertLimits(t, client, "b",
		limitRows("acme", at, limitRow{"t/0", "rate_events", 9, 60, 20, 1}, limitRow{"t/1", "series_limit", 5, 10, 3, 2},
			limitRow{"t/1", "too_long", 5, 0, 0, 3}, limitRow{"t/1", "too_late", 5, 0, 0, 8}))
	insertLimits(t, client, "c", limitRows("acme", at, limitRow{"t/1", "rate_events", 7, 100, 50, 2}))
	insertLimits(t, client, "d", limitRows("acme", at+60, limitRow{"t/0", "rate_events", 1, 60, 1, 4}))
	insertLimits(t, client, "e", limitRows("demo", at, limitRow{"t/0", "rate_events", 99, 999, 999, 999}))
	f := func() {
		t.Helper()
		got := mustTenantSQL(t, client, "acme", `SELECT tenant, toUnixTimestamp(ts) % 3600 AS second, signal, reason, limit_name, in_force, used, dropped
			FROM api.limits ORDER BY second, reason FORMAT CSV`)
		want := `"acme",0,"metrics","rate_events","stream_events_per_second",60,80,10` + "\n" +
			`"acme",0,"metrics","series_limit","active_series",10,4,2` + "\n" +
			`"acme",0,"metrics","too_long","",\N,0,3` + "\n" +
			`"acme",60,"metrics","rate_events","stream_events_per_second",60,1,4`
		if got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	}
	f()
	ask(t, server, "SYSTEM START MERGES")
	ask(t, server, "OPTIMIZE TABLE vigie.limits FINAL")
	f()
}
