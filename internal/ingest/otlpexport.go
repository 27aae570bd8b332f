package ingest

import (
	"hash/fnv"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/vigie-io/vigie/pkg/events"
)

// export is a decoded OTLP export request of any signal. Its points (data points, spans, log records) are
// numbered in the order of the message, as pkg/events numbers them.
type export interface {
	points() int
	// keep returns a copy with only the points whose number passes, without empty parents.
	keep(pass func(i int) bool) export
	// shard returns a copy with only the resources of shard n of all.
	shard(n, all int) export
	marshal() ([]byte, error)
}

func parseExport(signal events.Signal, body []byte, contentType string) (export, error) {
	json := contentType == typeJSON
	switch signal {
	case events.Metrics:
		var u pmetric.Unmarshaler = &pmetric.ProtoUnmarshaler{}
		if json {
			u = &pmetric.JSONUnmarshaler{}
		}
		m, err := u.UnmarshalMetrics(body)
		return metricsExport{m}, err
	case events.Spans:
		var u ptrace.Unmarshaler = &ptrace.ProtoUnmarshaler{}
		if json {
			u = &ptrace.JSONUnmarshaler{}
		}
		t, err := u.UnmarshalTraces(body)
		return tracesExport{t}, err
	case events.Logs:
		var u plog.Unmarshaler = &plog.ProtoUnmarshaler{}
		if json {
			u = &plog.JSONUnmarshaler{}
		}
		l, err := u.UnmarshalLogs(body)
		return logsExport{l}, err
	}
	panic("BUG: no OTLP for signal " + signal)
}

// dropper numbers the points it is shown and drops those that do not pass.
type dropper struct {
	next int
	pass func(int) bool
}

func (d *dropper) drop() bool {
	i := d.next
	d.next++
	return !d.pass(i)
}

// resourceShard does not depend on the order of the attributes. A series' labels come from its resource and
// its own attributes, so it stays on its resource's shard.
func resourceShard(resource pcommon.Resource, all int) int {
	var sum uint64
	for key, value := range resource.Attributes().All() {
		h := fnv.New64a()
		_, _ = h.Write([]byte(key))
		_, _ = h.Write([]byte{0})
		_, _ = h.Write([]byte(value.AsString()))
		sum += h.Sum64()
	}
	return int(sum % uint64(all))
}

type metricsExport struct{ pmetric.Metrics }

func (e metricsExport) points() int { return e.DataPointCount() }

func (e metricsExport) marshal() ([]byte, error) {
	return (&pmetric.ProtoMarshaler{}).MarshalMetrics(e.Metrics)
}

func (e metricsExport) keep(pass func(int) bool) export {
	out, d := pmetric.NewMetrics(), dropper{pass: pass}
	e.CopyTo(out)
	out.ResourceMetrics().RemoveIf(func(r pmetric.ResourceMetrics) bool {
		r.ScopeMetrics().RemoveIf(func(s pmetric.ScopeMetrics) bool {
			s.Metrics().RemoveIf(func(m pmetric.Metric) bool { return d.metric(m) == 0 })
			return s.Metrics().Len() == 0
		})
		return r.ScopeMetrics().Len() == 0
	})
	return metricsExport{out}
}

// metric drops points of m and returns how many are left.
func (d *dropper) metric(m pmetric.Metric) int {
	switch m.Type() {
	case pmetric.MetricTypeGauge:
		m.Gauge().DataPoints().RemoveIf(func(pmetric.NumberDataPoint) bool { return d.drop() })
		return m.Gauge().DataPoints().Len()
	case pmetric.MetricTypeSum:
		m.Sum().DataPoints().RemoveIf(func(pmetric.NumberDataPoint) bool { return d.drop() })
		return m.Sum().DataPoints().Len()
	case pmetric.MetricTypeHistogram:
		m.Histogram().DataPoints().RemoveIf(func(pmetric.HistogramDataPoint) bool { return d.drop() })
		return m.Histogram().DataPoints().Len()
	case pmetric.MetricTypeExponentialHistogram:
		m.ExponentialHistogram().DataPoints().RemoveIf(func(pmetric.ExponentialHistogramDataPoint) bool { return d.drop() })
		return m.ExponentialHistogram().DataPoints().Len()
	case pmetric.MetricTypeSummary:
		m.Summary().DataPoints().RemoveIf(func(pmetric.SummaryDataPoint) bool { return d.drop() })
		return m.Summary().DataPoints().Len()
	}
	return 0
}

func (e metricsExport) shard(n, all int) export {
	out := pmetric.NewMetrics()
	e.CopyTo(out)
	out.ResourceMetrics().RemoveIf(func(r pmetric.ResourceMetrics) bool { return resourceShard(r.Resource(), all) != n })
	return metricsExport{out}
}

type tracesExport struct{ ptrace.Traces }

func (e tracesExport) points() int { return e.SpanCount() }

func (e tracesExport) marshal() ([]byte, error) {
	return (&ptrace.ProtoMarshaler{}).MarshalTraces(e.Traces)
}

func (e tracesExport) keep(pass func(int) bool) export {
	out, d := ptrace.NewTraces(), dropper{pass: pass}
	e.CopyTo(out)
	out.ResourceSpans().RemoveIf(func(r ptrace.ResourceSpans) bool {
		r.ScopeSpans().RemoveIf(func(s ptrace.ScopeSpans) bool {
			s.Spans().RemoveIf(func(ptrace.Span) bool { return d.drop() })
			return s.Spans().Len() == 0
		})
		return r.ScopeSpans().Len() == 0
	})
	return tracesExport{out}
}

func (e tracesExport) shard(n, all int) export {
	out := ptrace.NewTraces()
	e.CopyTo(out)
	out.ResourceSpans().RemoveIf(func(r ptrace.ResourceSpans) bool { return resourceShard(r.Resource(), all) != n })
	return tracesExport{out}
}

type logsExport struct{ plog.Logs }

func (e logsExport) points() int { return e.LogRecordCount() }

func (e logsExport) marshal() ([]byte, error) {
	return (&plog.ProtoMarshaler{}).MarshalLogs(e.Logs)
}

func (e logsExport) keep(pass func(int) bool) export {
	out, d := plog.NewLogs(), dropper{pass: pass}
	e.CopyTo(out)
	out.ResourceLogs().RemoveIf(func(r plog.ResourceLogs) bool {
		r.ScopeLogs().RemoveIf(func(s plog.ScopeLogs) bool {
			s.LogRecords().RemoveIf(func(plog.LogRecord) bool { return d.drop() })
			return s.LogRecords().Len() == 0
		})
		return r.ScopeLogs().Len() == 0
	})
	return logsExport{out}
}

func (e logsExport) shard(n, all int) export {
	out := plog.NewLogs()
	e.CopyTo(out)
	out.ResourceLogs().RemoveIf(func(r plog.ResourceLogs) bool { return resourceShard(r.Resource(), all) != n })
	return logsExport{out}
}
