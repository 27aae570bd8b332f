package pipeline

import (
	"github.com/vigie-io/vigie/internal/pipeline/rollup"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
)

// span is the default rollup of spans: durations by service, span name and kind, status, route, class of HTTP status
// and peer; what a span does not have is no label.
func (t *Task) span(s *events.Span) {
	// In the order of names, as series.Labels wants it.
	all := [...]series.Label{
		{Name: "http_route", Value: s.Route},
		{Name: "http_status_class", Value: rollup.StatusClass(s.StatusCode)},
		{Name: "peer", Value: s.Peer},
		{Name: "service", Value: s.Service},
		{Name: "span_kind", Value: s.Kind},
		{Name: "span_name", Value: s.Name},
		{Name: "status", Value: s.Status},
	}
	ls := t.labels[:0]
	for _, l := range all {
		if l.Value != "" {
			ls = append(ls, l)
		}
	}
	t.labels = ls
	tn, ref, e := t.series(s.Tenant, identity{
		kind: events.Observation, metric: rollup.SpanMetric, labels: ls, unit: "s", help: "Duration of spans.",
	})
	if e == nil {
		return
	}
	t.observation(t.take(tn, ref, e, s.Time), float64(s.Duration)/1e9)
}
