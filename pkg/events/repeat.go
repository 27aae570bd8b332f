package events

import (
	"math"
	"math/bits"

	"github.com/vigie-io/vigie/pkg/series"
)

// Repeat is a metric event that says what an earlier one said, but for its time, its start and its value.
type Repeat struct {
	Index int // of the event in its record
	Time  int64
	Start int64
	Value float64
	Ref   uint32 // what the earlier event was learned as, or Beyond
}

// Beyond is the Ref of events that LearnBeyond knows.
const Beyond = notKnown - 1

// Repeats knows metric events again by their bytes: where two JSON events differ in nothing but the tokens of time and
// value, they are of one series, and the second need not be taken apart. It is for the events of one tenant and one
// Decoder. The caller learns what Decode gave it in full, under a number of its own, and finds it in Batch.Repeats when
// it comes again.
//
// Why that is right: let an event that was decoded in full be the bytes A T B V C, T and V the tokens of time and
// value. In A T' B V' C a parser is at the end of A in the same state, takes the longest token as before, and goes on
// as before. So all that it finds beside time and value is equal, wherever the guess of how to cut the bytes came from.
// The same holds for A V C and A V' C where the event has no time and is given its record's.
//
// Where fields come in another order each time, events are known by digests that do not depend on it (unorderedReader).
//
// Events are told apart by 96 bits of a seeded hash, and not by comparing bytes: with a seed that producers do not
// know, a wrong answer among 10^12 different events and 10^6 known is less likely than 10^-10. It is a cache:
// forgetting any of it changes no result. Not safe for concurrent use.
type Repeats struct {
	seed uint64
	most int         // sets
	sets []repeatSet // a power of two
	used int
	// beyond are those of used that LearnBeyond knows.
	beyond int
	vain   vain   // events in a row that were looked up in vain, or not looked up for that
	other  uint32 // events in a row that were learnt and are of nothing new: known things that are said otherwise
	// respelled says whether most of those that are not known by their bytes are of series that are: it goes up with each
	// that is, and down with others.
	respelled int8
	// vainUnordered are events in a row that were looked up in vain by their unordered digests.
	vainUnordered uint32
	// Where producers put the first of time and value, and the other behind it.
	heads, gaps spots
}

// repeatSet is one of the two places where an event may be known: a cache line. Slots fill from the first on.
type repeatSet [4]repeatSlot

// repeatSlot is vacant when ref is 0; refs are kept plus one.
type repeatSlot struct {
	low  uint64
	high uint32
	ref  uint32
}

// NewRepeats returns an empty cache of at least limit and less than four times as many events, of which 32 bytes each
// are taken in the mean. The seed should be random.
func NewRepeats(seed uint64, limit int) *Repeats {
	sets := 1
	for sets*len(repeatSet{})/2 < limit && sets < 1<<27 {
		sets *= 2
	}
	return &Repeats{seed: seed, most: sets}
}

// Len is the number of events known.
func (r *Repeats) Len() int { return r.used }

// Beyond is the number of those that LearnBeyond knows.
func (r *Repeats) Beyond() int { return r.beyond }

// Learn says that events with the digest of a decoded Metric, which is not zero, are ref to the caller, below Beyond.
// It may forget another event.
func (r *Repeats) Learn(digest series.ID, ref uint32) {
	r.other++
	r.respell(1)
	r.grow()
	r.place(repeatSlot{digest.Lo, uint32(digest.Hi), ref + 1})
}

// LearnBeyond says that events with the digest of a decoded Metric are of those that the caller does not take, for now.
// It forgets no event but such.
func (r *Repeats) LearnBeyond(digest series.ID) {
	r.other++
	r.respell(-1)
	r.grow()
	s := repeatSlot{digest.Lo, uint32(digest.Hi), beyondSlot}
	home, other := r.setsOf(s.low)
	switch {
	case home.replace(s) || home.full() && other.replace(s):
	case r.add(home, s) || r.add(other, s):
		r.used++
		r.beyond++
	default:
		_ = home.replaceBeyond(s) || other.replaceBeyond(s)
	}
}

// Expect says that there is something new, of which more events are to be expected.
func (r *Repeats) Expect() {
	r.other = 0
	r.respell(-2) // it is learnt, too
}

func (r *Repeats) respell(by int8) {
	r.respelled = min(max(r.respelled+by, 0), respelledMost)
}

// worthLearning says whether the event at hand, which was not known, may get a digest. Where hardly an event comes
// again, only those do that are looked up.
func (r *Repeats) worthLearning() bool {
	return r.vain < vainMost || r.other < vainMost || r.vain%vainRest == 0
}

// ForgetBeyond drops all that LearnBeyond said.
func (r *Repeats) ForgetBeyond() {
	if r.beyond > 0 {
		r.Forget(func(uint32) bool { return false })
	}
}

// grow makes room for one more.
func (r *Repeats) grow() {
	if r.used >= len(r.sets)*len(repeatSet{})*5/8 && len(r.sets) < r.most {
		r.rebuild(max(1, 2*len(r.sets)), func(uint32) bool { return true })
	}
}

// Forget drops all events whose number gone confirms, and all that LearnBeyond said.
func (r *Repeats) Forget(gone func(ref uint32) bool) {
	r.rebuild(len(r.sets), func(ref uint32) bool { return !gone(ref) })
}

// rebuild keeps nothing that is beyond: it would need a place that others could have.
func (r *Repeats) rebuild(sets int, keep func(ref uint32) bool) {
	old := r.sets
	r.sets, r.used, r.beyond = make([]repeatSet, sets), 0, 0
	for i := range old {
		for _, s := range old[i] {
			if s.ref != 0 && s.ref != beyondSlot && keep(s.ref-1) {
				r.place(s)
			}
		}
	}
}

// place puts s into the first vacant slot of its set, of the other one when that is full, or in the place of one there
// that is beyond, or has room in its other set, or else in the place of another.
func (r *Repeats) place(s repeatSlot) {
	home, other := r.setsOf(s.low)
	switch {
	case home.replace(s) || home.full() && other.replace(s):
	case r.add(home, s) || r.add(other, s):
		r.used++
	case r.beyond > 0 && (home.replaceBeyond(s) || other.replaceBeyond(s)):
		r.beyond--
	case r.push(home, s) || r.push(other, s):
		r.used++
	default:
		home[s.high%uint32(len(home))] = s
	}
}

// replaceBeyond puts s in the place of an event that is beyond.
func (set *repeatSet) replaceBeyond(s repeatSlot) bool {
	for i := range set {
		if at := &set[(uint32(i)+s.high)%uint32(len(set))]; at.ref == beyondSlot {
			*at = s
			return true
		}
	}
	return false
}

// replace puts s in the place of an event with the same digest.
func (set *repeatSet) replace(s repeatSlot) bool {
	for i := range set {
		if at := &set[i]; at.ref != 0 && at.low == s.low && at.high == s.high {
			*at = s
			return true
		}
	}
	return false
}

func (set *repeatSet) full() bool { return set[len(set)-1].ref != 0 }

func (r *Repeats) add(set *repeatSet, s repeatSlot) bool {
	for i := range set {
		if set[i].ref == 0 {
			set[i] = s
			return true
		}
	}
	return false
}

// push moves one of a full set into its other set, where there is room.
func (r *Repeats) push(set *repeatSet, s repeatSlot) bool {
	for i := range set {
		home, other := r.setsOf(set[i].low)
		if set == home && other != home && r.add(other, set[i]) {
			set[i] = s
			return true
		}
	}
	return false
}

// setsOf are where a hash may be: in the other only when the first is full, which it stays. With one set alone, many
// would be lost at the fullest, and with each of them OTLP requests of 100 data points.
func (r *Repeats) setsOf(low uint64) (home, other *repeatSet) {
	mask := uint64(len(r.sets) - 1)
	return &r.sets[low&mask], &r.sets[bits.RotateLeft64(low, 32)&mask]
}

func (r *Repeats) find(digest series.ID) (ref uint32, ok bool) {
	if r.used == 0 {
		return 0, false
	}
	home, other := r.setsOf(digest.Lo)
	if ref, ok = home.find(digest); ok || !home.full() {
		return ref, ok
	}
	return other.find(digest)
}

const (
	vainMost = 256 // events looked up in vain, after which most are not looked up
	vainRest = 16  // of which one is all the same
	// unorderedRest is of how many that are looked up by their unordered digests one is looked up by its bytes.
	unorderedRest = 64

	respelledMost, respelledEnough = 64, 2
)

// vain is how many in a row were looked up in vain.
type vain uint32

// hopeless says that the next one need not be looked up, for none of many was known: it costs as much as a third of
// decoding. One that is known ends that.
func (v *vain) hopeless() bool {
	if *v < vainMost {
		return false
	}
	*v++
	return *v%vainRest != 0
}

// lookup is how an event is looked up.
type lookup uint8

const (
	byBytes   lookup = iota
	unordered        // by its unordered digest
	notAtAll
)

// next is hopeless for an event that can be looked up by its unordered digest, too. That costs twice as much, and is
// done where hardly an event is known by its bytes, but most are of series that are.
func (r *Repeats) next() lookup {
	if r.vain < vainMost {
		return byBytes
	}
	r.vain++
	rest := vain(vainRest)
	respelled, hopeful := r.respelled >= respelledEnough, r.vainUnordered < vainMost
	if respelled && hopeful {
		rest = unorderedRest
	}
	switch {
	case r.vain%rest == 0:
		return byBytes
	case respelled && (hopeful || r.vain%rest == rest/2):
		return unordered
	}
	return notAtAll
}

// tell notes whether an event that was looked up was known.
func (r *Repeats) tell(way lookup, known bool) {
	switch way {
	case byBytes:
		if r.vain++; known {
			r.vain, r.other = 0, 0
		}
	case unordered:
		if r.vainUnordered = min(r.vainUnordered+1, vainMost); known {
			r.vainUnordered = 0
			r.respell(1)
		}
	}
}

const (
	notKnown   = math.MaxUint32 // the number of no event
	beyondSlot = Beyond + 1     // as slots have it
)

// findAll looks all of digests up, which are those of list, and returns how many are known; the others are notKnown. It
// reads of all of them before it needs any, so that the processor waits for all at once.
func (r *Repeats) findAll(digests []series.ID, list []Repeat, fetched *uint64) (known int) {
	for i := range digests {
		if len(r.sets) > 0 {
			home, _ := r.setsOf(digests[i].Lo)
			*fetched += home[0].low
		}
	}
	for i := range digests {
		ref, ok := r.find(digests[i])
		if list[i].Ref = ref; ok {
			known++
		} else {
			list[i].Ref = notKnown
		}
	}
	return known
}

func (set *repeatSet) find(digest series.ID) (ref uint32, ok bool) {
	for i := range set {
		if s := &set[i]; s.low == digest.Lo && s.high == uint32(digest.Hi) && s.ref != 0 {
			return s.ref - 1, true
		}
	}
	return 0, false
}
