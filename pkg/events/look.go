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

	known   bool
	spared  bool     // it was not looked up, because it would be in vain, or has no time and value where they could be read
	repeats *Repeats // nil when there is nothing to look up
	digest  series.ID
	cut     cut
}

// Looker is the memory of looks. One goroutine uses it.
type Looker struct {
	cutter  cutter
	fetched uint64 // of no meaning: what is read ahead has to go somewhere
}

// Known says whether the record is the event of the Repeat, and nothing else.
func (l *Look) Known() bool { return l.known }

// Missed says whether the record was looked up in vain.
func (l *Look) Missed() bool { return l.repeats != nil && !l.known }

// Begin reads time and value of what seems to be one event as those before it. It keeps nothing of src but Repeats,
// which has to be that of src's tenant.
func (d *Decoder) Begin(k *Looker, l *Look, src *Source) {
	l.repeats, l.known, l.spared = nil, false, false
	r, b := src.Repeats, src.Value
	if r == nil || r.used == 0 || src.Signal != Metrics || len(b) > min(d.opts.MaxRecord, math.MaxInt32) || len(b) == 0 {
		return
	}
	f, ok := formatNamed(src.ContentType)
	switch {
	case !ok:
	case b[0] != '{' && b[0] != eventsMetric:
		ok = false
	case r.hopeless():
		l.spared, ok = true, false
	case b[0] == '{' && f <= formatJSON:
		if ok = k.beginJSON(l, src); !ok {
			l.spared = true // nor could Decode cut it
			r.tell(false)
		}
	case b[0] == eventsMetric && f != formatJSON:
		ok = k.beginProtobuf(l, src)
	default:
		ok = false
	}
	if l.Index, l.Start = 0, 0; ok {
		l.repeats = r
	}
}

func (k *Looker) beginJSON(l *Look, src *Source) bool {
	p, r, b := &l.cut, src.Repeats, src.Value
	p.start, p.end = 0, len(b)
	for c := b[p.end-1]; c == '\n' || c == '\r' || c == ' ' || c == '\t'; c = b[p.end-1] {
		p.end--
	}
	// One event ends here, or it is not one that was learnt.
	if b = b[:p.end]; !k.cutter.cut(r, b, p, &l.Repeat) {
		return false
	}
	if l.NoTime = p.noTime; l.NoTime {
		if l.Time = src.Timestamp; l.Time <= 0 {
			return false
		}
	}
	l.digest = r.digest(b, p)
	return true
}

func (k *Looker) beginProtobuf(l *Look, src *Source) (ok bool) {
	size, n := binary.Uvarint(src.Value[1:])
	if n <= 0 || size != uint64(len(src.Value)-1-n) {
		return false // it is not one field alone
	}
	l.digest, l.NoTime, ok = k.cutter.beginMessage(src.Repeats, src.Value[1+n:], src.Timestamp, &l.Repeat)
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
			l.repeats.tell(l.known)
		}
	}
}
