package events

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
)

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
	s.refuse(ReasonWrongType, "want "+want+", got "+asJSON(s.buf[start:s.pos]))
	return true
}

// boolean reads true or false.
func (s *scanner) boolean(dst *bool) bool {
	switch c := s.space(); c {
	case 't':
		*dst = true
		return s.literal("true")
	case 'f':
		return s.literal("false")
	default:
		return s.other(c, "true or false")
	}
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
		s.refuse(ReasonBadDuration, "want "+want+", at most 292 years; got "+asJSON(s.buf[start:s.pos]))
	case n.neg && n.mant != 0:
		s.refuse(ReasonBadDuration, "the duration is negative: "+asJSON(s.buf[start:s.pos]))
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
