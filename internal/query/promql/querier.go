package promql

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/vigie-io/vigie/internal/tenants"
)

type queryable struct{ service *Service }

var _ storage.SampleAndChunkQueryable = queryable{}

func (q queryable) Querier(mint, maxt int64) (storage.Querier, error) {
	return &querier{service: q.service, mint: mint, maxt: maxt}, nil
}

func (q queryable) ChunkQuerier(mint, maxt int64) (storage.ChunkQuerier, error) {
	return &chunkQuerier{querier{service: q.service, mint: mint, maxt: maxt}}, nil
}

// querier reads the series of the context's tenant. mint and maxt are Unix ms, inclusive.
type querier struct {
	service    *Service
	mint, maxt int64
}

func (q *querier) Close() error { return nil }

func (q *querier) Select(ctx context.Context, _ bool, hints *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	if hints == nil {
		hints = &storage.SelectHints{Start: q.mint, End: q.maxt}
	}
	return &set{load: func() ([]storage.Series, annotations.Annotations, error) {
		q.service.metrics.selects.Inc()
		if hints.Func == "series" {
			return q.bare(ctx, hints, matchers)
		}
		return q.service.load(ctx, hints, matchers)
	}}
}

// bare returns labels without samples, for /series. It is asked from the beginning to the end of time.
func (q *querier) bare(ctx context.Context, hints *storage.SelectHints, matchers []*labels.Matcher) (
	[]storage.Series, annotations.Annotations, error) {
	tenant, c, err := q.catalog(ctx)
	if err != nil {
		return nil, nil, err
	}
	found, rest := c.match(matchers)
	most := 2 * min(hints.Limit, math.MaxInt32) // a gauge and a total may be one series
	limit := 0
	if !slices.ContainsFunc(found, func(t named) bool { return c.mixed(t) }) { // else some of what is listed may be left out
		limit = most
	}
	members, warnings, err := q.members(ctx, tenant, hints.Start, found, rest, limit)
	if err != nil {
		return nil, nil, err
	}
	var list []storage.Series
	bounds := q.service.bounds(leMatchers(matchers))
	for _, m := range members {
		for _, t := range m.targets {
			if most > 0 && len(list) >= most {
				return unique(list), warnings, nil
			}
			if t.facet != bucket {
				list = append(list, &levels{labels: seriesLabels(t.name, m.Labels, "")})
				continue
			}
			for _, b := range bounds {
				list = append(list, &levels{labels: seriesLabels(t.name, m.Labels, b.le)})
			}
		}
	}
	q.service.metrics.series.Add(float64(len(members)))
	return unique(list), warnings, nil
}

// catalog is that of the context's tenant.
func (q *querier) catalog(ctx context.Context) (tenants.ID, *catalog, error) {
	tenant, ok := tenants.FromContext(ctx)
	if !ok {
		return "", nil, errNoTenant
	}
	c, err := q.service.catalog(ctx, tenant)
	return tenant, c, err
}

// members lists the matching series for an answer about labels, most of them where that is not 0: what exceeds the
// tenant's limit is left out and said so.
func (q *querier) members(ctx context.Context, tenant tenants.ID, since int64, found []named, matchers []*labels.Matcher,
	most int) ([]member, annotations.Annotations, error) {
	limit := q.service.limits(tenant).QuerySeries
	list := limit
	if most > 0 {
		list = min(most, limit)
	}
	members, err := q.service.members(ctx, tenant, q.service.fresh(ctx, tenant), found, matchers, q.service.announced(since), list)
	if err != nil {
		return nil, nil, err
	}
	var warnings annotations.Annotations
	if len(members) > limit {
		members = members[:limit]
		warnings.Add(fmt.Errorf("%w: answered from %d series (limit query_series); add matchers to see the rest",
			annotations.PromQLWarning, limit))
	}
	return members, warnings, nil
}

// announced is the announcement time from which on series may have been active at since or later. A request
// without a start looks back by the configured window.
func (s *Service) announced(since int64) int64 {
	now := s.now().UnixMilli()
	if since < now-100*365*24*3600*1000 { // MinTime, or a start nobody means
		since = now - s.cfg.LabelsWindow.Milliseconds()
	}
	return max(0, since-s.cfg.SeriesRefresh.Milliseconds())
}

// le is one bound of derived buckets.
type le struct {
	bound float64
	le    string
}

// bounds are the configured bounds and +Inf, as far as their labels meet the matchers.
func (s *Service) bounds(matchers []*labels.Matcher) []le {
	var list []le
	for _, b := range append(slices.Clone(s.cfg.BucketBounds), math.Inf(1)) {
		if text := formatBound(b); matchesAll(matchers, text) {
			list = append(list, le{b, text})
		}
	}
	return list
}

// bounds are the bare numbers.
func bounds(list []le) []float64 {
	out := make([]float64, len(list))
	for i, le := range list {
		out[i] = le.bound
	}
	return out
}

func leMatchers(matchers []*labels.Matcher) (found []*labels.Matcher) {
	for _, m := range matchers {
		if m.Name == labels.BucketLabel {
			found = append(found, m)
		}
	}
	return found
}

// chunkQuerier encodes what querier reads. Chunks carry no start timestamps for floats that were not written
// with them, so nothing of Vigie uses it; the upstream API's constructor asks for one.
type chunkQuerier struct{ querier }

func (q *chunkQuerier) Select(ctx context.Context, sorted bool, hints *storage.SelectHints,
	matchers ...*labels.Matcher) storage.ChunkSeriesSet {
	return storage.NewSeriesSetToChunkSet(q.querier.Select(ctx, sorted, hints, matchers...))
}
