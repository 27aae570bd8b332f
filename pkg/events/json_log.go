package events

// log decodes the log event whose brace is behind pos. Fields the contract does not know become attributes.
func (w *work) log(index int) bool {
	s, b := w.s, w.out
	b.Logs = append(b.Logs, Log{})
	l := &b.Logs[len(b.Logs)-1]
	attrs := w.attributes()
	var severity string
	at := s.keys.fields.start()
	for first := true; ; first = false {
		key, more, ok := s.nextKey(first, &at)
		if !ok {
			return false
		}
		if !more {
			break
		}
		switch key {
		case "tenant":
			s.enter("tenant", fieldTenant)
			ok = s.string(&l.Tenant)
		case "time":
			s.enter("time", fieldTime)
			ok = s.time(&l.Time)
		case "service":
			s.enter("service", fieldService)
			ok = s.string(&l.Service)
		case "severity":
			s.enter("severity", fieldSeverity)
			ok = s.string(&severity)
		case "body":
			s.enter("body", fieldBody)
			ok = s.string(&l.Body)
		case "trace_id":
			s.enter("trace_id", fieldTraceID)
			ok = s.id(&l.TraceID)
		case "span_id":
			s.enter("span_id", fieldSpanID)
			ok = s.id(&l.SpanID)
		case "attributes":
			s.enter("attributes", fieldAttributes)
			ok = attrs.object()
		default:
			ok = attrs.value(key, 1)
		}
		if !ok {
			return false
		}
	}
	l.Severity = severityOf(severity)
	l.Attributes = attrs.sorted()
	w.endLog(index)
	return true
}

// endLog takes the last of the batch's logs, whose fields have been read, unless something is wrong with it.
func (w *work) endLog(index int) {
	b := w.out
	w.checkLog(&b.Logs[len(b.Logs)-1])
	if w.s.fault.reason != "" {
		return
	}
	w.countNoTime()
	b.LogIndex = append(b.LogIndex, index)
}

func (w *work) checkLog(l *Log) {
	s := w.s
	l.Tenant = w.agree(l.Tenant)
	w.eventTime(&l.Time)
	l.derive()
	if !s.has(fieldBody) {
		s.field = "body"
		s.refuse(ReasonMissing, "a log needs a body (a text)")
	}
	w.bounded("service", l.Service, w.opts.MaxValue)
	w.boundedIDs(l.TraceID, l.SpanID, "")
}
