package pipeline

import (
	"strings"

	"github.com/vigie-io/vigie/internal/pipeline/aggregate"
	"github.com/vigie-io/vigie/internal/pipeline/rollup"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/rules"
)

// fields are the events at hand as conditions see them; they live in the task so that none is allocated.
type fields struct {
	metric rollup.MetricFields
	span   rollup.SpanFields
	log    rollup.LogFields
	own    aggregate.Measurement // of the event at hand
	delta  aggregate.Measurement // of a cumulative one, for the rollup at hand
}

// declareMetric gives metrics to the alerts and rollups. Levels have no sum over series, so rollups do without, and
// cumulative histograms are left out.
func (t *Task) declareMetric(m *events.Metric) {
	if m.Stale || m.Kind == events.Gauge && (m.Histogram != nil || !t.alerts.Any()) ||
		m.Kind == events.Cumulative && m.Histogram != nil {
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
	t.alert(l.Tenant, l.Time, &t.fields.log, &rollup.OneEvent)
	t.declare(l.Tenant, l.Time, &t.fields.log, &rollup.OneEvent)
}

// declare gives an event to the rollups whose condition it meets. m is its own measure.
func (t *Task) declare(tenant string, time int64, f rules.Fields, m *aggregate.Measurement) {
	aside := false
	for _, r := range t.rollups {
		if !r.Meets(tenant, f, m) {
			continue
		}
		if r.Measure == rollup.MeasureIncrease && t.cfg.Increases != nil {
			aside = true
			continue
		}
		measured := t.measured(r, m)
		if measured == nil {
			continue
		}
		var refused events.Reason
		if t.particular, refused = r.Keep.ParticularOf(time, f, measured); refused != "" {
			t.tally.drop(strings.Clone(tenant), refused)
		}
		for i := range r.Groupings {
			t.group(r, &r.Groupings[i], tenant, time, f, measured)
		}
	}
	if aside {
		t.cfg.Increases(t.fields.metric.Metric)
	}
}

// measured is what an event that a rollup takes gives it, or nil for nothing.
func (t *Task) measured(r *rollup.Rule, m *aggregate.Measurement) *aggregate.Measurement {
	switch {
	case r.Measure == rollup.MeasureEvents:
		return &rollup.OneEvent
	case m.Kind == events.Cumulative:
		return t.increase(r, m)
	}
	return m
}

// increase is what the cumulative sample at hand adds, or nil.
func (t *Task) increase(r *rollup.Rule, m *aggregate.Measurement) *aggregate.Measurement {
	sample := t.fields.metric.Metric
	delta, ok, reason := t.counters.Increase(r.CounterID, sample, t.now)
	if reason != "" {
		t.tally.drop(strings.Clone(sample.Tenant), reason)
	}
	if !ok {
		return nil
	}
	t.fields.delta = aggregate.Measurement{Kind: events.Delta, Value: delta, Unit: m.Unit}
	return &t.fields.delta
}

func (t *Task) group(r *rollup.Rule, g *rollup.Grouping, tenant string, time int64, f rules.Fields, m *aggregate.Measurement) {
	if !t.labelled(g, tenant, f) {
		return
	}
	if r.Window != nil {
		t.window(r, g, tenant, time, m)
		return
	}
	tn, ref, e := t.series(tenant, identity{kind: m.Kind, metric: g.Metric, labels: t.labels, unit: m.Unit})
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
func (t *Task) labelled(g *rollup.Grouping, tenant string, f rules.Fields) bool {
	var refused events.Reason
	if t.labels, refused = g.AppendLabels(t.labels[:0], f); refused != "" {
		t.tally.drop(strings.Clone(tenant), refused)
	}
	return refused == ""
}
