package events

import (
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

func (w *work) otlpSpans(all ptrace.Traces) {
	var r resource
	for _, rs := range all.ResourceSpans().All() {
		w.resource(&r, rs.Resource().Attributes())
		for _, ss := range rs.ScopeSpans().All() {
			for _, p := range ss.Spans().All() {
				if !w.otlpSpan(&r, p) {
					return
				}
			}
		}
	}
}

// otlpSpan decodes one span; false ends the record.
func (w *work) otlpSpan(r *resource, p ptrace.Span) bool {
	b, s := w.out, w.s
	index, ok := w.begin(r)
	if !ok {
		return false
	}
	kept := b.scratch.mark()
	span := Span{
		Tenant: w.agree(r.tenant), Service: r.service,
		Name: w.text("name", p.Name(), w.opts.MaxValue), Kind: otlpSpanKind(p.Kind()), Status: otlpStatus(p.Status().Code()),
		TraceID: hexTrace(p.TraceID()), SpanID: hexSpan(p.SpanID()), ParentID: hexSpan(p.ParentSpanID()),
	}
	end := p.EndTimestamp()
	if end == 0 {
		end = p.StartTimestamp()
	}
	span.Time = w.otlpTime(end)
	if start := p.StartTimestamp(); start > end {
		s.field = "duration"
		s.refuse(ReasonBadDuration, "the span ends before it starts")
	} else if start != 0 {
		span.Duration = int64(end - start)
	}
	span.Attributes = w.eventAttributes(r, p.Attributes()).sorted()
	span.derive()
	if span.Service == "" {
		span.Service = unknownService
	}
	if span.Name == "" {
		span.Name = "unknown" // OpenTelemetry: an empty name is an unknown one
	}
	w.bounded("route", span.Route, w.opts.MaxValue)
	w.bounded("peer", span.Peer, w.opts.MaxValue)
	w.bounded("service", span.Service, w.opts.MaxValue)
	if s.fault.reason != "" {
		b.rewind(kept)
		w.refuseEvent(index, s.fault)
		return true
	}
	if !s.has(fieldTime) {
		b.NoTime++
	}
	b.Spans, b.SpanIndex = append(b.Spans, span), append(b.SpanIndex, index)
	return true
}

func otlpSpanKind(k ptrace.SpanKind) string {
	switch k {
	case ptrace.SpanKindServer:
		return "server"
	case ptrace.SpanKindClient:
		return "client"
	case ptrace.SpanKindProducer:
		return "producer"
	case ptrace.SpanKindConsumer:
		return "consumer"
	}
	return "internal"
}

func otlpStatus(c ptrace.StatusCode) string {
	switch c {
	case ptrace.StatusCodeOk:
		return "ok"
	case ptrace.StatusCodeError:
		return "error"
	}
	return "unset"
}

func hexTrace(id pcommon.TraceID) string {
	if id.IsEmpty() {
		return ""
	}
	return id.String()
}

func hexSpan(id pcommon.SpanID) string {
	if id.IsEmpty() {
		return ""
	}
	return id.String()
}
