package events

import (
	"encoding/binary"
	"math"

	"github.com/vigie-io/vigie/pkg/series"
)

// Look is a first look at a record: whether it is one event, in JSON or protobuf, that is known by its bytes. It spares
// Decode's whole way, and several looks share the wait for memory. A record that is not known so is decoded; its events
// may be known then.
//
// Use: Begin for each of some records, Recognize for all of them, and Known for each. The zero Look knows nothing.
type Look struct {
	Repeat
	NoTime bool // the event has the record's time, for want of its own

	known bool
	// way is how it was looked up: not at all if it would be in vain, or has no time and value where they could be read.
	way     lookup
	repeats *Repeats // nil when there is nothing to look up
	digest  series.ID
	cut     cut
}

// Looker is the memory of looks. One goroutine uses it.
type Looker struct {
	cutter    cutter
	candidate candidate
	fetched   uint64 // of no meaning: what is read ahead has to go somewhere
}

// Known says whether the record is the event of the Repeat, and nothing else.
func (l *Look) Known() bool { return l.known }

// Missed says whether the record was looked up in vain.
func (l *Look) Missed() bool { return l.repeats != nil && !l.known }

// Begin reads time and value of what seems to be one event as those before it. It keeps nothing of src but Repeats,
// which has to be that of src's tenant.
func (d *Decoder) Begin(k *Looker, l *Look, src *Source) {
	l.repeats, l.known, l.way = nil, false, byBytes
	r := src.Repeats
	if r == nil || r.used == 0 {
		return
	}
	ok := false
	switch d.lookable(src) {
	case formatJSON:
		ok = k.beginJSON(l, src)
	case formatProtobuf:
		ok = k.beginProtobuf(l, src)
	}
	if l.Index, l.Start = 0, 0; ok {
		l.repeats = r
	}
}

// lookable is the format of what may be one event to look at: JSON, protobuf, or formatUnknown for none.
func (d *Decoder) lookable(src *Source) format {
	b := src.Value
	if src.Signal != Metrics || len(b) > min(d.opts.MaxRecord, math.MaxInt32) || len(b) == 0 {
		return formatUnknown
	}
	f, ok := formatNamed(src.ContentType)
	switch {
	case !ok:
	case b[0] == '{' && f <= formatJSON:
		return formatJSON
	case b[0] == eventsMetric && f != formatJSON:
		return formatProtobuf
	}
	return formatUnknown
}

// withoutSpaces cuts off white space behind JSON: one event ends there, or there are several.
func withoutSpaces(b []byte) []byte {
	end := len(b)
	for c := b[end-1]; c == '\n' || c == '\r' || c == ' ' || c == '\t'; c = b[end-1] {
		end--
	}
	return b[:end]
}

// onlyMessage is the message of a vigie.v1.Events that has one event.
func onlyMessage(b []byte) (message []byte, ok bool) {
	size, n := binary.Uvarint(b[1:])
	if n <= 0 || size != uint64(len(b)-1-n) {
		return nil, false
	}
	return b[1+n:], true
}

func (k *Looker) beginJSON(l *Look, src *Source) (ok bool) {
	r, b := src.Repeats, withoutSpaces(src.Value)
	switch l.way = r.next(); l.way {
	case byBytes:
		l.cut.start, l.cut.end = 0, len(b)
		ok = k.cutter.cut(r, b, &l.cut, &l.Repeat)
		l.NoTime = l.cut.noTime
	case unordered:
		l.digest, l.NoTime, ok = k.cutter.readUnordered(unorderedSeed(r), b, &l.Repeat, nil)
	}
	if ok && l.NoTime {
		l.Time = src.Timestamp
		ok = l.Time > 0
	}
	switch {
	case !ok:
		l.giveUp(r)
	case l.way == byBytes:
		l.digest = r.digest(b, &l.cut)
	}
	return ok
}

// giveUp is for an event that could not be looked up: nor could Decode cut it.
func (l *Look) giveUp(r *Repeats) {
	r.tell(l.way, false)
	l.way = notAtAll
}

func (k *Looker) beginProtobuf(l *Look, src *Source) (ok bool) {
	r := src.Repeats
	message, alone := onlyMessage(src.Value)
	if !alone {
		if r.vain.hopeless() {
			l.way = notAtAll
		}
		return false
	}
	switch l.way = r.next(); l.way {
	case byBytes:
		l.digest, l.NoTime, ok = k.cutter.beginMessage(r, message, src.Timestamp, &l.Repeat)
	case unordered:
		l.digest, l.NoTime, ok = unorderedMessage(unorderedSeed(r), message, src.Timestamp, &l.Repeat, nil)
	}
	if !ok {
		l.giveUp(r)
	}
	return ok
}

// Recognize looks up all of looks at which Begin found something. It reads of all of them before it needs any, so that
// the processor waits for all at once.
func (k *Looker) Recognize(looks []Look) {
	for i := range looks {
		if l := &looks[i]; l.repeats != nil {
			home, _ := l.repeats.setsOf(l.digest.Lo)
			k.fetched += home[0].low
		}
	}
	for i := range looks {
		if l := &looks[i]; l.repeats != nil {
			l.Ref, l.known = l.repeats.find(l.digest)
			l.repeats.tell(l.way, l.known)
		}
	}
}
