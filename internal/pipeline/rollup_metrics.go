package pipeline

import "github.com/vigie-io/vigie/pkg/events"

// metric is the default rollup of metrics: every metric by its own labels. A histogram that counts what happened since
// the last one is a distribution like single observations are, whatever its producer calls it: it becomes an
// Observation.
func (t *Task) metric(m *events.Metric) {
	tn, ref, e := t.series(m.Tenant, identityOf(m))
	t.accumulate(tn, ref, e, m)
}

// metricOf is metric of an event of tn whose series was searched for.
func (t *Task) metricOf(tn *tenant, search *search, m *events.Metric) {
	ref, e := t.searched(tn, search, identityOf(m))
	t.accumulate(tn, ref, e, m)
}

func identityOf(m *events.Metric) identity {
	return identity{kind: kindOf(m), metric: m.Name, labels: m.Labels, unit: m.Unit, help: m.Help}
}

// kindOf is the kind of a metric's series.
func kindOf(m *events.Metric) events.Kind {
	if m.Histogram != nil && m.Kind == events.Delta {
		return events.Observation
	}
	return m.Kind
}

// accumulate takes a metric of a series; e is nil for one that is beyond a limit.
func (t *Task) accumulate(tn *tenant, ref uint32, e *entry, m *events.Metric) {
	if e == nil {
		t.learnBeyond(tn, m)
		return
	}
	t.learn(tn, ref, e, m)
	c := t.take(tn, ref, e, m.Time)
	switch {
	case m.Histogram != nil && kindOf(m) == events.Observation:
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
