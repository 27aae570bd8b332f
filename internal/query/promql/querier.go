package promql

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/prometheus/common/model"
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
func (q *querier) bare(ctx context.Context, hints *storage.SelectHints, matchers []*labels.Matcher) ([]storage.Series, annotations.Annotations, error) {
	members, warnings, err := q.members(ctx, hints.Start, matchers)
	if err != nil {
		return nil, nil, err
	}
	var list []storage.Series
	bounds := q.service.bounds(leMatchers(matchers))
	for _, m := range members {
		for _, t := range m.targets {
			if hints.Limit > 0 && len(list) >= hints.Limit {
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

// LabelValues answers from the series announced since mint. The values of __name__ without other matchers cost
// no look at series.
func (q *querier) LabelValues(ctx context.Context, name string, hints *storage.LabelHints, matchers ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	values := make(map[string]struct{})
	warnings, err := q.each(ctx, matchers, name == model.MetricNameLabel, func(t named, ls labelSource) {
		if name == model.MetricNameLabel {
			values[t.name] = struct{}{}
		} else {
			ls(t, func(n, v string) {
				if n == name {
					values[v] = struct{}{}
				}
			})
		}
	})
	return limited(values, hints), warnings, err
}

// LabelNames answers from the series announced since mint.
func (q *querier) LabelNames(ctx context.Context, hints *storage.LabelHints, matchers ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	names := make(map[string]struct{})
	warnings, err := q.each(ctx, matchers, false, func(t named, ls labelSource) {
		names[model.MetricNameLabel] = struct{}{}
		ls(t, func(n, _ string) { names[n] = struct{}{} })
	})
	return limited(names, hints), warnings, err
}

// labelSource calls f with every label that a series has under the name of t.
type labelSource func(t named, f func(name, value string))

func (q *querier) each(ctx context.Context, matchers []*labels.Matcher, namesOnly bool, f func(named, labelSource)) (annotations.Annotations, error) {
	if namesOnly && onlyNames(matchers) {
		return nil, q.names(ctx, matchers, func(t named) { f(t, nil) })
	}
	members, warnings, err := q.members(ctx, q.mint, matchers)
	if err != nil {
		return nil, err
	}
	bounds := q.service.bounds(leMatchers(matchers))
	for _, m := range members {
		source := func(t named, each func(name, value string)) {
			for _, l := range m.Labels {
				if t.facet != bucket || l.Name != labels.BucketLabel {
					each(l.Name, l.Value)
				}
			}
			if t.facet == bucket {
				for _, b := range bounds {
					each(labels.BucketLabel, b.le)
				}
			}
		}
		for _, t := range m.targets {
			f(t, source)
		}
	}
	return warnings, nil
}

func onlyNames(matchers []*labels.Matcher) bool {
	return !slices.ContainsFunc(matchers, func(m *labels.Matcher) bool { return m.Name != model.MetricNameLabel })
}

// names calls f for the metrics seen since mint, whatever their series.
func (q *querier) names(ctx context.Context, matchers []*labels.Matcher, f func(named)) error {
	tenant, ok := tenants.FromContext(ctx)
	if !ok {
		return errNoTenant
	}
	metas, err := q.service.store.Metas(ctx, tenant, q.service.announced(q.mint))
	if err != nil {
		return q.service.storeError(ctx, tenant, "metrics", err)
	}
	found, _ := newCatalog(metas).match(matchers)
	for _, t := range found {
		f(t)
	}
	return nil
}

// members lists the matching series for an answer about labels: what exceeds the limit is left out and said so.
func (q *querier) members(ctx context.Context, since int64, matchers []*labels.Matcher) ([]member, annotations.Annotations, error) {
	tenant, ok := tenants.FromContext(ctx)
	if !ok {
		return nil, nil, errNoTenant
	}
	c, err := q.service.catalog(ctx, tenant)
	if err != nil {
		return nil, nil, err
	}
	limit := q.service.limits(tenant).QuerySeries
	members, err := q.service.members(ctx, tenant, c, matchers, q.service.announced(since), limit)
	if err != nil {
		return nil, nil, err
	}
	var warnings annotations.Annotations
	if len(members) > limit {
		members = members[:limit]
		warnings.Add(fmt.Errorf("%w: answered from %d series (limit query_series); add matchers to see the rest", annotations.PromQLWarning, limit))
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

func limited(set map[string]struct{}, hints *storage.LabelHints) []string {
	values := slices.Sorted(maps.Keys(set))
	if hints != nil && hints.Limit > 0 && len(values) > hints.Limit {
		values = values[:hints.Limit]
	}
	return values
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

func (q *chunkQuerier) Select(ctx context.Context, sorted bool, hints *storage.SelectHints, matchers ...*labels.Matcher) storage.ChunkSeriesSet {
	return storage.NewSeriesSetToChunkSet(q.querier.Select(ctx, sorted, hints, matchers...))
}
