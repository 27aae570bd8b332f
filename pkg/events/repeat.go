package events

import (
	"bytes"
	"encoding/binary"
	"math/bits"

	"github.com/vigie-io/vigie/pkg/series"
)

// Repeat is a metric event that says what an earlier one said, but for its time and its value.
type Repeat struct {
	Index int // of the event in its record
	Time  int64
	Value float64
	Ref   uint32 // what the earlier event was learned as
}

// Repeats knows metric events again by their bytes: where two JSON events differ in nothing but the tokens of time and
// value, they are of one series, and the second need not be taken apart. It is for the events of one tenant and one
// Decoder. The caller learns what Decode gave it in full, under a number of its own, and finds it in Batch.Repeats when it
// comes again.
//
// Why that is right: let an event that was decoded in full be the bytes A T B V C, T and V the tokens of time and value. In
// A T' B V' C a parser is at the end of A in the same state, takes the longest token as before, and goes on as before. So
// all that it finds beside time and value is equal, wherever the guess of how to cut the bytes came from.
//
// Events are told apart by 96 bits of a seeded hash, and not by comparing bytes: with a seed that producers do not know, a
// wrong answer among 10^12 different events and 10^6 known is less likely than 10^-10. It is a cache: forgetting any of it changes no
// result. Not safe for concurrent use.
type Repeats struct {
	seed uint64
	most int         // sets
	sets []repeatSet // a power of two
	used int
}

// repeatSet is one of the two places where an event may be known: two cache lines. Slots fill from the first on.
type repeatSet [8]repeatSlot

// repeatSlot is vacant when ref is 0; refs are kept plus one.
type repeatSlot struct {
	low  uint64
	high uint32
	ref  uint32
}

// NewRepeats returns an empty cache of at least limit and less than four times as many events, of which 32 bytes each are
// taken in the mean. The seed should be random.
func NewRepeats(seed uint64, limit int) *Repeats {
	sets := 1
	for sets*len(repeatSet{})/2 < limit && sets < 1<<27 {
		sets *= 2
	}
	return &Repeats{seed: seed, most: sets}
}

// Len is the number of events known.
func (r *Repeats) Len() int { return r.used }

// Learn says that events with the digest of a decoded Metric, which is not zero, are ref to the caller, below 2^32-1. It may
// forget another event.
func (r *Repeats) Learn(digest series.ID, ref uint32) {
	if r.used >= len(r.sets)*len(repeatSet{})/2 && len(r.sets) < r.most {
		r.rebuild(max(1, 2*len(r.sets)), func(uint32) bool { return true })
	}
	r.place(repeatSlot{digest.Lo, uint32(digest.Hi), ref + 1})
}

// Forget drops all events whose number gone confirms.
func (r *Repeats) Forget(gone func(ref uint32) bool) {
	r.rebuild(len(r.sets), func(ref uint32) bool { return !gone(ref) })
}

func (r *Repeats) rebuild(sets int, keep func(ref uint32) bool) {
	old := r.sets
	r.sets, r.used = make([]repeatSet, sets), 0
	for i := range old {
		for _, s := range old[i] {
			if s.ref != 0 && keep(s.ref-1) {
				r.place(s)
			}
		}
	}
}

// place puts s into the first vacant slot of its set, of the other one when that is full, or else in the place of another.
func (r *Repeats) place(s repeatSlot) {
	home, other := r.setsOf(s.low)
	if r.placeIn(home, s) || r.placeIn(other, s) {
		return
	}
	home[s.high%uint32(len(home))] = s
}

func (r *Repeats) placeIn(set *repeatSet, s repeatSlot) bool {
	for i := range set {
		at := &set[i]
		if at.ref == 0 {
			r.used++
		}
		if at.ref == 0 || at.low == s.low && at.high == s.high {
			*at = s
			return true
		}
	}
	return false
}

// setsOf are where a hash may be: in the other only when the first is full. With one set alone, one in 200 would be lost at the
// fullest, and with it nearly every second OTLP request of 100 data points.
func (r *Repeats) setsOf(low uint64) (home, other *repeatSet) {
	mask := uint64(len(r.sets) - 1)
	return &r.sets[low&mask], &r.sets[bits.RotateLeft64(low, 32)&mask]
}

func (r *Repeats) find(digest series.ID) (ref uint32, ok bool) {
	if r.used == 0 {
		return 0, false
	}
	home, other := r.setsOf(digest.Lo)
	if ref, ok = home.find(digest); ok || home[len(home)-1].ref == 0 {
		return ref, ok
	}
	return other.find(digest)
}

func (set *repeatSet) find(digest series.ID) (ref uint32, ok bool) {
	for i := range set {
		if s := &set[i]; s.low == digest.Lo && s.high == uint32(digest.Hi) && s.ref != 0 {
			return s.ref - 1, true
		}
	}
	return 0, false
}

// cut is how the bytes of an event, [start, end) of the record, are cut: the first of time and value stands in [first,
// afterFirst), the other in [second, afterSecond).
type cut struct {
	start, first, afterFirst, second, afterSecond, end int
}

// layout is where the last events had the two, by which the next are cut: bytes before the first, and between them.
type layout struct {
	head, gap  int32
	valueFirst bool
}

const (
	timeKey  = `"time":`
	valueKey = `"value":`
	// repeatReach is how many bytes of an event are searched for the keys.
	repeatReach = 1 << 10
)

// repeat passes over the event at pos when it is known, and puts it into the batch. Otherwise the scanner is as before.
func (w *work) repeat() bool {
	s, r := w.s, w.src.Repeats
	start := s.pos
	var e Repeat
	var c cut
	if c.start = start; s.guess(&c, &e) {
		if ref, ok := r.find(w.digest(&c)); ok {
			e.Index, e.Ref = w.out.Events, ref
			w.out.Events++
			w.out.Repeats = append(w.out.Repeats, e)
			s.pos = c.end
			return true
		}
	}
	s.pos, s.want = start, ""
	return false
}

// guess cuts the event that begins at c.start and reads its time and value.
func (s *scanner) guess(c *cut, e *Repeat) bool {
	for i := range s.layouts {
		l := &s.layouts[i]
		if l.head == 0 {
			break
		}
		if s.fits(l, c, e) {
			if i > 0 {
				s.layouts[i-1], s.layouts[i] = s.layouts[i], s.layouts[i-1]
			}
			return s.endOf(c)
		}
	}
	return s.search(c, e) && s.endOf(c)
}

func (s *scanner) fits(l *layout, c *cut, e *Repeat) bool {
	c.first = c.start + int(l.head)
	if !s.repeatedField(c.first, l.valueFirst, e) {
		return false
	}
	c.afterFirst = s.pos
	c.second = s.pos + int(l.gap)
	if !s.repeatedField(c.second, !l.valueFirst, e) {
		return false
	}
	c.afterSecond = s.pos
	return true
}

// repeatedField reads the value, or the time, that is at i if its key is before it.
func (s *scanner) repeatedField(i int, value bool, e *Repeat) bool {
	if value {
		return s.follows(i, valueKey) && s.repeatedValue(i, e)
	}
	return s.follows(i, timeKey) && s.repeatedTime(i, e)
}

// search looks for the two keys.
func (s *scanner) search(c *cut, e *Repeat) bool {
	event := s.buf[c.start:min(s.end, c.start+repeatReach)]
	time, value := bytes.Index(event, []byte(timeKey)), bytes.Index(event, []byte(valueKey))
	if time < 0 || value < 0 {
		return false
	}
	time, value = c.start+time+len(timeKey), c.start+value+len(valueKey)
	if !s.repeatedTime(time, e) {
		return false
	}
	afterTime := s.pos
	if !s.repeatedValue(value, e) {
		return false
	}
	if time < value {
		c.first, c.afterFirst, c.second, c.afterSecond = time, afterTime, value, s.pos
	} else {
		c.first, c.afterFirst, c.second, c.afterSecond = value, s.pos, time, afterTime
	}
	if c.afterFirst >= c.second {
		return false
	}
	s.remember(layout{int32(c.first - c.start), int32(c.second - c.afterFirst), value < time})
	return true
}

// follows says whether i is in the record and behind key.
func (s *scanner) follows(i int, key string) bool {
	return i >= len(key) && i <= s.end && string(s.buf[i-len(key):i]) == key
}

// repeatedTime reads a time that scanner.time would take without an objection.
func (s *scanner) repeatedTime(at int, e *Repeat) bool {
	s.pos = at
	var reason Reason
	switch c := s.space(); {
	case c == '"':
		from := s.pos + 1
		n := bytes.IndexByte(s.buf[from:min(s.end, from+maxTimeText)], '"')
		if n < 0 || bytes.IndexByte(s.buf[from:from+n], '\\') >= 0 {
			return false
		}
		e.Time, reason = s.clock.rfc3339(s.buf[from : from+n])
		s.pos = from + n + 1
	case c == '-', c-'0' <= 9:
		var n decimal
		if !s.number(&n) {
			return false
		}
		e.Time, reason = unixTime(&n)
	default:
		return false
	}
	return reason == ""
}

// maxTimeText is longer than any time that is written as people write them.
const maxTimeText = 64

// repeatedValue reads a number that scanner.float would take.
func (s *scanner) repeatedValue(at int, e *Repeat) bool {
	s.pos = at
	if c := s.space(); c != '-' && c-'0' > 9 {
		return false
	}
	var n decimal
	if !s.number(&n) {
		return false
	}
	var ok bool
	e.Value, ok = n.float()
	return ok
}

// endOf guesses where the event ends: at a brace behind which the record ends or another event begins.
func (s *scanner) endOf(c *cut) bool {
	for i := c.afterSecond; ; {
		n := bytes.IndexByte(s.buf[i:s.end], '}')
		if n < 0 {
			return false
		}
		i += n + 1
		s.pos = i
		next := s.space()
		if next == ',' {
			s.pos++
			next = s.space()
		} else if next == ']' {
			next = '{'
		}
		if next == '{' || s.pos >= s.end {
			c.end = i
			return true
		}
	}
}

// digest hashes what the event says beside time and value, and where it says it.
func (w *work) digest(c *cut) series.ID {
	s, b := w.s, w.src.Value
	told := append(s.told[:0], b[c.start:c.first]...)
	told = append(told, b[c.afterFirst:c.second]...)
	told = append(told, b[c.afterSecond:c.end]...)
	told = binary.LittleEndian.AppendUint32(told, uint32(c.first-c.start))
	told = binary.LittleEndian.AppendUint32(told, uint32(c.second-c.afterFirst))
	s.told = told
	return series.HashSeeded(told, w.src.Repeats.seed)
}

// learnable gives an event that was decoded in full its digest. fields are the places of its time and value.
func (w *work) learnable(m *Metric, start int, time, value [2]int) {
	c := cut{start: start, end: w.s.pos}
	l := layout{valueFirst: value[0] < time[0]}
	if l.valueFirst {
		time, value = value, time
	}
	c.first, c.afterFirst, c.second, c.afterSecond = time[0], time[1], value[0], value[1]
	l.head, l.gap = int32(c.first-start), int32(c.second-c.afterFirst)
	w.s.remember(l)
	m.Digest = w.digest(&c)
}

// remember keeps a layout, in the place of one that is little used: the last, for those that fit move forward.
func (s *scanner) remember(l layout) {
	at := len(s.layouts) - 1
	for i := range s.layouts {
		if s.layouts[i] == l {
			return
		}
		if s.layouts[i].head == 0 {
			at = i
			break
		}
	}
	s.layouts[at] = l
}
