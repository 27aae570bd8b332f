package promql_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/vigie-io/vigie/internal/query/promql"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
)

// laid is a storage with a sample laid over each series of recorded.
type laid struct {
	storage.Queryable
	at int64
}

func (l laid) Querier(mint, maxt int64) (storage.Querier, error) {
	q, err := l.Queryable.Querier(mint, maxt)
	return laidQuerier{q, l.at}, err
}

type laidQuerier struct {
	storage.Querier
	at int64
}

func (q laidQuerier) Select(ctx context.Context, ordered bool, hints *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	below := q.Querier.Select(ctx, ordered, hints, matchers...)
	var all []storage.Series
	for below.Next() {
		all = append(all, below.At())
	}
	for _, host := range []string{"a", "b"} {
		ls := labels.FromStrings("__name__", "recorded", "host", host)
		above := storage.NewListSeries(ls, []chunks.Sample{hundred(q.at)})
		found := false
		for i, one := range all {
			if labels.Equal(one.Labels(), ls) {
				all[i], found = storage.ChainedSeriesMerge(above, one), true
			}
		}
		if !found {
			all = append(all, above)
		}
	}
	return &listed{list: all, at: -1}
}

type listed struct {
	list []storage.Series
	at   int
}

func (l *listed) Next() bool                        { l.at++; return l.at < len(l.list) }
func (l *listed) At() storage.Series                { return l.list[l.at] }
func (l *listed) Err() error                        { return nil }
func (l *listed) Warnings() annotations.Annotations { return nil }

// hundred is a sample of that value; it is its time.
type hundred int64

func (h hundred) T() int64                      { return int64(h) }
func (h hundred) ST() int64                     { return 0 }
func (h hundred) F() float64                    { return 100 }
func (h hundred) H() *histogram.Histogram       { return nil }
func (h hundred) FH() *histogram.FloatHistogram { return nil }
func (h hundred) Type() chunkenc.ValueType      { return chunkenc.ValFloat }
func (h hundred) Copy() chunks.Sample           { return h }

// What a caller lays over stored series is seen by every query over them, also by one whose sums would be pushed down.
func TestCoveredSeriesAreNotPushed(t *testing.T) {
	s := newServer(t)
	for _, host := range []string{"a", "b"} {
		s.store.add(t, "acme", events.Gauge, "recorded", map[string]string{"host": host}, every(30*time.Second, epoch, s.now, 1)...)
	}
	s.store.add(t, "acme", events.Delta, "hits_total", nil, every(time.Second, epoch, s.now, 1)...)
	ctx := promql.WithCover(tenants.NewContext(t.Context(), "acme"), func(matchers []*labels.Matcher) bool {
		return slices.ContainsFunc(matchers, func(m *labels.Matcher) bool { return m.Value == "recorded" })
	})
	over := laid{s.service.Queryable(), s.now.UnixMilli()}
	for query, want := range map[string]string{
		"recorded":                         `{__name__="recorded", host="a"} => 100,{__name__="recorded", host="b"} => 100`,
		"max_over_time(recorded[5m])":      `{host="a"} => 100,{host="b"} => 100`,
		"sum(max_over_time(recorded[5m]))": "{} => 200",
		"sum(recorded)":                    "{} => 200",
		"count by (host) (recorded > 50)":  `{host="a"} => 1,{host="b"} => 1`,
	} {
		q, err := s.service.QueryEngine().NewInstantQuery(ctx, over, nil, query, s.now)
		if err != nil {
			t.Fatal(err)
		}
		vector, err := q.Exec(ctx).Vector()
		if err != nil {
			t.Fatal(err)
		}
		var parts []string
		for _, one := range vector {
			parts = append(parts, fmt.Sprintf("%s => %v", one.Metric, one.F))
		}
		slices.Sort(parts)
		got := strings.Join(parts, ",")
		if got != want {
			t.Errorf("%s: got %s, want %s", query, got, want)
		}
	}
}
