package pipeline

import (
	"slices"
	"strings"

	"github.com/vigie-io/vigie/internal/pipeline/aggregate"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/rules"
	"github.com/vigie-io/vigie/pkg/series"
)

var oneEvent = aggregate.Measurement{Kind: events.Delta, Value: 1}

// declareMetric gives metrics to the alerts and rollups. Levels have no sum over series, so rollups do without, and cumulative
// histograms are left out.
func (t *Task) declareMetric(m *events.Metric) {
	if m.Stale || m.Kind == events.Gauge && (m.Histogram != nil || t.alerts.rules == nil) || m.Kind == events.Cumulative && m.Histogram != nil {
		return
	}
	t.fields.own = aggregate.Measurement{Kind: m.Kind, Value: m.Value, Histogram: m.Histogram, Unit: m.Unit}
	if m.Histogram != nil {
		t.fields.own.Kind = events.Observation
	}
	t.fields.metric.Metric = m
	t.alert(m.Tenant, m.Time, &t.fields.metric, &t.fields.own)
	if m.Kind != events.Gauge {
		t.declare(m.Tenant, m.Time, &t.fields.metric, &t.fields.own)
	}
}

func (t *Task) declareSpan(s *events.Span) {
	t.fields.span.Span = s
	t.fields.own = aggregate.Measurement{Kind: events.Observation, Value: float64(s.Duration) / 1e9, Unit: "s"}
	t.alert(s.Tenant, s.Time, &t.fields.span, &t.fields.own)
	t.declare(s.Tenant, s.Time, &t.fields.span, &t.fields.own)
}

func (t *Task) declareLog(l *events.Log) {
	t.fields.log.Log = l
	t.alert(l.Tenant, l.Time, &t.fields.log, &oneEvent)
	t.declare(l.Tenant, l.Time, &t.fields.log, &oneEvent)
}

// declare gives an event to the rollups whose condition it meets. m is its own measure.
func (t *Task) declare(tenant string, time int64, f rules.Fields, m *aggregate.Measurement) {
	aside := false
	for _, r := range t.rollups {
		if !r.takes(m) || len(r.tenants) > 0 && !slices.Contains(r.tenants, tenants.ID(tenant)) || r.where != nil && !r.where.Match(f) {
			continue
		}
		if r.measure == MeasureIncrease && t.cfg.Increases != nil {
			aside = true
			continue
		}
		measured := t.measured(r, m)
		if measured == nil {
			continue
		}
		t.particular = t.particularOf(r.keep, tenant, time, f, measured)
		for i := range r.groupings {
			t.group(r, &r.groupings[i], tenant, time, f, measured)
		}
	}
	if aside {
		t.cfg.Increases(t.fields.metric.Metric)
	}
}

// measured is what an event that a rollup takes gives it, or nil for nothing.
func (t *Task) measured(r *rollup, m *aggregate.Measurement) *aggregate.Measurement {
	switch {
	case r.measure == measureEvents:
		return &oneEvent
	case m.Kind == events.Cumulative:
		return t.increase(r, m)
	}
	return m
}

// takes says whether a rollup counts such measurements.
func (r *rollup) takes(m *aggregate.Measurement) bool {
	if r.measure == MeasureIncrease {
		return m.Kind == events.Cumulative || m.Kind == events.Delta
	}
	return m.Kind != events.Cumulative
}

// increase is what the cumulative sample at hand adds, or nil.
func (t *Task) increase(r *rollup, m *aggregate.Measurement) *aggregate.Measurement {
	sample := t.fields.metric.Metric
	delta, ok, reason := t.counters.increase(r.counterID, sample, t.now)
	if reason != "" {
		t.tally.drop(strings.Clone(sample.Tenant), reason)
	}
	if !ok {
		return nil
	}
	t.fields.delta = aggregate.Measurement{Kind: events.Delta, Value: delta, Unit: m.Unit}
	return &t.fields.delta
}

// maxDerivedLabel bounds the value of a label that comes from an attribute, which may be longer than a label may be.
const maxDerivedLabel = 4 << 10

func (t *Task) group(r *rollup, g *grouping, tenant string, time int64, f rules.Fields, m *aggregate.Measurement) {
	if !t.labelled(g, tenant, f) {
		return
	}
	if r.window != nil {
		t.window(r, g, tenant, time, m)
		return
	}
	tn, ref, e := t.series(tenant, identity{kind: m.Kind, metric: g.metric, labels: t.labels, unit: m.Unit})
	if e == nil {
		return
	}
	c := t.into(tn, ref, e, time)
	switch {
	case m.Histogram != nil:
		t.observe(c, m.Histogram)
	case m.Kind == events.Observation:
		t.observation(c, m.Value)
	default:
		c.Add(m.Value)
	}
}

// labelled puts the labels of an event in a grouping into t.labels; it says false of one that is left out, counted.
func (t *Task) labelled(g *grouping, tenant string, f rules.Fields) bool {
	ls := t.labels[:0]
	for i, field := range g.fields {
		value := f.Text(field)
		if len(value) > maxDerivedLabel {
			t.tally.drop(strings.Clone(tenant), ReasonLongLabel)
			return false
		}
		switch {
		case value != "":
			ls = append(ls, series.Label{Name: g.labels[i], Value: value})
		case g.required != nil && g.required[i]:
			t.tally.drop(strings.Clone(tenant), ReasonNoSession)
			return false
		}
	}
	t.labels = ls
	return true
}
