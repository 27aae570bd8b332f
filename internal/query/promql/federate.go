package promql

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

const day = 24 * time.Hour

// Federate serves GET /federate?match[]=…: the newest complete value of each series, in Prometheus' exposition formats,
// for a Prometheus that scrapes it with honor_labels. Counters kept in windows are totals since midnight UTC: they
// begin anew each day, as counters may. Native histograms are left out; what is derived of them is there.
func (s *Service) Federate() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			http.Error(w, "parse the form: "+err.Error(), http.StatusBadRequest)
			return
		}
		if len(r.Form["match[]"]) > s.cfg.MaxSelectors {
			http.Error(w, selectorsLimit(s.cfg.MaxSelectors).Error(), http.StatusUnprocessableEntity)
			return
		}
		var sets [][]*labels.Matcher
		for _, text := range r.Form["match[]"] {
			matchers, err := s.engine.parser.ParseMetricSelector(text)
			if err != nil {
				http.Error(w, fmt.Sprintf("match[]=%s: %v", text, err), http.StatusBadRequest)
				return
			}
			sets = append(sets, matchers)
		}
		if len(sets) == 0 {
			http.Error(w, `want at least one match[], such as match[]={__name__=~"job:.*"}`, http.StatusBadRequest)
			return
		}
		found, err := s.latest(r.Context(), sets)
		if err != nil {
			code, _ := statusOf(err)
			http.Error(w, err.Error(), code)
			return
		}
		format := expfmt.NegotiateAccept(r.Header, expfmt.DefaultAcceptedFormats()...)
		w.Header().Set("Content-Type", string(format))
		encoder := expfmt.NewEncoder(w, format)
		for _, family := range families(found) {
			if encoder.Encode(family) != nil {
				return // the client has gone
			}
		}
	})
}

// newest is the newest value of a series.
type newest struct {
	labels labels.Labels
	time   int64 // Unix ms
	value  float64
}

// latest are the newest values of all series that meet one of the sets, each once, by name and labels.
func (s *Service) latest(ctx context.Context, sets [][]*labels.Matcher) (found []newest, err error) {
	plan, catalog, err := s.read(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, plan.limits.QueryTimeout)
	defer cancel()
	place, err := s.place(ctx, plan.tenant)
	if err != nil {
		return nil, err
	}
	defer place.Release()
	ctx = place.Context(ctx)
	for _, matchers := range sets {
		some, err := s.latestOf(ctx, plan, catalog, matchers)
		if err != nil {
			return nil, nameLimit(err, plan.limits)
		}
		found = append(found, some...)
	}
	slices.SortFunc(found, func(a, b newest) int { return labels.Compare(a.labels, b.labels) })
	return slices.CompactFunc(found, func(a, b newest) bool { return labels.Equal(a.labels, b.labels) }), nil
}

// latestOf are the newest values of the series that meet all matchers.
func (s *Service) latestOf(ctx context.Context, p *plan, c *catalog, matchers []*labels.Matcher) (found []newest, err error) {
	midnight := floor(p.clamp-1, day.Milliseconds())
	named, others := c.match(matchers)
	members, err := s.members(ctx, p.tenant, s.fresh(ctx, p.tenant), named, others, s.announced(midnight), p.limits.QuerySeries)
	if err != nil {
		return nil, err
	}
	if len(members) > p.limits.QuerySeries {
		return nil, seriesLimit(p.limits.QuerySeries)
	}
	s.metrics.series.Add(float64(len(members)))
	var counters, rest []member
	for _, m := range members {
		if m.kinds()&(kindSketch|kindDelta) != 0 {
			counters = append(counters, m)
		} else {
			rest = append(rest, m)
		}
	}
	list, err := s.upTo(ctx, p, matchers, Tier1h, midnight+1, counters)
	if err != nil {
		return nil, err
	}
	for _, one := range list {
		if d, ok := one.(*deltas); ok && d.hists == nil {
			if total, ok := d.since(midnight); ok {
				found = append(found, newest{one.Labels(), p.clamp, total})
			}
		}
	}
	list, err = s.upTo(ctx, p, matchers, Tier10s, p.clamp-s.cfg.Lookback.Milliseconds()+1, rest)
	if err != nil {
		return nil, err
	}
	for _, one := range list {
		if l, ok := lastOf(one.Iterator(nil)); ok {
			l.labels = one.Labels()
			found = append(found, l)
		}
	}
	return found, nil
}

// upTo reads some members from a time (Unix ms) up to the watermark.
func (s *Service) upTo(ctx context.Context, p *plan, matchers []*labels.Matcher, tier Tier, from int64, members []member) (
	[]storage.Series, error) {
	r := &reader{
		service: s, plan: p, hints: &storage.SelectHints{Start: from, End: p.clamp}, bounds: s.bounds(leMatchers(matchers)),
		tier: tier, from: from, to: p.clamp,
	}
	r.trace = TraceOf(ctx).selector(r, matchers)
	if err := r.read(ctx, members); err != nil {
		return nil, s.storeError(ctx, p.tenant, "windows", err)
	}
	return unique(r.list), nil
}

// since is what was counted in the windows that end after t. ok is false when the series has ended.
func (s *deltas) since(t int64) (total float64, ok bool) {
	it, _ := s.Iterator(nil).(*windowIterator)
	for it.Next() != chunkenc.ValNone {
		if ok = !value.IsStaleNaN(it.f); ok && it.t > t {
			total += it.f
		}
	}
	return total, ok
}

// lastOf is the last sample, unless it ends the series or is a histogram.
func lastOf(it chunkenc.Iterator) (l newest, ok bool) {
	for kind := it.Next(); kind != chunkenc.ValNone; kind = it.Next() {
		if ok = kind == chunkenc.ValFloat; ok {
			l.time, l.value = it.At()
			ok = !value.IsStaleNaN(l.value)
		}
	}
	return l, ok
}

// families puts values of one name together. found is sorted by labels, of which the name may not be the first.
func families(found []newest) (list []*dto.MetricFamily) {
	at := map[string]*dto.MetricFamily{}
	untyped := dto.MetricType_UNTYPED
	for i := range found {
		name := found[i].labels.Get(model.MetricNameLabel)
		family := at[name]
		if family == nil {
			family = &dto.MetricFamily{Name: &name, Type: &untyped}
			at[name], list = family, append(list, family)
		}
		m := &dto.Metric{Untyped: &dto.Untyped{Value: &found[i].value}, TimestampMs: &found[i].time}
		found[i].labels.Range(func(l labels.Label) {
			if l.Name != model.MetricNameLabel {
				m.Label = append(m.Label, &dto.LabelPair{Name: &l.Name, Value: &l.Value})
			}
		})
		family.Metric = append(family.Metric, m)
	}
	slices.SortFunc(list, func(a, b *dto.MetricFamily) int { return strings.Compare(a.GetName(), b.GetName()) })
	return list
}
