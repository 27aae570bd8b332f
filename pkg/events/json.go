package events

import (
	"bytes"
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
	text := strconv.AppendInt(append(make([]byte, 0, 128), "not JSON at byte "...), int64(s.pos), 10)
	text = append(append(append(text, ": want "...), s.want...), ", got "...)
	if s.pos < s.end {
		text = strconv.AppendQuoteToASCII(text, string(w.src.Value[s.pos:min(s.pos+16, s.end)]))
	} else {
		text = append(text, "the end"...)
	}
	w.refuseEvent(index, fault{ReasonBadJSON, "", view(append(text, consequence...))})
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
		w.out.rewind(kept)
		return false
	}
	if s.fault.reason != "" {
		w.out.rewind(kept)
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
	for _, key := range [...]string{
		`"resourceMetrics"`, `"resourceSpans"`, `"resourceLogs"`, `"resource_metrics"`, `"resource_spans"`, `"resource_logs"`,
	} {
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

// Field bits of the three signals; those of the histogram are in histogram.go.
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
	fieldStale
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

func (w *work) countNoTime() {
	if !w.s.has(fieldTime) {
		w.out.NoTime++
	}
}
