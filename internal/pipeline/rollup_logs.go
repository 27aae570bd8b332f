package pipeline

import (
	"github.com/vigie-io/vigie/internal/pipeline/rollup"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
)

// log is the default rollup of logs: records by service and severity.
func (t *Task) log(l *events.Log) {
	ls := t.labels[:0]
	if l.Service != "" {
		ls = append(ls, series.Label{Name: "service", Value: l.Service})
	}
	ls = append(ls, series.Label{Name: "severity", Value: l.Severity})
	t.labels = ls
	tn, ref, e := t.series(l.Tenant, identity{kind: events.Delta, metric: rollup.LogMetric, labels: ls, help: "Log records."})
	if e == nil {
		return
	}
	t.take(tn, ref, e, l.Time).Add(1)
}
