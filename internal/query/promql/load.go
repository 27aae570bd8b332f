package promql

import (
	"context"
	"slices"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"
)

// load reads what one selector of a query sees.
func (s *Service) load(ctx context.Context, hints *storage.SelectHints,
	matchers []*labels.Matcher) ([]storage.Series, annotations.Annotations, error) {
	p, planned := planOf(ctx)
	if !planned { // not through the engine wrapper
		var err error
		if p, err = s.newPlan(ctx); err != nil {
			return nil, nil, err
		}
	}
	c, err := s.catalog(ctx, p.tenant)
	if err != nil {
		return nil, nil, err
	}
	r := s.newReader(ctx, p, hints, matchers)
	if of, ok := r.fold.byService(c, matchers); ok {
		if done, err := r.services(ctx, of, matchers); err != nil {
			return nil, nil, err
		} else if done {
			list, warnings := r.results(c, matchers)
			return list, warnings, nil
		}
	}
	found, rest := c.match(matchers)
	list := func(q SeriesQuery) ([]Series, error) { return s.lists.series(ctx, p, q) }
	members, err := s.members(ctx, p.tenant, list, found, rest,
		s.announced(r.from-s.cfg.ActivityHorizon.Milliseconds()), p.limits.QuerySeries)
	if err != nil {
		return nil, nil, err
	}
	if len(members) > p.limits.QuerySeries {
		return nil, nil, seriesLimit(p.limits.QuerySeries)
	}
	s.metrics.series.Add(float64(len(members)))
	r.trace.Series, r.trace.Groups = len(members), len(members)
	if err := r.read(ctx, members); err != nil {
		return nil, nil, s.storeError(ctx, p.tenant, "windows", err)
	}
	results, warnings := r.results(c, matchers)
	if wantsTotals(ctx) {
		totals(results)
	}
	return results, warnings, nil
}

// newReader says which time, tier and form of panes a selector reads.
func (s *Service) newReader(ctx context.Context, p *plan, hints *storage.SelectHints, matchers []*labels.Matcher) *reader {
	r := &reader{service: s, plan: p, hints: hints, bounds: s.bounds(leMatchers(matchers)), items: matchersOf(matchers, topLabel)}
	var chosen choice
	if len(matchers) > 0 {
		chosen = p.choices[matchers[0]]
	}
	if chosen.steps != nil {
		hints = chosen.steps.hints()
		r.hints, r.steps = hints, newStepper(chosen.steps, &p.budget)
	}
	r.from = max(hints.Start, p.now-s.cfg.Retention1h.Milliseconds())
	r.to = min(hints.End, p.clamp)
	r.tier = s.kept(r.from, p.now)
	if chosen.tier != 0 {
		r.tier, r.smoothed, r.fold = chosen.tier, chosen.smoothed, chosen.fold
		r.from = max(r.from, hints.Start+chosen.trim)
	}
	r.trace = TraceOf(ctx).selector(r, matchers)
	r.trace.Why = chosen.why
	return r
}

func (c *catalog) describe(matchers []*labels.Matcher) string {
	for _, m := range matchers {
		if m.Name == model.MetricNameLabel {
			return m.Value
		}
	}
	return "the selector"
}

// unique sorts series by labels and leaves one of each: the first kind in the order observation, delta, level, closed
// window. The engine refuses a vector with two equal label sets.
func unique(list []storage.Series) []storage.Series {
	slices.SortStableFunc(list, func(a, b storage.Series) int { return labels.Compare(a.Labels(), b.Labels()) })
	return slices.CompactFunc(slices.Clone(list), func(a, b storage.Series) bool { return labels.Equal(a.Labels(), b.Labels()) })
}
