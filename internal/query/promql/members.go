package promql

import (
	"context"
	"slices"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/series"
)

// member is a stored series and the names under which a selector sees it.
type member struct {
	Series
	targets []named
}

// lister lists series of a tenant.
type lister func(SeriesQuery) ([]Series, error)

// fresh lists series as they are stored now.
func (s *Service) fresh(ctx context.Context, tenant tenants.ID) lister {
	return func(q SeriesQuery) ([]Series, error) { return s.store.Series(ctx, tenant, q) }
}

// members lists the stored series that a selector matches, by what it may mean and its other matchers, at most limit+1.
func (s *Service) members(ctx context.Context, tenant tenants.ID, read lister, found []named, rest []*labels.Matcher, since int64,
	limit int) ([]member, error) {
	if len(found) == 0 {
		return nil, nil
	}
	// The le of derived buckets and the item of tops are ours: the database knows nothing of them.
	list := []struct {
		targets  []named
		matchers []*labels.Matcher
	}{{found, rest}}
	for _, label := range []string{labels.BucketLabel, topLabel} {
		without := slices.DeleteFunc(slices.Clone(rest), func(m *labels.Matcher) bool { return m.Name == label })
		if len(without) == len(rest) {
			continue
		}
		one := list[0]
		list[0].targets, one.targets = split(list[0].targets, func(t named) bool { return t.facet.own() != label })
		one.matchers = without
		list = append(list, one)
	}
	var members []member
	for _, one := range list {
		more, err := s.membersOf(ctx, tenant, read, one.targets, one.matchers, since, limit)
		if err != nil {
			return nil, err
		}
		members = join(members, more)
	}
	return members, nil
}

// join makes one member of the same series seen twice.
func join(a, b []member) []member {
	type key struct {
		id     series.ID
		closed bool
	}
	of := func(m *member) key { return key{m.ID, m.Shape != ""} }
	at := make(map[key]int, len(a))
	for i := range a {
		at[of(&a[i])] = i
	}
	for _, m := range b {
		if i, both := at[of(&m)]; both {
			a[i].targets = append(a[i].targets, m.targets...)
		} else {
			a = append(a, m)
		}
	}
	return a
}

func split(list []named, first func(named) bool) (yes, no []named) {
	for _, t := range list {
		if first(t) {
			yes = append(yes, t)
		} else {
			no = append(no, t)
		}
	}
	return yes, no
}

func (s *Service) membersOf(ctx context.Context, tenant tenants.ID, read lister, found []named, matchers []*labels.Matcher,
	since int64, limit int) ([]member, error) {
	if len(found) == 0 {
		return nil, nil
	}
	targets := make(map[string][]named)
	for _, t := range found {
		targets[t.metric] = append(targets[t.metric], t)
	}
	q := queryOf(found, matchers, since)
	q.Limit = limit + 1
	list, err := read(q)
	if err != nil {
		return nil, s.storeError(ctx, tenant, "series", err)
	}
	members := make([]member, 0, len(list))
	for _, one := range list {
		var seen []named
		for _, t := range targets[one.Metric] {
			if t.kinds&one.kinds() != 0 {
				seen = append(seen, t)
			}
		}
		if len(seen) > 0 {
			members = append(members, member{one, seen})
		}
	}
	return members, nil
}

// queryOf asks for the series that targets mean.
func queryOf(targets []named, matchers []*labels.Matcher, since int64) SeriesQuery {
	q := SeriesQuery{Matchers: toStore(matchers), Since: since}
	for _, t := range targets {
		if t.kinds&^kindClosed != 0 {
			q.Metrics = append(q.Metrics, t.metric)
		}
		if t.kinds&kindClosed != 0 {
			q.Closed = append(q.Closed, t.metric)
		}
	}
	for _, list := range []*[]string{&q.Metrics, &q.Closed} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	return q
}

func toStore(matchers []*labels.Matcher) []Matcher {
	list := make([]Matcher, len(matchers))
	for i, m := range matchers {
		list[i] = Matcher{Name: m.Name, Op: m.Type.String(), Value: m.Value}
	}
	return list
}

// matchersOf are the matchers on a label.
func matchersOf(matchers []*labels.Matcher, label string) []*labels.Matcher {
	return slices.DeleteFunc(slices.Clone(matchers), func(m *labels.Matcher) bool { return m.Name != label })
}
