package events

import (
	"bytes"
	"encoding/binary"
	"math/bits"

	"github.com/vigie-io/vigie/pkg/series"
)

// unorderedReader reads a JSON event for a digest that is the same in whatever order its fields and labels come, and
// whatever fields it has that the contract does not know: the sum of the hashes of its fields, and of its labels, each
// with its value. Time and value are read, and not in it.
//
// Why two events with the same digest are of one series, if one was decoded in full: both hold the same fields and
// labels, each as often. The one that was decoded has none of them twice, so neither has the other, and which of them
// comes first makes no difference to an object. That they are cut as a parser cuts them is certain for what is written
// plainly alone: without escapes, every second quote ends a string. So that is all that is taken: no white space, no
// byte but of ASCII, and of what the contract does not know texts and numbers.
type unorderedReader struct {
	cutter *cutter
	event  *Repeat
	seed   uint64
	digest series.ID
	seen   uint64     // fields that may stand once, of those that stood
	asks   *candidate // nil for nothing but the digest

	b     []byte
	pos   int
	base  int    // of the 64 bytes at hand
	marks uint64 // of their quotes that were not passed, a bit each
	// odd has the highest bit of a byte set when one of those seen may not be in a string as it is, or is not ASCII.
	odd uint64
}

// unorderedSeed tells these digests from others.
func unorderedSeed(r *Repeats) uint64 { return r.seed ^ 0x9e3779b97f4a7c15 }

// labelSeed tells labels from fields.
const labelSeed = 0xc2b2ae3d27d4eb4f

// readUnordered reads the event that b is; ok is false when it is not written plainly, or not one that may be known. What it
// says of its series goes to asks, if that is not nil.
func (c *cutter) readUnordered(seed uint64, b []byte, e *Repeat, asks *candidate) (digest series.ID, noTime, ok bool) {
	u := unorderedReader{cutter: c, event: e, seed: seed, asks: asks, b: b, pos: 1, base: -64}
	ok = u.fields() && u.pos == len(b) && u.seen&fieldValue != 0 && u.isPlain()
	return u.digest, u.seen&fieldTime == 0, ok
}

func (u *unorderedReader) fields() bool {
	for {
		from := u.pos
		key, ok := u.key()
		if !ok {
			return false
		}
		switch string(key) {
		case "time":
			ok = u.once(fieldTime) && u.token(false)
		case "value":
			ok = u.once(fieldValue) && u.token(true)
		case "labels":
			ok = u.once(fieldLabels) && u.labels()
		case "tenant":
			ok = u.field(from, fieldTenant)
		case "name":
			ok = u.field(from, fieldName)
		case "kind":
			ok = u.field(from, fieldKind)
		case "unit":
			ok = u.field(from, fieldUnit)
		case "help":
			ok = u.field(from, fieldHelp)
		case "start", "histogram", "stale",
			"resourceMetrics", "resource_metrics", "resourceSpans", "resource_spans", "resourceLogs", "resource_logs":
			return false
		default:
			ok = u.unknown()
		}
		if !ok {
			return false
		}
		if more, ok := u.more(); !more {
			return ok
		}
	}
}

// field takes a text whose key begins at from.
func (u *unorderedReader) field(from int, bit uint64) bool {
	text, ok := u.string()
	if !ok || !u.once(bit) {
		return false
	}
	hash := u.add(u.b[from:u.pos], u.seed)
	if u.asks != nil {
		u.asks.field(bit, text, hash)
	}
	return true
}

func (u *unorderedReader) labels() bool {
	if u.at() != '{' {
		return false
	}
	if u.pos++; u.at() == '}' {
		u.pos++
		return true
	}
	for {
		from := u.pos
		name, named := u.key()
		value, ok := u.string()
		if !named || !ok {
			return false
		}
		hash := u.add(u.b[from:u.pos], u.seed^labelSeed)
		if u.asks != nil {
			u.asks.label(name, value, hash)
		}
		if more, ok := u.more(); !more {
			return ok
		}
	}
}

// once notes a field and says whether it is the first.
func (u *unorderedReader) once(bit uint64) (first bool) {
	first = u.seen&bit == 0
	u.seen |= bit
	return first
}

func (u *unorderedReader) add(pair []byte, seed uint64) (hash uint64) {
	return addHash(&u.digest, pair, seed)
}

// addHash adds the hash of a field or label to a digest that does not depend on their order, and returns half of it.
func addHash(digest *series.ID, field []byte, seed uint64) (hash uint64) {
	h := series.HashSeeded(field, seed)
	// A sum, for by exclusive or what stands twice would be as if it were not there.
	digest.Hi += h.Hi
	digest.Lo += h.Lo
	return h.Lo
}

// at is the byte at pos, 0 at the end.
func (u *unorderedReader) at() byte {
	if u.pos >= len(u.b) {
		return 0
	}
	return u.b[u.pos]
}

// more passes what stands behind a value, and says whether another follows in the same object.
func (u *unorderedReader) more() (more, ok bool) {
	c := u.at()
	u.pos++
	return c == ',', c == '}'
}

// string passes the string at pos.
func (u *unorderedReader) string() (text []byte, ok bool) {
	from, to := u.quote(), u.quote()
	if from != u.pos || to >= len(u.b) {
		return nil, false
	}
	u.pos = to + 1
	return u.b[from+1 : to], true
}

func (u *unorderedReader) key() (key []byte, ok bool) {
	key, ok = u.string()
	ok = ok && u.at() == ':'
	u.pos++
	return key, ok
}

func (u *unorderedReader) text() bool {
	_, ok := u.string()
	return ok
}

// token reads the value or the time at pos.
func (u *unorderedReader) token(value bool) bool {
	if from := u.pos; u.at() == '"' {
		return !value && u.text() && u.cutter.token(u.b, from, value, u.event) == u.pos
	}
	u.pos = u.cutter.token(u.b, u.pos, value, u.event)
	return u.pos > 0
}

// unknown passes the value of a field that the contract does not know.
func (u *unorderedReader) unknown() bool {
	if u.at() == '"' {
		return u.text()
	}
	var n decimal
	if u.pos > len(u.b) || n.read(u.b[u.pos:]) != "" {
		return false
	}
	u.pos += len(n.raw)
	return true
}

// quote is where the next quote is; the end or beyond when there is none.
func (u *unorderedReader) quote() (at int) {
	for u.marks == 0 {
		if !u.next() {
			return len(u.b)
		}
	}
	at = u.base + bits.TrailingZeros64(u.marks)
	u.marks &= u.marks - 1
	return at
}

// isPlain looks at the bytes that are left, and says whether all are plain.
func (u *unorderedReader) isPlain() bool {
	for u.next() {
	}
	return u.odd&highs == 0
}

// next goes on to the next 64 bytes, if there are any.
func (u *unorderedReader) next() bool {
	if u.base += 64; u.base >= len(u.b) {
		return false
	}
	if b := u.b[u.base:]; len(b) >= 64 {
		u.marks = u.look(b)
	} else {
		last := spaces64
		copy(last[:], b)
		u.marks = u.look(last[:])
	}
	return true
}

var spaces64 = [64]byte(bytes.Repeat([]byte{' '}, 64))

// look notes whether the first 64 bytes of b are plain, and marks those that are quotes.
func (u *unorderedReader) look(b []byte) (quotes uint64) {
	b = b[:64]
	for i := 0; i < 64; i += 8 {
		w := binary.LittleEndian.Uint64(b[i:])
		quote, slash := w^'"'*ones, w^'\\'*ones
		u.odd |= w | (w - ' '*ones) | (slash-ones)&^slash
		quote = ^((quote&^highs + ^uint64(highs)) | quote) & highs // in the high bit of each byte, and of no other
		quotes |= quote * 0x0002040810204081 >> 56 << i            // gathered in the highest eight bits
	}
	return quotes
}
