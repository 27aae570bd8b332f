package events

// span decodes the span event whose brace is behind pos. Fields the contract does not know become attributes.
func (w *work) span(index int) bool {
	s, b := w.s, w.out
	b.Spans = append(b.Spans, Span{})
	p := &b.Spans[len(b.Spans)-1]
	attrs := w.attributes()
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
			ok = s.string(&p.Tenant)
		case "time":
			s.enter("time", fieldTime)
			ok = s.time(&p.Time)
		case "duration":
			s.enter("duration", fieldDuration)
			ok = s.duration(&p.Duration)
		case "service":
			s.enter("service", fieldService)
			ok = s.string(&p.Service)
		case "name":
			s.enter("name", fieldName)
			ok = s.string(&p.Name)
		case "kind":
			s.enter("kind", fieldKind)
			ok = s.word(&p.Kind, spanKind, "server, client, internal, producer or consumer")
		case "status":
			s.enter("status", fieldStatus)
			ok = s.word(&p.Status, spanStatus, "ok, error or unset")
		case "status_code":
			s.enter("status_code", fieldStatusCode)
			ok = s.statusCode(&p.StatusCode)
		case "route":
			s.enter("route", fieldRoute)
			ok = s.string(&p.Route)
		case "peer":
			s.enter("peer", fieldPeer)
			ok = s.string(&p.Peer)
		case "trace_id":
			s.enter("trace_id", fieldTraceID)
			ok = s.id(&p.TraceID)
		case "span_id":
			s.enter("span_id", fieldSpanID)
			ok = s.id(&p.SpanID)
		case "parent_id":
			s.enter("parent_id", fieldParentID)
			ok = s.id(&p.ParentID)
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
	p.Attributes = attrs.sorted()
	w.endSpan(index)
	return true
}

// endSpan takes the last of the batch's spans, whose fields have been read, unless something is wrong with it.
func (w *work) endSpan(index int) {
	b := w.out
	w.checkSpan(&b.Spans[len(b.Spans)-1])
	if w.s.fault.reason != "" {
		return
	}
	w.countNoTime()
	b.SpanIndex = append(b.SpanIndex, index)
}

func (w *work) checkSpan(p *Span) {
	s := w.s
	p.Tenant = w.agree(p.Tenant)
	w.eventTime(&p.Time)
	p.derive()
	w.required("service", p.Service)
	w.required("name", p.Name)
	if !s.has(fieldDuration) {
		s.field = "duration"
		s.refuse(ReasonMissing,
			`a span needs a duration: in JSON seconds as a number, or a text such as "12ms"; in protobuf nanoseconds`)
	}
	w.bounded("service", p.Service, w.opts.MaxValue)
	w.bounded("name", p.Name, w.opts.MaxValue)
	w.bounded("route", p.Route, w.opts.MaxValue)
	w.bounded("peer", p.Peer, w.opts.MaxValue)
	w.boundedIDs(p.TraceID, p.SpanID, p.ParentID)
}
