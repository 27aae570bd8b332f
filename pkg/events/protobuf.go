package events

import (
	"fmt"
	"unicode/utf8"

	"github.com/vigie-io/vigie/pkg/series"
)

// Fields of vigie.v1.Events, one of which each event is. They have tags of one byte, and none that OTLP's requests
// begin with.
const (
	eventsMetric = 2<<3 | wireBytes
	eventsSpan   = 3<<3 | wireBytes
	eventsLog    = 4<<3 | wireBytes
)

// eventsTag is the field for events of a signal.
func eventsTag(s Signal) uint64 {
	switch s {
	case Metrics:
		return eventsMetric
	case Spans:
		return eventsSpan
	case Logs:
		return eventsLog
	}
	return 0
}

// startsEvents says whether a message of protobuf is a vigie.v1.Events, and no OTLP request.
func startsEvents(b []byte) bool {
	return len(b) > 0 && b[0] >= eventsMetric && b[0] <= eventsLog && b[0]&7 == wireBytes
}

// isEvents says whether b is framed as a vigie.v1.Events to its last byte. No JSON that is an event is: it would begin
// with a quote or a control character.
func isEvents(b []byte) bool {
	if !startsEvents(b) {
		return false
	}
	for len(b) > 0 {
		if f, ok := cutField(&b); !ok || f.wire() != wireBytes {
			return false
		}
	}
	return true
}

// protobuf decodes a vigie.v1.Events. Each event is framed, so that a broken one costs itself; where the frames break,
// what came before is kept and the rest is one reject.
func (w *work) protobuf() {
	b, loaded := w.src.Value, false
	for rest := b; len(rest) > 0; {
		if !w.room() {
			return
		}
		at := len(b) - len(rest)
		f, ok := cutField(&rest)
		if !ok {
			index := w.out.Events
			if index == 0 {
				index = -1 // nothing else in the record
			}
			w.out.Events++
			w.refuseEvent(index,
				fault{ReasonBadProtobuf, "",
					fmt.Sprintf("not a vigie.v1.Events at byte %d; the rest of the record, from there on, is lost", at)})
			return
		}
		if f.tag == eventsMetric && w.src.Repeats != nil && w.repeatMessage(f.bytes, len(rest) == 0) {
			continue
		}
		if !loaded {
			w.s.load(b)
			loaded = true
		}
		end := len(b) - len(rest)
		w.message(f.tag, w.s.buf[end-len(f.bytes):end])
	}
}

// message decodes one event.
func (w *work) message(tag uint64, e []byte) {
	s := w.s
	index, kept := w.out.Events, w.out.scratch.mark()
	w.out.Events++
	s.fault, s.field, s.seen = fault{}, "", 0
	switch {
	case tag != eventsTag(w.src.Signal):
		s.refuse(ReasonWrongSignal,
			fmt.Sprintf("field %d of vigie.v1.Events where %s belong; send it to its own topic or path", tag>>3, w.src.Signal))
	case tag == eventsMetric:
		w.metricMessage(index, e)
	case tag == eventsSpan:
		w.spanMessage(index, e)
	default:
		w.logMessage(index, e)
	}
	if s.fault.reason != "" {
		w.out.rewind(kept)
		w.refuseEvent(index, s.fault)
	}
}

// fields reads the fields of a message one after the other.
type fields struct {
	wireField
	rest []byte
}

// short goes to the next field if it is such as most are: bytes, less than 128 of them, of a number below 16.
func (f *fields) short() bool {
	b := f.rest
	if len(b) < 2 || b[0]&0x87 != wireBytes || b[0] < 1<<3 || b[1] >= 0x80 || int(b[1]) > len(b)-2 {
		return false
	}
	end := 2 + int(b[1])
	f.tag, f.value, f.bytes, f.rest = uint64(b[0]), 0, b[2:end], b[end:]
	return true
}

// next goes to the next field. At one that is broken it refuses the event, whatever else was wrong with it.
func (s *scanner) next(f *fields) bool {
	if len(f.rest) == 0 {
		return false
	}
	if f.short() {
		return true
	}
	var ok bool
	if f.wireField, ok = cutField(&f.rest); !ok {
		s.fault = fault{ReasonBadProtobuf, s.field, "the message breaks off or is damaged; nothing of the event is taken"}
	}
	return ok
}

// is says whether the field has the wire type that the contract gives it, and begins it.
func (s *scanner) is(f *fields, wire int, name string, bit uint64) bool {
	s.enter(name, bit)
	return s.hasWire(f, wire)
}

func (s *scanner) hasWire(f *fields, wire int) bool {
	if f.wire() != wire {
		s.refuse(ReasonWrongType, fmt.Sprintf("want wire type %d, got %d; compile vigie/v1/events.proto", wire, f.wire()))
		return false
	}
	return true
}

// textField reads a text.
func (s *scanner) textField(f *fields, name string, bit uint64, dst *string) {
	if s.is(f, wireBytes, name, bit) {
		*dst = s.utf8(f.bytes)
	}
}

func (s *scanner) idField(f *fields, name string, bit uint64, dst *string) {
	if s.is(f, wireBytes, name, bit) {
		_ = s.utf8(f.bytes)
		*dst = lowerHex(f.bytes)
	}
}

func (s *scanner) utf8(text []byte) string {
	if !utf8.Valid(text) {
		s.refuse(ReasonInvalidUTF8, "the text is not UTF-8: "+quoted(text))
	}
	return view(text)
}

// timeField reads a Unix time; 0 is the same as leaving it out.
func (s *scanner) timeField(f *fields, name string, bit uint64, dst *int64) {
	if !s.is(f, wireFixed64, name, bit) {
		return
	}
	if f.value == 0 {
		s.seen &^= bit
		return
	}
	var reason Reason
	if *dst, reason = wholeTime(int64(f.value)); reason != "" {
		s.refuseTime(reason, fmt.Append(nil, int64(f.value)))
	}
}

// doubleField reads a finite number.
func (s *scanner) doubleField(f *fields, name string, bit uint64, dst *float64) {
	if s.is(f, wireFixed64, name, bit) {
		*dst = s.finite(f.double())
	}
}

func (s *scanner) finite(v float64) float64 {
	if v-v != 0 {
		s.refuse(ReasonNotFinite, "NaN and infinities cannot be summed; leave the event out")
		return 0
	}
	return v
}

// enumField reads a number that stands for a word.
func (s *scanner) enumField(f *fields, name string, bit uint64, words []string) (word string) {
	if !s.is(f, wireVarint, name, bit) {
		return ""
	}
	if n := int32(f.value); n >= 0 && int(n) < len(words) {
		return words[n]
	}
	s.refuse(ReasonUnknownWord, fmt.Sprintf("want a number from 0 to %d, got %d", len(words)-1, int32(f.value)))
	return ""
}

// label reads a message of a name and a value.
func (w *work) label(f *fields, field string) (l series.Label, ok bool) {
	s := w.s
	if s.field = field; !s.hasWire(f, wireBytes) {
		return l, false
	}
	if name, value, ok := plainLabel(f.bytes); ok {
		l.Name, l.Value = s.utf8(name), s.utf8(value)
		return l, s.fault.reason == ""
	}
	hasName, hasValue := false, false
	for inner := (fields{rest: f.bytes}); s.next(&inner); {
		twice := false
		switch inner.tag {
		case 1<<3 | wireBytes:
			l.Name, hasName, twice = s.utf8(inner.bytes), true, hasName
		case 2<<3 | wireBytes:
			l.Value, hasValue, twice = s.utf8(inner.bytes), true, hasValue
		case 1<<3 | wireVarint, 1<<3 | wireFixed64, 1<<3 | wireFixed32, 2<<3 | wireVarint, 2<<3 | wireFixed64, 2<<3 | wireFixed32:
			s.hasWire(&inner, wireBytes)
		}
		if twice {
			s.refuse(ReasonDuplicateField, "a label has its name or value twice")
		}
	}
	return l, s.fault.reason == ""
}

// plainLabel reads a label as most are: a name and a value, of less than 128 bytes each, in the order of their numbers.
func plainLabel(b []byte) (name, value []byte, ok bool) {
	if len(b) < 4 || b[0] != 1<<3|wireBytes || b[1] >= 0x80 {
		return nil, nil, false
	}
	end := 2 + int(b[1])
	if end+2 > len(b) || b[end] != 2<<3|wireBytes || b[end+1] >= 0x80 || end+2+int(b[end+1]) != len(b) {
		return nil, nil, false
	}
	return b[2:end], b[end+2:], true
}

// attribute adds an attribute of a span or log.
func (a attributeReader) attribute(f *fields) {
	if l, ok := a.w.label(f, "attributes"); ok {
		a.add(l.Name, l.Value)
	}
}
