package promql_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/query/promql"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
	"github.com/vigie-io/vigie/pkg/sketches"
)

// flatStore answers with made-up panes, so that what is measured is ours and the engine's work.
type flatStore struct {
	memStore
	panes []promql.Pane
}

func (f *flatStore) Columns(ctx context.Context, tenant tenants.ID, q promql.PaneQuery, yield func(series.ID, *promql.PaneColumn) error) error {
	return gather(ctx, f, tenant, q, yield)
}

func (f *flatStore) Panes(_ context.Context, _ tenants.ID, q promql.PaneQuery, yield func(series.ID, *promql.Pane) error) error {
	width := time.Duration(q.Tier).Milliseconds()
	for _, id := range q.IDs {
		for start := q.From; start < q.To; start += width {
			p := f.panes[start/width%int64(len(f.panes))]
			p.Start = start
			if err := yield(id, &p); err != nil {
				return err
			}
		}
	}
	return nil
}

// One hour of 10 s windows: what a panel costs beside the database.
func BenchmarkQueryRange(b *testing.B) {
	store := &flatStore{memStore: *newMemStore()}
	for i := range 16 {
		var s sketches.Sketch
		for j := range 50 {
			s.Add(0.01 * float64(1+j*(i+1)%97))
		}
		store.panes = append(store.panes, promql.Pane{Count: 50, Sum: 12, Sketch: s.AppendDD(nil)})
	}
	now := epoch.Add(time.Hour)
	for i := range 1000 {
		ls := map[string]string{"instance": fmt.Sprint(i), "service": fmt.Sprint(i % 50)}
		store.add(b, "acme", events.Delta, "hits_total", ls, event{now, 1})
		if i < 100 {
			store.add(b, "acme", events.Observation, "latency_seconds", ls, event{now, 1})
		}
	}
	store.upTo("acme", now, now)
	limits := tenants.DefaultConfig().Defaults
	s, err := promql.New(promql.DefaultConfig(), promql.Options{
		Store: store, Limits: func(tenants.ID) tenants.Limits { return limits }, Now: func() time.Time { return now },
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx := tenants.NewContext(b.Context(), "acme")
	for _, query := range []string{
		`sum by (service) (rate(hits_total[1m]))`,
		`histogram_quantile(0.99, sum by (service) (rate(latency_seconds[1m])))`,
		`histogram_quantile(0.99, sum by (service, le) (rate(latency_seconds_bucket[1m])))`,
	} {
		b.Run(query, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				q, err := s.QueryEngine().NewRangeQuery(ctx, s.Queryable(), nil, query, now.Add(-time.Hour), now, 30*time.Second)
				if err != nil {
					b.Fatal(err)
				}
				if r := q.Exec(ctx); r.Err != nil {
					b.Fatal(r.Err)
				}
				q.Close()
			}
		})
	}
}
