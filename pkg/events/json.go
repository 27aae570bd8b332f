package events

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
)

// json decodes an array of events, or events after one another (one object, NDJSON).
func (w *work) json() {
	s := w.s
	s.load(w.src.Value)
	s.maxDepth = w.opts.MaxDepth
	if bytes.HasPrefix(w.src.Value, []byte("\xEF\xBB\xBF")) {
		s.pos = 3 // a byte order mark, as some Windows tools write
	}
	if s.space() == '[' {
		w.array()
		return
	}
	w.lines()
}

// array decodes the events of an array. Where it breaks, where the next event begins is unknowable: what
// came before is kept and the rest is one reject.
func (w *work) array() {
	s := w.s
	s.pos++
	if s.space() == ']' {
		s.pos++
		w.arrayEnd()
		return
	}
	for {
		if !w.room() {
			return
		}
		index := w.out.Events
		if !w.element() {
			w.breakOff(index, "; the rest of the array, from this event on, is lost")
			return
		}
		switch s.space() {
		case ',':
			s.pos++
		case ']':
			s.pos++
			w.arrayEnd()
			return
		default:
			s.broken("',' or ']'")
			w.breakOff(w.out.Events, "; the rest of the array, after the event before, is lost")
			w.out.Events++
			return
		}
	}
}

func (w *work) arrayEnd() {
	if w.s.space(); w.s.pos < w.s.end {
		w.s.broken("nothing more after the array")
		w.breakOff(w.out.Events, "")
		w.out.Events++
	}
}

// lines decodes events that stand one after another. A broken one ends where the next line begins with '{'.
func (w *work) lines() {
	s := w.s
	for {
		if s.space(); s.pos >= s.end {
			return
		}
		if !w.room() {
			return
		}
		index, start := w.out.Events, s.pos
		if w.element() {
			continue
		}
		next := nextLine(w.src.Value, start)
		if index == 0 && next == s.end {
			index = -1 // nothing else in the record
		}
		w.breakOff(index, "")
		copy(s.buf[next:], w.src.Value[next:]) // undo what was unescaped in place
		s.pos = next
	}
}

// nextLine finds the first line after position i that begins with '{', or the end. Lines that do not are taken for the
// rest of a broken event that was printed over several.
func nextLine(b []byte, i int) int {
	for {
		n := bytes.IndexByte(b[i:], '\n')
		if n < 0 {
			return len(b)
		}
		if i += n + 1; i < len(b) && b[i] == '{' {
			return i
		}
	}
}

// breakOff refuses the event at index because the bytes are not JSON.
func (w *work) breakOff(index int, consequence string) {
	s := w.s
	found := "the end"
	if s.pos < s.end {
		found = quoted(w.src.Value[s.pos:min(s.pos+16, s.end)])
	}
	w.refuseEvent(index, fault{ReasonBadJSON, "", fmt.Sprintf("not JSON at byte %d: want %s, got %s%s", s.pos, s.want, found, consequence)})
	s.want = ""
}

// element decodes one value in an event's place. It returns false when it is not JSON; its events, and
// their rejects for any other cause, are then not in the batch.
func (w *work) element() bool {
	s := w.s
	s.fault, s.field, s.seen = fault{}, "", 0
	if s.space() != '{' {
		index := w.out.Events
		w.out.Events++
		s.refuse(ReasonWrongType, "an event is a JSON object {…}")
		if !s.skip(1) {
			return false
		}
		w.refuseEvent(index, s.fault)
		return true
	}
	if w.src.Repeats != nil && w.repeat() {
		return true
	}
	if w.startsOTLP() {
		return w.otlpElement()
	}
	index, kept := w.out.Events, w.out.scratch.mark()
	w.out.Events++
	s.pos++
	var ok bool
	switch w.src.Signal {
	case Metrics:
		ok = w.metric(index)
	case Spans:
		ok = w.span(index)
	case Logs:
		ok = w.log(index)
	default:
		ok = s.broken("a signal this decoder knows")
	}
	if !ok {
		w.out.scratch.rewind(kept)
		return false
	}
	if s.fault.reason != "" {
		w.out.scratch.rewind(kept)
		w.refuseEvent(index, s.fault)
	}
	return true
}

// startsOTLP says whether the object at pos begins like an OTLP request. Such a request has no other field,
// so that looking at the first key is enough.
func (w *work) startsOTLP() bool {
	i := w.s.pos + 1
	for c := w.s.buf[i]; c == ' ' || c == '\n' || c == '\t' || c == '\r'; c = w.s.buf[i] {
		i++
	}
	rest := w.s.buf[i:w.s.end]
	if !bytes.HasPrefix(rest, []byte(`"resource`)) {
		return false
	}
	for _, key := range [...]string{`"resourceMetrics"`, `"resourceSpans"`, `"resourceLogs"`, `"resource_metrics"`, `"resource_spans"`, `"resource_logs"`} {
		if bytes.HasPrefix(rest, []byte(key)) {
			return true
		}
	}
	return false
}

// otlpElement decodes the OTLP request at pos.
func (w *work) otlpElement() bool {
	s := w.s
	start := s.pos
	s.maxDepth = 64 // its values may nest as they like; the library bounds them
	ok := s.skip(0)
	s.maxDepth = w.opts.MaxDepth
	if !ok {
		w.out.Events++
		return false
	}
	if s.fault.reason == ReasonTooDeep {
		w.refuseEvent(w.out.Events, s.fault)
		w.out.Events++
		return true
	}
	w.otlpJSON(w.src.Value[start:s.pos])
	return true
}

// Field bits of the three signals; those of the histogram are in histogram_json.go.
const (
	fieldTenant uint64 = 1 << iota
	fieldTime
	fieldStart
	fieldName
	fieldKind
	fieldValue
	fieldLabels
	fieldUnit
	fieldHelp
	fieldHistogram
	fieldService
	fieldDuration
	fieldStatus
	fieldStatusCode
	fieldRoute
	fieldPeer
	fieldTraceID
	fieldSpanID
	fieldParentID
	fieldSeverity
	fieldBody
	fieldAttributes
)

// metric decodes the metric event whose brace is behind pos.
func (w *work) metric(index int) bool {
	s, b := w.s, w.out
	start := s.pos - 1
	var time, value [2]int // where they stand
	b.Metrics = append(b.Metrics, Metric{})
	m := &b.Metrics[len(b.Metrics)-1]
	at := &s.memos.fields
	for first := true; ; first = false {
		key, more, ok := s.nextKey(first, &at)
		if !ok {
			b.Metrics = b.Metrics[:len(b.Metrics)-1]
			return false
		}
		if !more {
			break
		}
		switch key {
		case "tenant":
			s.enter("tenant", fieldTenant)
			ok = s.string(&m.Tenant)
		case "time":
			s.enter("time", fieldTime)
			time[0] = s.pos
			ok = s.time(&m.Time)
			time[1] = s.pos
		case "start":
			s.enter("start", fieldStart)
			ok = s.time(&m.Start)
		case "name":
			s.enter("name", fieldName)
			ok = s.string(&m.Name)
		case "kind":
			s.enter("kind", fieldKind)
			ok = w.kind(&m.Kind)
		case "value":
			s.enter("value", fieldValue)
			value[0] = s.pos
			ok = s.float(&m.Value)
			value[1] = s.pos
		case "labels":
			s.enter("labels", fieldLabels)
			ok = w.labels(&m.Labels)
		case "unit":
			s.enter("unit", fieldUnit)
			ok = s.string(&m.Unit)
		case "help":
			s.enter("help", fieldHelp)
			ok = s.string(&m.Help)
		case "histogram":
			s.enter("histogram", fieldHistogram)
			ok = w.histogram(&m.Histogram)
		default:
			ok = s.skip(1)
		}
		if !ok {
			b.Metrics = b.Metrics[:len(b.Metrics)-1]
			return false
		}
	}
	if w.endMetric(index) && m.Histogram == nil && w.src.Repeats != nil && !s.has(fieldStart) {
		w.learnable(m, start, time, value)
	}
	return true
}

// endMetric takes the last of the batch's metrics, whose fields have been read, or drops it and says false.
func (w *work) endMetric(index int) bool {
	b := w.out
	m := &b.Metrics[len(b.Metrics)-1]
	w.checkMetric(m)
	if w.s.fault.reason != "" {
		b.Metrics = b.Metrics[:len(b.Metrics)-1]
		return false
	}
	w.countNoTime()
	if m.Histogram != nil {
		w.countCoarse(m)
	}
	b.MetricIndex = append(b.MetricIndex, index)
	return true
}

func (w *work) countNoTime() {
	if !w.s.has(fieldTime) {
		w.out.NoTime++
	}
}

// checkMetric looks at the event as a whole, once all its fields are known.
func (w *work) checkMetric(m *Metric) {
	s := w.s
	m.Tenant = w.agree(m.Tenant)
	w.eventTime(&m.Time)
	w.required("name", m.Name)
	w.bounded("name", m.Name, w.opts.MaxName)
	w.bounded("unit", m.Unit, w.opts.MaxName)
	w.bounded("help", m.Help, w.opts.MaxValue)
	switch {
	case !s.has(fieldValue) && m.Histogram == nil:
		s.field = "value"
		s.refuse(ReasonMissing, "a metric needs a value (a number) or a histogram")
	case s.has(fieldValue) && m.Histogram != nil:
		s.field = "value"
		s.refuse(ReasonBadHistogram, "a metric has a value or a histogram, not both")
	}
}

// span decodes the span event whose brace is behind pos. Fields the contract does not know become attributes.
func (w *work) span(index int) bool {
	s, b := w.s, w.out
	b.Spans = append(b.Spans, Span{})
	p := &b.Spans[len(b.Spans)-1]
	attrs := w.attributes()
	at := &s.memos.fields
	for first := true; ; first = false {
		key, more, ok := s.nextKey(first, &at)
		if !ok {
			b.Spans = b.Spans[:len(b.Spans)-1]
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
			b.Spans = b.Spans[:len(b.Spans)-1]
			return false
		}
	}
	p.Attributes = attrs.sorted()
	w.endSpan(index)
	return true
}

// endSpan takes the last of the batch's spans, whose fields have been read, or drops it.
func (w *work) endSpan(index int) {
	b := w.out
	w.checkSpan(&b.Spans[len(b.Spans)-1])
	if w.s.fault.reason != "" {
		b.Spans = b.Spans[:len(b.Spans)-1]
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
		s.refuse(ReasonMissing, `a span needs a duration: in JSON seconds as a number, or a text such as "12ms"; in protobuf nanoseconds`)
	}
	w.bounded("service", p.Service, w.opts.MaxValue)
	w.bounded("name", p.Name, w.opts.MaxValue)
	w.bounded("route", p.Route, w.opts.MaxValue)
	w.bounded("peer", p.Peer, w.opts.MaxValue)
	w.boundedIDs(p.TraceID, p.SpanID, p.ParentID)
}

// log decodes the log event whose brace is behind pos. Fields the contract does not know become attributes.
func (w *work) log(index int) bool {
	s, b := w.s, w.out
	b.Logs = append(b.Logs, Log{})
	l := &b.Logs[len(b.Logs)-1]
	attrs := w.attributes()
	var severity string
	at := &s.memos.fields
	for first := true; ; first = false {
		key, more, ok := s.nextKey(first, &at)
		if !ok {
			b.Logs = b.Logs[:len(b.Logs)-1]
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
			b.Logs = b.Logs[:len(b.Logs)-1]
			return false
		}
	}
	l.Severity = severityOf(severity)
	l.Attributes = attrs.sorted()
	w.endLog(index)
	return true
}

// endLog takes the last of the batch's logs, whose fields have been read, or drops it.
func (w *work) endLog(index int) {
	b := w.out
	w.checkLog(&b.Logs[len(b.Logs)-1])
	if w.s.fault.reason != "" {
		b.Logs = b.Logs[:len(b.Logs)-1]
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

// null reads null, which is the same as leaving the field out.
func (s *scanner) null() bool {
	s.seen &^= s.bit
	return s.literal("null")
}

// other handles a value of another type than the one wanted.
func (s *scanner) other(c byte, want string) bool {
	if c == 'n' && s.buf[s.pos+1] == 'u' {
		return s.null()
	}
	start := s.pos
	if s.notFinite() {
		s.refuse(ReasonNotFinite, "NaN and infinities are no JSON numbers; leave the event out")
		return true
	}
	if !s.skip(1) {
		return false
	}
	s.refuse(ReasonWrongType, "want "+want+", got "+quoted(s.buf[start:s.pos]))
	return true
}

// string reads a text into dst.
func (s *scanner) string(dst *string) bool {
	c := s.space()
	if c != '"' {
		return s.other(c, "a text in quotes")
	}
	text, ok := s.text()
	*dst = view(text)
	return ok
}

// id reads a text into dst and turns A–F to lower case.
func (s *scanner) id(dst *string) bool {
	c := s.space()
	if c != '"' {
		return s.other(c, "a hexadecimal text in quotes")
	}
	text, ok := s.text()
	*dst = lowerHex(text)
	return ok
}

// lowerHex turns A–F to lower case, in place.
func lowerHex(text []byte) string {
	for i, c := range text {
		if c >= 'A' && c <= 'F' {
			text[i] = c | 0x20
		}
	}
	return view(text)
}

// word reads a text and looks it up.
func (s *scanner) word(dst *string, lookup func([]byte) string, list string) bool {
	c := s.space()
	if c != '"' {
		return s.other(c, "a text: "+list)
	}
	text, ok := s.text()
	if !ok {
		return false
	}
	if *dst = lookup(text); *dst == "" {
		s.refuse(ReasonUnknownWord, "want "+list+", got "+quoted(text))
	}
	return true
}

// kind reads a metric's kind.
func (w *work) kind(dst *Kind) bool {
	s := w.s
	c := s.space()
	if c != '"' {
		return s.other(c, "a text: "+kindList)
	}
	text, ok := s.text()
	if !ok {
		return false
	}
	kind, known := kindOf(text)
	if *dst = kind; !known {
		s.refuse(ReasonUnknownWord, "want "+kindList+", got "+quoted(text))
	}
	return true
}

// float reads a finite number into dst.
func (s *scanner) float(dst *float64) bool {
	c := s.space()
	if c == '"' {
		return s.floatInQuotes()
	}
	if c != '-' && c-'0' > 9 || c == '-' && s.buf[s.pos+1]-'0' > 9 {
		return s.other(c, "a number")
	}
	var n decimal
	if !s.number(&n) {
		return false
	}
	f, ok := n.float()
	if !ok {
		s.refuse(ReasonNumberRange, "the number is beyond ±1.8e308: "+quoted(n.raw))
		return true
	}
	*dst = f
	return true
}

// floatInQuotes refuses a text where a number belongs, and says so when it spells NaN or infinity.
func (s *scanner) floatInQuotes() bool {
	text, ok := s.text()
	if !ok {
		return false
	}
	if notFiniteWord(bytes.TrimLeft(text, "+-")) {
		s.refuse(ReasonNotFinite, "NaN and infinities cannot be summed; leave the event out")
	}
	s.refuse(ReasonWrongType, "want a number without quotes, got the text "+quoted(text))
	return true
}

// whole reads a whole number within limits.
func (s *scanner) whole(dst *int64, low, high int64) bool {
	f := math.NaN()
	if !s.float(&f) {
		return false
	}
	if math.IsNaN(f) { // null, or refused already
		return true
	}
	if f != math.Trunc(f) || f < float64(low) || f > float64(high) {
		s.refuse(ReasonNumberRange, fmt.Sprintf("want a whole number from %d to %d, got %v", low, high, f))
		return true
	}
	*dst = int64(f)
	return true
}

// statusCode reads an HTTP status; 0 means none.
func (s *scanner) statusCode(dst *int) bool {
	var code int64
	ok := s.whole(&code, 0, 599)
	*dst = s.httpStatus(code)
	return ok
}

func (s *scanner) httpStatus(code int64) int {
	if code != 0 && (code < 100 || code > 599) {
		s.refuse(ReasonNumberRange, "want an HTTP status from 100 to 599, got "+strconv.FormatInt(code, 10))
	}
	return int(code)
}

// time reads an RFC 3339 text or a Unix time into dst.
func (s *scanner) time(dst *int64) bool {
	c := s.space()
	var reason Reason
	start := s.pos
	switch {
	case c == '"':
		text, ok := s.text()
		if !ok {
			return false
		}
		if *dst, reason = s.cutter.clock.rfc3339(text); reason != "" {
			s.refuseTime(reason, text)
		}
		return true
	case c == '-' && s.buf[s.pos+1]-'0' <= 9, c-'0' <= 9:
		var n decimal
		if !s.number(&n) {
			return false
		}
		if *dst, reason = unixTime(&n); reason != "" {
			s.refuseTime(reason, s.buf[start:s.pos])
		}
		return true
	}
	return s.other(c, "a time: RFC 3339 in quotes, or a Unix time as a number")
}

func (s *scanner) refuseTime(reason Reason, text []byte) {
	switch reason {
	case ReasonTooOld:
		s.refuse(reason, "the time is before 1970: "+quoted(text))
	case ReasonTooNew:
		s.refuse(reason, "the time is after 2262-04-11: "+quoted(text))
	default:
		s.refuse(reason, "want RFC 3339 with a zone, as 2026-11-23T10:00:00.123Z, or a Unix time as a number; got "+quoted(text))
	}
}

// duration reads seconds as a number, or a text with a unit.
func (s *scanner) duration(dst *int64) bool {
	const want = `seconds as a number, or a text with ns, us, ms, s, m or h, such as "12ms"`
	c := s.space()
	start := s.pos
	var n decimal
	var ok bool
	switch {
	case c == '"':
		text, closed := s.text()
		if !closed {
			return false
		}
		*dst, ok = s.quotedDuration(&n, start+1, text)
	case c == '-' && s.buf[s.pos+1]-'0' <= 9, c-'0' <= 9:
		if !s.number(&n) {
			return false
		}
		*dst, ok = n.scaled(9)
	default:
		return s.other(c, want)
	}
	switch {
	case !ok:
		s.refuse(ReasonBadDuration, "want "+want+", at most 292 years; got "+quoted(s.buf[start:s.pos]))
	case n.neg && n.mant != 0:
		s.refuse(ReasonBadDuration, "the duration is negative: "+quoted(s.buf[start:s.pos]))
	}
	return true
}

// quotedDuration reads the text that was found at start: a number as JSON writes it, then the unit.
func (s *scanner) quotedDuration(n *decimal, start int, text []byte) (ns int64, ok bool) {
	after, stop := s.pos, start+len(text)
	s.pos = start
	ok = s.number(n) && s.pos < stop
	unit := s.buf[min(s.pos, stop):stop]
	s.pos, s.want = after, ""
	if !ok {
		return 0, false
	}
	return duration(n, unit)
}
