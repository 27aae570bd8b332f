package events

import "fmt"

// Words of vigie.v1.SpanKind and SpanStatus by their numbers. "" is what an event has that does not say.
var (
	spanKinds    = []string{"", "internal", "server", "client", "producer", "consumer"}
	spanStatuses = []string{"", "ok", "error"}
)

// spanMessage decodes a vigie.v1.Span.
func (w *work) spanMessage(index int, e []byte) {
	s, b := w.s, w.out
	b.Spans = append(b.Spans, Span{})
	p := &b.Spans[len(b.Spans)-1]
	attrs := w.attributes()
	for f := (fields{rest: e}); s.next(&f); {
		switch f.number() {
		case 1:
			s.timeField(&f, "time", fieldTime, &p.Time)
		case 2:
			if s.is(&f, wireVarint, "duration", fieldDuration) {
				if p.Duration = int64(f.value); p.Duration < 0 {
					s.refuse(ReasonBadDuration, fmt.Sprintf("the duration is negative: %d", p.Duration))
				}
			}
		case 3:
			s.textField(&f, "service", fieldService, &p.Service)
		case 4:
			s.textField(&f, "name", fieldName, &p.Name)
		case 5:
			p.Kind = s.enumField(&f, "kind", fieldKind, spanKinds)
		case 6:
			p.Status = s.enumField(&f, "status", fieldStatus, spanStatuses)
		case 7:
			if s.is(&f, wireVarint, "status_code", fieldStatusCode) {
				p.StatusCode = s.httpStatus(int64(int32(f.value)))
			}
		case 8:
			s.textField(&f, "route", fieldRoute, &p.Route)
		case 9:
			s.textField(&f, "peer", fieldPeer, &p.Peer)
		case 10:
			s.idField(&f, "trace_id", fieldTraceID, &p.TraceID)
		case 11:
			s.idField(&f, "span_id", fieldSpanID, &p.SpanID)
		case 12:
			s.idField(&f, "parent_id", fieldParentID, &p.ParentID)
		case 13:
			attrs.attribute(&f)
		case 14:
			s.textField(&f, "tenant", fieldTenant, &p.Tenant)
		}
	}
	p.Attributes = attrs.sorted()
	w.endSpan(index)
}

// logMessage decodes a vigie.v1.Log.
func (w *work) logMessage(index int, e []byte) {
	s, b := w.s, w.out
	b.Logs = append(b.Logs, Log{})
	l := &b.Logs[len(b.Logs)-1]
	attrs := w.attributes()
	var severity string
	for f := (fields{rest: e}); s.next(&f); {
		switch f.number() {
		case 1:
			s.timeField(&f, "time", fieldTime, &l.Time)
		case 2:
			s.textField(&f, "body", fieldBody, &l.Body)
		case 3:
			s.textField(&f, "service", fieldService, &l.Service)
		case 4:
			s.textField(&f, "severity", fieldSeverity, &severity)
		case 5:
			s.idField(&f, "trace_id", fieldTraceID, &l.TraceID)
		case 6:
			s.idField(&f, "span_id", fieldSpanID, &l.SpanID)
		case 7:
			attrs.attribute(&f)
		case 8:
			s.textField(&f, "tenant", fieldTenant, &l.Tenant)
		}
	}
	l.Severity = severityOf(severity)
	l.Attributes = attrs.sorted()
	w.endLog(index)
}
