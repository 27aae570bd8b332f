package clickhouse_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/query/promql"
)

// Names and values of labels are those of the series that the same query lists, over rows that are not merged and of one tenant.
func TestLabels(t *testing.T) {
	server, client := migrated(t, nil)
	ask(t, server, "SYSTEM STOP MERGES")
	at := today(t, server)
	random := rand.New(rand.NewPCG(5, 13))
	shopTraffic(t, client, "acme", at, random)
	shopTraffic(t, client, "acme", at-86400, random)
	shopTraffic(t, client, "demo", at, random)
	ask(t, server, fmt.Sprintf("INSERT INTO vigie.window_series (tenant, metric, series_id, shape, kind, labels, last_seen) VALUES ('acme', 'visits', 7, 'tumbling 1m', 1, {'page': '/', 'region': 'z'}, %d)", at))
	store := clickhouse.NewStore(client)
	metrics := []string{"hits_total", "latency_seconds", "level", "visits"}
	for _, matchers := range [][]promql.Matcher{
		nil, {{Name: "region", Op: "=", Value: "x"}}, {{Name: "service", Op: "!=", Value: ""}, {Name: "instance", Op: "=~", Value: "[3-6]"}}, {{Name: "page", Op: "=", Value: "/"}}, {{Name: "region", Op: "=", Value: "none"}},
	} {
		for _, since := range []int64{0, int64(at) * 1000} {
			of := promql.SeriesQuery{Metrics: metrics, Closed: metrics, Matchers: matchers, Since: since}
			list, err := store.Series(t.Context(), "acme", of)
			if err != nil {
				t.Fatal(err)
			}
			want := map[string]map[string]bool{"": {}, "__name__": {}, "none": {}, "region": {}, "service": {}, "instance": {}, "page": {}}
			for _, s := range list {
				want[""]["__name__"], want["__name__"][s.Metric] = true, true
				for _, l := range s.Labels {
					want[""][l.Name], want[l.Name][l.Value] = true, true
				}
			}
			for name, values := range want {
				query := promql.LabelQuery{Name: name, SeriesQuery: of}
				if got, err := store.Labels(t.Context(), "acme", query); err != nil || !slices.Equal(got, slices.Sorted(maps.Keys(values))) {
					t.Errorf("%q of %v since %d: got %q, %v, want %v", name, matchers, since, got, err, values)
				}
			}
		}
	}
	got, err := store.Labels(t.Context(), "acme", promql.LabelQuery{Name: "instance", SeriesQuery: promql.SeriesQuery{Metrics: metrics, Limit: 3}})
	if err != nil || !slices.Equal(got, []string{"0", "1", "2"}) {
		t.Errorf("got %q, %v, want the first three", got, err)
	}
}
