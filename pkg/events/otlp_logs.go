package events

import "go.opentelemetry.io/collector/pdata/plog"

func (w *work) otlpLogs(all plog.Logs) {
	var r resource
	for _, rl := range all.ResourceLogs().All() {
		w.resource(&r, rl.Resource().Attributes())
		for _, sl := range rl.ScopeLogs().All() {
			for _, p := range sl.LogRecords().All() {
				if !w.otlpLog(&r, p) {
					return
				}
			}
		}
	}
}

// otlpLog decodes one log record; false ends the record.
func (w *work) otlpLog(r *resource, p plog.LogRecord) bool {
	b, s, c := w.out, w.s, &w.out.scratch
	index, ok := w.begin(r)
	if !ok {
		return false
	}
	kept := b.scratch.mark()
	at := p.Timestamp()
	if at == 0 {
		at = p.ObservedTimestamp()
	}
	l := Log{
		Tenant: w.agree(r.tenant), Time: w.otlpTime(at), Service: r.service,
		Severity: otlpSeverity(p.SeverityNumber(), p.SeverityText()),
		Body:     w.text("body", p.Body().AsString(), w.opts.MaxRecord),
		TraceID:  hexTrace(p.TraceID()), SpanID: hexSpan(p.SpanID()),
	}
	attrs := w.eventAttributes(r, p.Attributes())
	name := w.text("event_name", p.EventName(), w.opts.MaxName)
	if name != "" && indexLabel(c.labels[attrs.from:], "event.name") < 0 {
		attrs.add("event.name", name)
	}
	l.Attributes = attrs.sorted()
	l.derive()
	if s.fault.reason != "" {
		b.rewind(kept)
		w.refuseEvent(index, s.fault)
		return true
	}
	if !s.has(fieldTime) {
		b.NoTime++
	}
	b.Logs, b.LogIndex = append(b.Logs, l), append(b.LogIndex, index)
	return true
}

// otlpSeverity puts OpenTelemetry's 24 severities into six classes of four; without a number the text decides.
func otlpSeverity(n plog.SeverityNumber, text string) string {
	if n < 1 || n > 24 {
		return severityOf(text)
	}
	return [...]string{"trace", "debug", "info", "warn", "error", "fatal"}[(n-1)/4]
}
