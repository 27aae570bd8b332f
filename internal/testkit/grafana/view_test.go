package grafana_test

import (
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/testkit/grafana"
)

func view() grafana.View {
	from := time.Unix(1_700_000_000, 0)
	return grafana.View{From: from, To: from.Add(time.Hour), Interval: 15 * time.Second}
}

func TestSQL(t *testing.T) {
	f := func(raw, want string) {
		t.Helper()
		if got, err := view().SQL(raw); err != nil || got != want {
			t.Errorf("%s: got %s (%v), want %s", raw, got, err, want)
		}
	}
	f("WHERE $__timeFilter(ts)", "WHERE ts >= toDateTime(1700000000) AND ts <= toDateTime(1700003600)")
	f("$__timeFilter_ms(a.ts)", "a.ts >= fromUnixTimestamp64Milli(1700000000000) AND a.ts <= fromUnixTimestamp64Milli(1700003600000)")
	f("$__timeInterval(toDateTime(ts)) AS t", "toStartOfInterval(toDateTime(toDateTime(ts)), INTERVAL 15 second) AS t")
	f("$__timeInterval_ms(ts)", "toStartOfInterval(toDateTime64(ts, 3), INTERVAL 15000 millisecond)")
	f("$__dt(d, ts)", "(d >= toDate('2023-11-14') AND d <= toDate('2023-11-14')) AND (ts >= toDateTime(1700000000) AND ts <= toDateTime(1700003600))")
	f("$__fromTime, $__toTime_ms, $__interval_s", "toDateTime(1700000000), fromUnixTimestamp64Milli(1700003600000), 15")
	for _, bad := range []string{"$__timeFilter()", "$__timeFilter(a, b)", "$__nothing(ts)"} {
		if got, err := view().SQL(bad); err == nil {
			t.Errorf("%s: got %s, want an error", bad, got)
		}
	}
}

func TestPromQL(t *testing.T) {
	f := func(expr, want string) {
		t.Helper()
		board := grafana.Board{}
		board.Templating.List = []grafana.Variable{{Name: "service", Type: "query", AllValue: ".*"}}
		if got := board.View(view()).PromQL(expr, 10*time.Second); got != want {
			t.Errorf("%s: got %s, want %s", expr, got, want)
		}
	}
	f(`rate(x{s=~"$service"}[$__rate_interval])`, `rate(x{s=~".*"}[40s])`)
	f(`rate(x{s=~"${service}"}[$__interval])`, `rate(x{s=~".*"}[15s])`)
	f(`increase(x[$__range])`, `increase(x[3600s])`)
}
