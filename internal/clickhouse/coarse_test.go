package clickhouse_test

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/coarse"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/query/promql"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/internal/testkit"
	"github.com/vigie-io/vigie/pkg/series"
)

// minutesOf are rows merged to rows of a minute.
func minutesOf(rows []row) (list []row) {
	type key struct {
		grain           pipeline.Grain
		metric, service string
		id              series.ID
		minute          uint32
	}
	at := map[key]int{}
	for _, r := range slices.SortedFunc(slices.Values(rows), func(a, b row) int { return cmp.Compare(a.pane, b.pane) }) {
		r.pane -= r.pane % 60
		k := key{r.grain, r.metric, r.service, r.id, r.pane}
		i, there := at[k]
		if !there {
			at[k], list = len(list), append(list, r)
			continue
		}
		list[i].values = append(slices.Clone(list[i].values), r.values...)
		list[i].last, list[i].lastTime = r.last, r.lastTime
	}
	return list
}

// wholeTiers is a Store whose wider tiers are never behind.
type wholeTiers struct{ *clickhouse.Store }

func (s wholeTiers) Progress(ctx context.Context, of []tenants.ID) ([]promql.Progress, error) {
	rows, err := s.Store.Progress(ctx, of)
	for i := range rows {
		rows[i].Coarse = rows[i].Time + time.Hour.Milliseconds()
	}
	return rows, err
}

// Of two tenants with the same events, one's are in all tiers and the other's are in the wider ones up to some time, and
// some of those that came later: they get the same answers, and the statements read the finer tier from there on.
func TestCoarseTiersBehind(t *testing.T) {
	server, client := migrated(t, nil)
	ask(t, server, "SYSTEM STOP MERGES")
	at := today(t, server)
	now := time.Unix(int64(at)+7200, 0)
	coarseUpTo := at + 7200 - 27*60
	random := rand.New(rand.NewPCG(5, 14))
	tr := drawTraffic("acme", at, random)
	tr.of("demo").insert(t, client, "demo", random)

	rows := tr.all("acme", random)
	insertSeries(t, client, "acme/series", tr.series)
	for i, some := range slices.Collect(slices.Chunk(rows, 1500)) {
		insertRows(t, client, pipeline.TablePanes, fmt.Sprint("acme/panes/", i), some...)
	}
	merged := slices.DeleteFunc(rows, func(r row) bool { return r.pane >= coarseUpTo && random.IntN(3) > 0 })
	for i, some := range slices.Collect(slices.Chunk(minutesOf(merged), 1500)) {
		insertRows(t, client, coarse.TableMinutes, fmt.Sprint("acme/minutes/", i), some...)
	}
	insertReach(t, client, pipeline.TableProgress, now.UnixMilli(), now.UnixMilli())
	insertReach(t, client, coarse.TableProgress, int64(coarseUpTo)*1000+15_000, now.UnixMilli())

	behind, whole := promqlOver(t, client, now), promqlOf(t, wholeTiers{clickhouse.NewStore(client)}, now)
	queries := testkit.PromQL{Ranges: []string{"1m", "5m", "17m", "1h", "2h"}, Offsets: []string{"1m", "10m", "30m"}}
	cases := rapid.Custom(func(rt *rapid.T) url.Values {
		return url.Values{"query": {queries.Draw(rt)}, "end": {fmt.Sprint(at + 7200)},
			"start":    {fmt.Sprint(at + 600*uint32(rapid.IntRange(0, 12).Draw(rt, "start")))},
			"step":     {rapid.SampledFrom([]string{"10", "60", "600", "3600"}).Draw(rt, "step")},
			"pushdown": {rapid.SampledFrom([]string{"1", "1", "0"}).Draw(rt, "pushdown")}}
	})
	// Minutes stand for an hour that is not whole together with the tier of 10 s, in one statement.
	names := []string{"vigie.rollups_1m", "vigie.services_1m", "INNER JOIN ids", "groupArray"}
	seams := map[string]int{}
	for i := range 48 {
		form := cases.Example(i)
		got, want := askPromQLAs("acme", behind, "/query_range", form), askPromQLAs("demo", whole, "/query_range", form)
		if difference := testkit.DifferPromQL(got.Body.Bytes(), want.Body.Bytes()); difference != "" || want.Code != 200 {
			t.Fatalf("%s: %d: %s", form.Encode(), want.Code, difference)
		}
		form.Set("explain", "1")
		for _, statement := range strings.Split(askPromQLAs("acme", behind, "/query_range", form).Body.String(), `"sql"`) {
			if strings.Contains(statement, "UNION ALL") {
				for _, name := range names {
					seams[name] += strings.Count(statement, name)
				}
			}
		}
	}
	for _, name := range names {
		if seams[name] == 0 {
			t.Errorf("got %v, want some statements over a seam with %s", seams, name)
		}
	}
}
