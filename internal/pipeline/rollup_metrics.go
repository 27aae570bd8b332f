package pipeline

import "github.com/vigie-io/vigie/pkg/events"

// metric is the default rollup of metrics: every metric by its own labels. A histogram that counts what happened since
// the last one is a distribution like single observations are, whatever its producer calls it: it becomes an
// Observation.
func (t *Task) metric(m *events.Metric) {
	kind := m.Kind
	if m.Histogram != nil && kind == events.Delta {
		kind = events.Observation
	}
	tn, ref, e := t.series(m.Tenant, identity{kind: kind, metric: m.Name, labels: m.Labels, unit: m.Unit, help: m.Help})
	if e == nil {
		t.learnBeyond(tn, m)
		return
	}
	t.learn(tn, ref, e, m)
	c := t.take(tn, ref, e, m.Time)
	switch {
	case kind == events.Observation && m.Histogram != nil:
		t.observe(c, m.Histogram)
	case m.Stale:
		t.level(c, m.Time, endedValue, ended)
	case m.Histogram != nil:
		c.Count++
		e.native = true
		t.hist = AppendHistogram(t.hist[:0], m.Histogram)
		t.level(c, m.Time, m.Histogram.Sum, t.hist)
	default:
		t.number(c, m.Time, m.Value)
	}
}
