package events

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"
	"unsafe"

	"github.com/vigie-io/vigie/pkg/series"
)

// pad is how many zero bytes follow the record in scanner.buf: a zero ends every token, so no loop needs a
// bounds check of its own, and eight of them let words be loaded up to the end.
const pad = 8

// fault is the first thing that was wrong with an event. Scanning goes on after it, because what follows
// the event is somebody else's.
type fault struct {
	reason Reason
	field  string
	detail string
}

// scanner reads JSON (RFC 8259) from its own copy of a record. Texts it returns are views of that copy;
// escapes are undone in place, where the text always shrinks.
//
// Its methods return false when the bytes are not JSON and the position is lost. What is JSON but not
// what the contract wants is a fault, and scanning goes on.
type scanner struct {
	buf      []byte
	end      int
	pos      int
	maxDepth int

	field string // the contract's field being read, for faults
	bit   uint64 // its bit in seen
	seen  uint64 // fields of this object that had a value
	fault fault
	want  string // after false: what should have stood at pos

	keys   *Keys
	ranks  []uint64       // of the labels at hand
	given  []series.Label // the same before they are sorted
	cutter cutter

	digests    []series.ID // of the data points of an OTLP request
	points     []otlpPoint // which these are
	request    []byte      // what pdata has to decode of it
	instrument instrument
	attributes []series.Label
	fetched    uint64 // of no meaning: what is read ahead has to go somewhere
}

func (s *scanner) load(record []byte) {
	if cap(s.buf) > keepBytes && len(record) < keepBytes/4 {
		s.buf = nil
	}
	s.buf = append(s.buf[:0], record...)
	s.buf = append(s.buf, make([]byte, pad)...)
	s.end, s.pos = len(record), 0
	s.field, s.seen, s.fault, s.want = "", 0, fault{}, ""
	if s.keys == nil {
		s.keys = new(Keys)
	}
}

// refuse notes a fault of the current field, unless the event has one already.
func (s *scanner) refuse(reason Reason, detail string) {
	if s.fault.reason == "" {
		s.fault = fault{reason, s.field, detail}
	}
}

// enter begins a field of the contract.
func (s *scanner) enter(field string, bit uint64) {
	s.field, s.bit = field, bit
	if s.seen&bit != 0 {
		s.refuse(ReasonDuplicateField, "the field stands twice in one object; leave one")
	}
	s.seen |= bit
}

func (s *scanner) has(bit uint64) bool { return s.seen&bit != 0 }

func (s *scanner) broken(want string) bool {
	s.want = want
	return false
}

// space skips white space and returns the byte after it, 0 at the end of the record.
func (s *scanner) space() byte {
	for {
		c := s.buf[s.pos]
		if c > ' ' || c != ' ' && c != '\n' && c != '\t' && c != '\r' {
			return c
		}
		s.pos++
	}
}

// nextKey goes to the next value of an object and returns its key; more is false at the closing brace.
// first is true right after the opening brace. The memo at, where there is one, moves on with the key; it
// becomes nil where the key is not remembered.
func (s *scanner) nextKey(first bool, at **memo) (key string, more, ok bool) {
	if *at != nil { // the common case: no white space, and a remembered key
		pos := s.pos
		if !first && s.buf[pos] == ',' {
			pos++
		}
		if n := (*at).find(s.buf[pos:]); n != nil && (first || pos > s.pos) {
			s.pos = pos + len(n.token)
			*at = n
			return n.key, true, true
		}
	}
	c := s.space()
	switch {
	case c == '}':
		s.pos++
		return "", false, true
	case first:
	case c == ',':
		s.pos++
		c = s.space()
	default:
		return "", false, s.broken("',' or '}'")
	}
	if *at != nil {
		// White space before the key: it may be remembered all the same.
		if n := (*at).find(s.buf[s.pos:]); n != nil {
			s.pos += len(n.token)
			*at = n
			return n.key, true, true
		}
	}
	return s.newKey(c, at)
}

// newKey reads a key that is not remembered, and remembers it when it is written plainly.
func (s *scanner) newKey(c byte, at **memo) (key string, more, ok bool) {
	if c != '"' {
		return "", false, s.broken("a field name in quotes")
	}
	s.field = ""
	start := s.pos
	text, ok := s.text()
	plain := s.pos-start == len(text)+2
	if !ok || !s.colon() {
		return "", false, false
	}
	if *at != nil {
		token := s.buf[start:s.pos]
		if plain && len(token) == len(text)+3 && s.fault.reason == "" {
			*at = (*at).follow(token)
		} else {
			*at = nil
		}
	}
	return view(text), true, true
}

func (s *scanner) colon() bool {
	if s.space() != ':' {
		return s.broken("':'")
	}
	s.pos++
	return true
}

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// special marks, in the high bit of each byte, the first byte of w that a string cannot hold as it is: a
// quote, a backslash or a control character. Marks above the first may be false (a borrow), so only the
// lowest counts.
func special(w uint64) uint64 {
	quote, slash := w^('"'*ones), w^('\\'*ones)
	return ((w-0x20*ones)&^w | (quote-ones)&^quote | (slash-ones)&^slash) & highs
}

// text reads the string whose opening quote is at pos.
func (s *scanner) text() (text []byte, ok bool) {
	start := s.pos + 1
	i, high := start, uint64(0)
	for {
		w := binary.LittleEndian.Uint64(s.buf[i:])
		if m := special(w); m != 0 {
			at := bits.TrailingZeros64(m) >> 3
			high |= w & (1<<(8*at) - 1)
			i += at
			break
		}
		high |= w
		i += 8
	}
	stop := i
	switch s.buf[i] {
	case '"':
		s.pos = i + 1
	case '\\':
		if stop, ok = s.unescape(i); !ok {
			return nil, false
		}
		high = highs // the rest was not looked at
	default:
		s.pos = i
		return nil, s.broken("a closing quote (control characters in a string are written \\u00XX)")
	}
	text = s.buf[start:stop]
	if high&highs != 0 && !utf8.Valid(text) {
		s.refuse(ReasonInvalidUTF8, "the text is not UTF-8: "+quoted(text))
	}
	return text, true
}

// unescape reads on from the first backslash of a string, moving bytes down over the escapes. It returns
// where the text ends; pos is behind the closing quote.
func (s *scanner) unescape(i int) (stop int, ok bool) {
	out := i
	for {
		c := s.buf[i]
		switch {
		case c == '"':
			s.pos = i + 1
			return out, true
		case c < ' ':
			s.pos = i
			return 0, s.broken("a closing quote (control characters in a string are written \\u00XX)")
		case c != '\\':
			n := s.plain(out, i)
			out, i = out+n, i+n
			continue
		}
		switch c := s.buf[i+1]; c {
		case '"', '\\', '/':
			s.buf[out] = c
		case 'b':
			s.buf[out] = '\b'
		case 'f':
			s.buf[out] = '\f'
		case 'n':
			s.buf[out] = '\n'
		case 'r':
			s.buf[out] = '\r'
		case 't':
			s.buf[out] = '\t'
		case 'u':
			r, size := s.escapedRune(i)
			if size == 0 {
				s.pos = i
				return 0, s.broken("four hexadecimal digits after \\u")
			}
			out += utf8.EncodeRune(s.buf[out:i+size], r)
			i += size
			continue
		default:
			s.pos = i
			return 0, s.broken(`one of "\/bfnrtu after a backslash`)
		}
		out++
		i += 2
	}
}

// plain moves bytes that a string holds as they are, eight at most and one at least, from i down to out, and returns
// how many.
func (s *scanner) plain(out, i int) (n int) {
	w := binary.LittleEndian.Uint64(s.buf[i:])
	if m := special(w); m != 0 {
		n = bits.TrailingZeros64(m) >> 3
		copy(s.buf[out:], s.buf[i:i+n])
		return n
	}
	binary.LittleEndian.PutUint64(s.buf[out:], w)
	return 8
}

// escapedRune reads \uXXXX, or a surrogate pair of two, at i; size is 0 when digits are wrong.
func (s *scanner) escapedRune(i int) (r rune, size int) {
	r = hex4(s.buf[i+2:])
	if r < 0 {
		return 0, 0
	}
	if !utf16.IsSurrogate(r) {
		return r, 6
	}
	// The second half's digits lie within the record, or the bytes before them are not \u.
	if s.buf[i+6] == '\\' && s.buf[i+7] == 'u' {
		if low := hex4(s.buf[i+8:]); low >= 0 {
			if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
				return pair, 12
			}
		}
	}
	s.refuse(ReasonInvalidUTF8, "a \\u escape is half a surrogate pair; write both halves, or the character itself")
	return utf8.RuneError, 6
}

func hex4(b []byte) rune {
	if len(b) < 4 {
		return -1
	}
	r := rune(0)
	for _, c := range b[:4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return -1
		}
		r = r<<4 | rune(c)
	}
	return r
}

// skip passes over one value of any type without touching it. depth is how deep the value stands.
func (s *scanner) skip(depth int) bool {
	var objects uint64 // one bit a level, the innermost lowest: is it an object?
	base := depth
	for {
		switch c := s.space(); c {
		case '{', '[':
			if depth >= s.maxDepth {
				s.refuse(ReasonTooDeep, "nested too deep; flatten the value or send it as text")
				if !s.skipBrackets() {
					return false
				}
				break
			}
			s.pos++
			if s.space() == c+2 { // ASCII: '{'+2 is '}', '['+2 is ']'
				s.pos++
				break
			}
			depth++
			objects <<= 1
			if c == '{' {
				objects |= 1
				if !s.skipKey() {
					return false
				}
			}
			continue
		case '"':
			if !s.skipText() {
				return false
			}
		default:
			if !s.skipScalar(c) {
				return false
			}
		}
		if more, ok := s.skipClosers(&depth, &objects, base); !more {
			return ok
		}
	}
}

// skipClosers goes from the end of one value to the beginning of the next inside the brackets skip opened.
func (s *scanner) skipClosers(depth *int, objects *uint64, base int) (more, ok bool) {
	for *depth > base {
		closer := byte(']')
		if *objects&1 != 0 {
			closer = '}'
		}
		switch s.space() {
		case closer:
			s.pos++
			*depth--
			*objects >>= 1
		case ',':
			s.pos++
			ok = closer == ']' || s.space() == '"' && s.skipKey()
			if !ok && s.want == "" {
				s.broken("a field name in quotes")
			}
			return ok, ok
		default:
			return false, s.broken("',' or '" + string(closer) + "'")
		}
	}
	return false, true
}

func (s *scanner) skipKey() bool {
	if s.space() != '"' {
		return s.broken("a field name in quotes")
	}
	return s.skipText() && s.colon()
}

func (s *scanner) skipText() bool {
	i := s.pos + 1
	for {
		for {
			m := special(binary.LittleEndian.Uint64(s.buf[i:]))
			if m != 0 {
				i += bits.TrailingZeros64(m) >> 3
				break
			}
			i += 8
		}
		switch s.buf[i] {
		case '"':
			s.pos = i + 1
			return true
		case '\\':
			switch s.buf[i+1] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
				i += 2
				continue
			case 'u':
				if hex4(s.buf[i+2:]) >= 0 {
					i += 6
					continue
				}
			}
			s.pos = i
			return s.broken("a known escape after the backslash")
		default:
			s.pos = i
			return s.broken("a closing quote (control characters in a string are written \\u00XX)")
		}
	}
}

func (s *scanner) skipScalar(c byte) bool {
	switch c {
	case 't':
		return s.literal("true")
	case 'f':
		return s.literal("false")
	case 'n':
		if s.buf[s.pos+1] == 'u' {
			return s.literal("null")
		}
	}
	if s.notFinite() {
		s.refuse(ReasonNotFinite, "NaN and infinities are no JSON numbers and cannot be summed; leave the event out")
		return true
	}
	var n decimal
	return s.number(&n)
}

// skipBrackets passes over what is nested too deep: strings are respected, brackets are counted, nothing
// else is looked at.
func (s *scanner) skipBrackets() bool {
	for open := 0; ; {
		switch s.buf[s.pos] {
		case '{', '[':
			open++
		case '}', ']':
			if open--; open == 0 {
				s.pos++
				return true
			}
		case '"':
			if !s.skipText() {
				return false
			}
			continue
		case 0:
			if s.pos >= s.end {
				return s.broken("a closing bracket")
			}
		}
		s.pos++
	}
}

func (s *scanner) literal(word string) bool {
	if s.pos+len(word) > s.end || string(s.buf[s.pos:s.pos+len(word)]) != word {
		return s.broken(word)
	}
	s.pos += len(word)
	return true
}

// notFinite consumes a bare NaN, Infinity or inf, signed or not, in any case: Python and JavaScript
// libraries write them, and they must cost one event, not the array.
func (s *scanner) notFinite() bool {
	i := s.pos
	if c := s.buf[i]; c == '-' || c == '+' {
		i++
	}
	stop := i
	for c := s.buf[stop] | 0x20; c >= 'a' && c <= 'z'; c = s.buf[stop] | 0x20 {
		stop++
	}
	if !notFiniteWord(s.buf[i:stop]) {
		return false
	}
	s.pos = stop
	return true
}

// notFiniteWord says whether text (without sign) is a spelling of NaN or infinity.
func notFiniteWord(text []byte) bool {
	var lower [8]byte
	if len(text) < 3 || len(text) > len(lower) {
		return false
	}
	for i, c := range text {
		lower[i] = c | 0x20
	}
	switch string(lower[:len(text)]) {
	case "nan", "inf", "infinity":
		return true
	}
	return false
}

// view is the string over bytes that belong to the batch: it changes when the batch is decoded into again.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
