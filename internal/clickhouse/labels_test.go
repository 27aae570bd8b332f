package clickhouse_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/query/promql"
	"github.com/vigie-io/vigie/migrations"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
)

// Names and values of labels are those of the series that the same query lists, over rows that are not merged and of
// one tenant.
func TestLabels(t *testing.T) {
	server, client := migrated(t, nil)
	ask(t, server, "SYSTEM STOP MERGES")
	at := today(t, server)
	random := rand.New(rand.NewPCG(5, 13))
	shopTraffic(t, client, "acme", at, random)
	shopTraffic(t, client, "acme", at-86400, random)
	shopTraffic(t, client, "demo", at, random)
	insertSeries(t, client, "gone", &pipeline.SeriesRows{
		Tenant: []string{"acme"}, Metric: []string{"level"}, Service: []string{"old"}, ID: []series.ID{{Lo: 5}},
		Kind: []uint8{uint8(events.Gauge)}, Native: []bool{false}, Unit: []string{""}, Help: []string{""},
		Labels:   []series.Labels{{{Name: "rack", Value: "r"}, {Name: "region", Value: "old"}, {Name: "service", Value: "old"}}},
		LastSeen: []uint32{at - 86400},
	})
	ask(t, server, fmt.Sprintf("INSERT INTO vigie.window_series (tenant, metric, series_id, shape, kind, labels, last_seen) VALUES ('acme', 'visits', 7, 'tumbling 1m', 1, {'page': '/', 'region': 'z'}, %d)", at))
	store := clickhouse.NewStore(client)
	metrics := []string{"hits_total", "latency_seconds", "level", "visits"}
	for _, matchers := range [][]promql.Matcher{
		nil, {{Name: "region", Op: "=", Value: "x"}},
		{{Name: "service", Op: "!=", Value: ""}, {Name: "instance", Op: "=~", Value: "[3-6]"}},
		{{Name: "page", Op: "=", Value: "/"}}, {{Name: "region", Op: "=", Value: "none"}},
		{{Name: "region", Op: "!~", Value: "x|o.*"}}, {{Name: "instance", Op: "=~", Value: "[3-6]"}, {Name: "instance", Op: "!=", Value: "4"}},
	} {
		for i, since := range []int64{0, int64(at) * 1000, 0} {
			of := promql.SeriesQuery{Metrics: metrics, Closed: metrics, Matchers: matchers, Since: since}
			if i == 2 {
				of.Metrics, of.Closed = []string{"hits_total", "none"}, nil
			}
			list, err := store.Series(t.Context(), "acme", of)
			if err != nil {
				t.Fatal(err)
			}
			want := map[string]map[string]bool{"": {}, "__name__": {}, "none": {}, "region": {}, "service": {},
				"instance": {}, "page": {}, "rack": {}}
			for _, s := range list {
				want[""]["__name__"], want["__name__"][s.Metric] = true, true
				for _, l := range s.Labels {
					want[""][l.Name], want[l.Name][l.Value] = true, true
				}
			}
			for name, values := range want {
				query := promql.LabelQuery{Name: name, SeriesQuery: of}
				if got, err := store.Labels(t.Context(), "acme", query); err != nil ||
					!slices.Equal(got, slices.Sorted(maps.Keys(values))) {
					t.Errorf("%q of %v since %d: got %q, %v, want %v", name, matchers, since, got, err, values)
				}
			}
		}
	}
	for _, closed := range [][]string{nil, metrics} {
		got, err := store.Labels(t.Context(), "acme", promql.LabelQuery{Name: "instance", SeriesQuery: promql.SeriesQuery{Metrics: metrics, Closed: closed, Limit: 3}})
		if err != nil || !slices.Equal(got, []string{"0", "1", "2"}) {
			t.Errorf("got %q, %v, want the first three", got, err)
		}
	}
}

// The migration fills the table of values from the series of before, and does no harm a second time.
func TestLabelValuesOfBefore(t *testing.T) {
	server, client := migrated(t, nil)
	random := rand.New(rand.NewPCG(6, 14))
	for _, tenant := range []string{"acme", "demo"} {
		shopTraffic(t, client, tenant, today(t, server), random)
		shopTraffic(t, client, tenant, today(t, server)-86400, random)
	}
	content := func() string {
		return ask(t, server, "SELECT groupArray(tuple(*)) FROM (SELECT tenant, name, value, metric, last_seen FROM vigie.label_values FINAL ORDER BY ALL)")
	}
	want := content()
	if len(want) < 1000 {
		t.Fatalf("got %s, want what the view has written", want)
	}
	ask(t, server, "TRUNCATE TABLE vigie.label_values SYNC")
	file := migrations.All()[22]
	statements, err := file.Statements(migrations.Target{Owner: clickhouse.UserService, ViewOwner: clickhouse.UserViewOwner})
	if err != nil || file.Name != "0023_label_values.sql" {
		t.Fatal(file.Name, err)
	}
	for range 2 {
		for _, statement := range statements {
			ask(t, server, statement)
		}
		if got := content(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// What is written for new series is a row for each label that is theirs alone, and few for those that many share.
func TestLabelValuesOfABlock(t *testing.T) {
	server, client := migrated(t, nil)
	rows := &pipeline.SeriesRows{}
	for i := range 1000 {
		rows.Tenant, rows.Metric, rows.Service = append(rows.Tenant, "acme"), append(rows.Metric, "m"), append(rows.Service, "shop")
		rows.ID, rows.Kind, rows.Native = append(rows.ID, series.ID{Lo: uint64(i)}), append(rows.Kind, 0), append(rows.Native, false)
		rows.Unit, rows.Help, rows.LastSeen = append(rows.Unit, ""), append(rows.Help, ""), append(rows.LastSeen, today(t, server))
		rows.Labels = append(rows.Labels,
			series.Labels{{Name: "instance", Value: fmt.Sprint(i)}, {Name: "region", Value: fmt.Sprint(i % 10)},
				{Name: "service", Value: "shop"}})
	}
	insertSeries(t, client, "one", rows)
	if got := ask(t, server, "SELECT count() FROM vigie.label_values"); got != "1012" {
		t.Errorf("got %s rows, want 1000 instances, 10 regions, a service and a metric", got)
	}
}
