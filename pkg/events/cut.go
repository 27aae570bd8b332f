package events

import (
	"bytes"

	"github.com/vigie-io/vigie/pkg/series"
)

// cut is how the bytes of an event, [start, end) of the record, are cut: the first of time and value stands in [first,
// afterFirst), the other in [second, afterSecond). Without a time, second and afterSecond are end.
type cut struct {
	start, first, afterFirst, second, afterSecond, end int
	noTime                                             bool
}

const (
	timeKey  = `"time":`
	valueKey = `"value":`
	// repeatReach is how many bytes of an event are searched for the keys.
	repeatReach = 1 << 10
)

// cutter cuts events. It is memory, and knows nothing of them.
type cutter struct {
	clock minute
	told  []byte
}

// cut guesses where time and value of the event are that begins at p.start of b, and reads them; end remains to be
// found.
func (c *cutter) cut(r *Repeats, b []byte, p *cut, e *Repeat) bool {
	var value, ok bool // is the first the value?
	if p.first, value, ok = r.first(b, p.start); !ok {
		return false
	}
	if p.afterFirst = c.token(b, p.first, value, e); p.afterFirst == 0 {
		return false
	}
	if p.second = r.second(b, p.start, p.afterFirst, !value); p.second == 0 {
		p.noTime = value
		return value
	}
	p.noTime = false
	p.afterSecond = c.token(b, p.second, !value, e)
	return p.afterSecond != 0
}

// first finds the first of the two keys, mostly where it was before.
func (r *Repeats) first(b []byte, start int) (at int, value, ok bool) {
	for i, head := range r.heads {
		at = start + int(head)
		if head == 0 || at > len(b) {
			continue
		}
		isTime := isTimeKey(b, at)
		if isTime || isValueKey(b, at) {
			r.heads.prefer(i)
			return at, !isTime, true
		}
	}
	event := b[start:min(len(b), start+repeatReach)]
	at = bytes.Index(event, []byte(valueKey))
	if at < 0 {
		return 0, false, false
	}
	if time := bytes.Index(event[:at], []byte(timeKey)); time >= 0 {
		at = time + len(timeKey)
	} else {
		at, value = at+len(valueKey), true
	}
	r.heads.remember(at)
	return start + at, value, true
}

// second finds the key of the other behind the first, 0 when there is none.
func (r *Repeats) second(b []byte, start, after int, value bool) int {
	for i, gap := range r.gaps {
		at := after + int(gap)
		if gap == 0 || at > len(b) {
			continue
		}
		if value && isValueKey(b, at) || !value && isTimeKey(b, at) {
			r.gaps.prefer(i)
			return at
		}
	}
	key := timeKey
	if value {
		key = valueKey
	}
	at := bytes.Index(b[after:max(after, min(len(b), start+repeatReach))], []byte(key))
	if at < 0 {
		return 0
	}
	at += len(key)
	r.gaps.remember(at)
	return after + at
}

// isTimeKey says whether the key of the time ends at i, which is within b.
func isTimeKey(b []byte, i int) bool {
	return i >= len(timeKey) && string(b[i-len(timeKey):i]) == timeKey
}

func isValueKey(b []byte, i int) bool {
	return i >= len(valueKey) && string(b[i-len(valueKey):i]) == valueKey
}

// spots are distances at which something was found, the more used, mostly, before the less used.
type spots [8]int32

// prefer moves a spot forward.
func (s *spots) prefer(i int) {
	if i > 0 {
		s[i-1], s[i] = s[i], s[i-1]
	}
}

// remember keeps a distance, in the place of one that is little used: the last, for those that are found again move
// forward.
func (s *spots) remember(distance int) {
	for i := range s {
		if s[i] == 0 || s[i] == int32(distance) || i == len(s)-1 {
			s[i] = int32(distance)
			return
		}
	}
}

// token reads the value, or the time, at i, and returns where it ends; 0 when it is not one that the scanner would
// take.
func (c *cutter) token(b []byte, i int, value bool, e *Repeat) (next int) {
	switch i = spaces(b, i); {
	case i >= len(b):
		return 0
	case !value && b[i] == '"':
		return c.timeText(b, i+1, e)
	}
	var n decimal
	if n.read(b[i:]) != "" {
		return 0
	}
	if value {
		var ok bool
		if e.Value, ok = n.float(); !ok {
			return 0
		}
		return i + len(n.raw)
	}
	var reason Reason
	if e.Time, reason = unixTime(&n); reason != "" {
		return 0
	}
	return i + len(n.raw)
}

// maxTimeText is longer than any time that is written as people write them.
const maxTimeText = 64

// timeText reads the time in quotes, of which the first is before i.
func (c *cutter) timeText(b []byte, i int, e *Repeat) (next int) {
	var size int
	if e.Time, size = c.clock.quick(b[i:]); size > 0 {
		return i + size + 1
	}
	size = bytes.IndexByte(b[i:min(len(b), i+maxTimeText)], '"')
	if size < 0 {
		return 0
	}
	var reason Reason
	if e.Time, reason = c.clock.rfc3339(b[i : i+size]); reason != "" {
		return 0
	}
	return i + size + 1
}

// digest hashes what the event says beside time and value: each part of it under a seed of its own, so that none can
// stand for another. To put them together first would take as long as to hash them.
func (r *Repeats) digest(b []byte, p *cut) series.ID {
	const between, behind, behindValue = 0x165667b19e3779f9, 0x85ebca77c2b2ae63, 0x27d4eb2f165667c5
	head := series.HashSeeded(b[p.start:p.first], r.seed)
	if p.noTime {
		tail := series.HashSeeded(b[p.afterFirst:p.end], r.seed^behindValue)
		return series.ID{Hi: head.Hi ^ tail.Hi, Lo: head.Lo ^ tail.Lo}
	}
	gap := series.HashSeeded(b[p.afterFirst:p.second], r.seed^between)
	tail := series.HashSeeded(b[p.afterSecond:p.end], r.seed^behind)
	return series.ID{Hi: head.Hi ^ gap.Hi ^ tail.Hi, Lo: head.Lo ^ gap.Lo ^ tail.Lo}
}
