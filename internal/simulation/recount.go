package simulation

import (
	"cmp"
	"slices"

	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
)

// Recount is the plain loop over the accepted events that everything else is compared with.
type Recount struct {
	Contents
	windows recountWindows
	rate    recountRate
}

// NewRecount returns one that has counted nothing. It counts so many windowed rollups as the shape has of the first set
// that is declared.
func NewRecount(shape Shape) *Recount {
	return &Recount{
		Contents: Contents{}, windows: recountWindows{shape.Windows, 1, Contents{}, map[sessionsOf][]*events.Metric{}},
		rate: recountRate{most: shape.Rate, taken: map[rateSlot]int{}},
	}
}

// all is what has to be stored when all windows are closed.
func (r *Recount) all() Contents {
	out := r.windows.contents()
	for key, cell := range r.Contents {
		out.at(key).merge(cell)
	}
	return out
}

// Metric counts one event.
func (r *Recount) Metric(m *events.Metric) {
	id, service := identify(m), m.Labels.Get("service")
	distribution := m.Kind == events.Observation || m.Kind == events.Delta
	for _, t := range tiers {
		start := uint32(m.Time/1e9) / t.width * t.width
		r.at(Key{Table: "rollups_" + t.name, Tenant: m.Tenant, Metric: m.Name, Service: service, Series: id, Start: start}).add(m)
		if distribution {
			r.at(Key{Table: "services_" + t.name, Tenant: m.Tenant, Metric: m.Name, Service: service, Start: start}).add(m)
		}
	}
}

// Log counts one log record.
func (r *Recount) Log(l *events.Log) { r.Metric(logMetric(l)) }

// logMetric is the event that a log record counts as when no rule says otherwise.
func logMetric(l *events.Log) *events.Metric {
	return &events.Metric{
		Tenant: l.Tenant, Time: l.Time, Name: "log_records_total", Kind: events.Delta, Value: 1,
		Labels: series.Labels{{Name: "service", Value: l.Service}, {Name: "severity", Value: l.Severity}},
	}
}

func identify(m *events.Metric) series.ID {
	labels := slices.Clone(m.Labels)
	slices.SortFunc(labels, func(a, b series.Label) int { return cmp.Compare(a.Name, b.Name) })
	return series.Hash(series.AppendKey(nil, byte(m.Kind), m.Name, labels))
}

func (c *Cell) add(m *events.Metric) {
	c.Count++
	c.Sum += m.Value
	c.Min, c.Max = min(c.Min, m.Value), max(c.Max, m.Value)
	switch m.Kind {
	case events.Observation:
		c.Sketch.Add(m.Value)
	case events.Gauge, events.Cumulative:
		c.level(m.Time, m.Value, "")
	}
}
