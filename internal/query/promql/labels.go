package promql

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/vigie-io/vigie/internal/tenants"
)

// LabelValues answers from the series announced since mint. The values of __name__ without other matchers cost
// no look at series.
func (q *querier) LabelValues(ctx context.Context, name string, hints *storage.LabelHints,
	matchers ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	if name == model.MetricNameLabel && onlyNames(matchers) {
		values := texts{}
		err := q.names(ctx, matchers, func(t named) { values.add(t.name) })
		return limited(values, hints), nil, err
	}
	return q.labels(ctx, name, hints, matchers)
}

// LabelNames answers from the series announced since mint.
func (q *querier) LabelNames(ctx context.Context, hints *storage.LabelHints,
	matchers ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return q.labels(ctx, "", hints, matchers)
}

// texts is a set of them.
type texts map[string]struct{}

func (t texts) add(list ...string) {
	for _, one := range list {
		t[one] = struct{}{}
	}
}

// labels are the values of a label, or the names of labels for the name "". The database lists them: not series, of
// which a tenant may have a million where a label has ten values. Only of metrics with series of several kinds, of
// which a name may mean some, series are looked at.
func (q *querier) labels(ctx context.Context, name string, hints *storage.LabelHints,
	matchers []*labels.Matcher) ([]string, annotations.Annotations, error) {
	tenant, c, err := q.catalog(ctx)
	if err != nil {
		return nil, nil, err
	}
	l := &labelList{querier: q, tenant: tenant, name: name, values: texts{}, bounds: q.service.bounds(leMatchers(matchers)),
		most: q.service.limits(tenant).QuerySeries}
	if hints != nil && hints.Limit > 0 {
		l.most = min(l.most, hints.Limit)
	}
	found, rest := c.match(matchers)
	if len(l.bounds) == 0 {
		found = slices.DeleteFunc(found, func(t named) bool { return t.facet == bucket })
	}
	mixed, plain := split(found, c.mixed)
	// The le of derived buckets and the item of tops are ours: the database knows nothing of them.
	for _, own := range []string{labels.BucketLabel, topLabel} {
		without := slices.DeleteFunc(slices.Clone(rest), func(m *labels.Matcher) bool { return m.Name == own })
		if len(without) == len(rest) {
			continue
		}
		var of []named
		of, plain = split(plain, func(t named) bool { return t.facet.own() == own })
		if err := l.read(ctx, of, without); err != nil {
			return nil, nil, err
		}
	}
	if err := l.read(ctx, plain, rest); err != nil {
		return nil, nil, err
	}
	warnings, err := l.look(ctx, mixed, rest)
	if l.cut {
		warnings.Add(fmt.Errorf("%w: the first %d are shown (limit query_series); add matchers to see the rest",
			annotations.PromQLWarning, l.most))
	}
	return limited(l.values, hints), warnings, err
}

// labelList gathers the values of one label.
type labelList struct {
	*querier
	tenant tenants.ID
	name   string
	values texts
	bounds []le // of derived buckets
	most   int
	cut    bool // there are more
}

// read asks the database for what targets have, all of whose stored series are meant.
func (l *labelList) read(ctx context.Context, targets []named, matchers []*labels.Matcher) error {
	theirs, ours := split(targets, func(t named) bool { return l.name == "" || t.facet.own() != l.name })
	list, err := l.list(ctx, l.name, theirs, matchers)
	if err != nil {
		return err
	}
	if l.name == model.MetricNameLabel { // stored ones; what they are called is known here
		for _, t := range theirs {
			if _, there := slices.BinarySearch(list, t.metric); there {
				l.values.add(t.name)
			}
		}
		return nil
	}
	l.values.add(list...)
	if l.name == "" {
		ours = targets
	}
	buckets, _ := split(ours, func(t named) bool { return t.facet == bucket })
	if l.name != "" && l.name != labels.BucketLabel {
		return nil
	}
	there, err := l.list(ctx, model.MetricNameLabel, buckets, matchers)
	if err != nil || len(there) == 0 {
		return err
	}
	if l.name == "" {
		l.values.add(labels.BucketLabel)
		return nil
	}
	for _, b := range l.bounds {
		l.values.add(b.le)
	}
	return nil
}

func (l *labelList) list(ctx context.Context, name string, targets []named, matchers []*labels.Matcher) ([]string, error) {
	if len(targets) == 0 {
		return nil, nil
	}
	query := LabelQuery{SeriesQuery: queryOf(targets, matchers, l.service.announced(l.mint)), Name: name}
	if name != model.MetricNameLabel {
		query.Limit = l.most + 1
	}
	list, err := l.service.store.Labels(ctx, l.tenant, query)
	if err != nil {
		return nil, l.service.storeError(ctx, l.tenant, "labels", err)
	}
	if name != model.MetricNameLabel && len(list) > l.most {
		list, l.cut = list[:l.most], l.most == l.service.limits(l.tenant).QuerySeries
	}
	return list, nil
}

// look takes labels from the series that targets mean.
func (l *labelList) look(ctx context.Context, targets []named, matchers []*labels.Matcher) (annotations.Annotations, error) {
	members, warnings, err := l.members(ctx, l.tenant, l.mint, targets, matchers, 0)
	for _, m := range members {
		for _, t := range m.targets {
			switch l.name {
			case model.MetricNameLabel:
				l.values.add(t.name)
				continue
			case "":
				l.values.add(model.MetricNameLabel)
			}
			for _, own := range m.Labels {
				if l.name == "" {
					l.values.add(own.Name)
				} else if own.Name == l.name && t.facet.own() != l.name {
					l.values.add(own.Value)
				}
			}
			if t.facet != bucket {
				continue
			}
			if l.name == "" {
				l.values.add(labels.BucketLabel)
			}
			for _, b := range l.bounds {
				if l.name == labels.BucketLabel {
					l.values.add(b.le)
				}
			}
		}
	}
	if warnings == nil {
		warnings = annotations.Annotations{}
	}
	return warnings, err
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

func limited(set texts, hints *storage.LabelHints) []string {
	values := slices.Sorted(maps.Keys(set))
	if hints != nil && hints.Limit > 0 && len(values) > hints.Limit {
		values = values[:hints.Limit]
	}
	return values
}
