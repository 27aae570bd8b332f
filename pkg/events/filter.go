package events

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"unicode/utf8"

	"github.com/vigie-io/vigie/pkg/series"
)

// Filter knows a set of series, and says of a record that it is one event of none of them without decoding it
// (Decoder.Beyond). It is for a tenant that has all the series it may have and sends events of others.
//
// It is a Bloom filter of sums of seeded hashes of name and labels, which are the same in whatever order they stand. An
// event of the set is always found. One that is not is seldom taken for one of the set, and is decoded then. Not safe
// for concurrent use.
type Filter struct {
	tenant string
	seed   uint64
	words  []uint64 // a power of two; each key has its bits in one of them
	room   int
	added  int
	vain   vain   // records in a row of which nothing could be said
	text   []byte // memory to spell labels in
}

// NewFilter returns an empty Filter with room for so many series of a tenant, of 4 to 8 bytes each. The seed should be
// random.
func NewFilter(tenant string, seed uint64, room int) *Filter {
	const wordSeries = 2 // a series has two keys, of 16 bits
	words := 1 << bits.Len(uint(max(room, 1)/wordSeries))
	return &Filter{tenant: tenant, seed: seed, room: room, words: make([]uint64, words)}
}

// Add adds a series, whose labels are as series.Sort makes them.
func (f *Filter) Add(kind Kind, name string, labels series.Labels) {
	f.added++
	f.text = appendQuoted(append(f.text[:0], `"name":`...), name)
	json := f.hash(f.text, 0)
	f.text = append(f.text[:0], name...)
	message, plain := f.hash(f.text, messageName), true
	for i := range labels {
		l := &labels[i]
		f.text = appendQuoted(append(appendQuoted(f.text[:0], l.Name), ':'), l.Value)
		json += f.hash(f.text, labelSeed)
		if plain = plain && len(l.Name) < 0x80 && len(l.Value) < 0x80; plain {
			f.text = append(append(f.text[:0], 1<<3|wireBytes, byte(len(l.Name))), l.Name...)
			f.text = append(append(f.text, 2<<3|wireBytes, byte(len(l.Value))), l.Value...)
			message += f.hash(f.text, messageLabel)
		}
	}
	f.set(json, kind)
	if plain {
		f.set(message, kind) // no candidate is of a label that plainLabel would not read
	}
}

// Full says whether there is no room for more series: they can be added, but more events are taken for those of the
// set.
func (f *Filter) Full() bool { return f.added >= f.room }

// Seeds that tell what candidates in protobuf hash from what those in JSON do.
const messageName, messageLabel = 0x27d4eb2f165667c5, 0x165667b19e3779f9

func (f *Filter) hash(b []byte, apart uint64) uint64 { return series.HashSeeded(b, f.seed^apart).Lo }

func appendQuoted(dst []byte, text string) []byte {
	return append(append(append(dst, '"'), text...), '"')
}

// place is the word of a key, and its bits there.
func (f *Filter) place(identity uint64, kind Kind) (word *uint64, mask uint64) {
	key := identity + uint64(kind)*0x9e3779b97f4a7c15
	mask = 1<<(key>>58) | 1<<(key>>52&63) | 1<<(key>>46&63) | 1<<(key>>40&63)
	return &f.words[key&uint64(len(f.words)-1)], mask
}

func (f *Filter) set(identity uint64, kind Kind) {
	word, mask := f.place(identity, kind)
	*word |= mask
}

func (f *Filter) has(identity uint64, kind Kind) bool {
	word, mask := f.place(identity, kind)
	return *word&mask == mask
}

// candidate is an event that is read for a Filter: its series as far as the filter needs it, and whether decoding would
// take the event, as far as that is not a matter of how it is cut.
type candidate struct {
	opts     *Options
	event    Repeat // time and value
	filter   *Filter
	seen     uint64 // fields of a message
	named    bool
	bad      bool // decoding would refuse the event, or might
	kind     Kind
	identity uint64 // the sum of the hashes of its name and labels
	names    [][]byte
	tails    []uint64 // of the names
	sorted   bool
}

func (c *candidate) begin(opts *Options, f *Filter) {
	*c = candidate{opts: opts, filter: f, names: c.names[:0], tails: c.tails[:0], sorted: true}
}

// end lets the record go, and says whether decoding would take the event, and it is of no series of the filter.
func (c *candidate) end() (beyond bool) {
	clear(c.names)
	return c.named && !c.bad && !c.filter.has(c.identity, c.kind)
}

func (c *candidate) require(ok bool) { c.bad = c.bad || !ok }

// field takes a field that is a text. hash is of one that tells series apart.
func (c *candidate) field(bit uint64, text []byte, hash uint64) {
	switch bit {
	case fieldTenant:
		c.require(string(text) == c.filter.tenant)
	case fieldName:
		c.identity, c.named = c.identity+hash, true
		c.require(len(text) > 0 && len(text) <= c.opts.MaxName)
	case fieldKind:
		kind, ok := kindOf(text)
		c.kind = kind
		c.require(ok)
	case fieldUnit:
		c.require(len(text) <= c.opts.MaxName)
	case fieldHelp:
		c.require(len(text) <= c.opts.MaxValue)
	}
}

func (c *candidate) label(name, value []byte, hash uint64) {
	c.require(len(name) > 0 && len(name) <= c.opts.MaxName && len(value) <= c.opts.MaxValue && string(name) != "__name__")
	if len(value) == 0 {
		return // it is as if it were not there
	}
	c.identity += hash
	if len(c.names) == c.opts.MaxLabels {
		c.bad = true
		return
	}
	c.distinguish(name)
}

// distinguish requires that no label before has the name. That is plain where they are sorted, as most are. Of others
// their tails are compared, and the names where these are equal.
func (c *candidate) distinguish(name []byte) {
	n := len(c.names)
	if c.sorted && n > 0 {
		c.sorted = bytes.Compare(c.names[n-1], name) < 0
	}
	tail := tailOf(name)
	if !c.sorted {
		for i, other := range c.tails {
			if other == tail && bytes.Equal(c.names[i], name) {
				c.bad = true
			}
		}
	}
	c.names, c.tails = append(c.names, name), append(c.tails, tail)
}

// tailOf is the last eight bytes of a name, or all that it has.
func tailOf(name []byte) uint64 {
	if len(name) >= 8 {
		return binary.LittleEndian.Uint64(name[len(name)-8:])
	}
	var tail [8]byte
	copy(tail[:], name)
	return binary.LittleEndian.Uint64(tail[:])
}

// message takes a field of a vigie.v1.Metric, but for time and value.
func (c *candidate) message(f *wireField) {
	bit := [...]uint64{4: fieldName, 5: fieldKind, 6: 0, 8: fieldUnit, 9: fieldHelp, 10: fieldTenant}[f.number()]
	c.require(c.seen&bit == 0)
	c.seen |= bit
	switch {
	case bit == fieldKind:
		c.require(f.wire() == wireVarint)
		c.kindNumber(int32(f.value))
	case f.wire() != wireBytes:
		c.bad = true
	case bit == 0:
		name, value, ok := plainLabel(f.bytes)
		c.require(ok && utf8.Valid(name) && utf8.Valid(value))
		c.label(name, value, c.filter.hash(f.bytes, messageLabel))
	default:
		c.require(utf8.Valid(f.bytes))
		hash := uint64(0)
		if bit == fieldName {
			hash = c.filter.hash(f.bytes, messageName)
		}
		c.field(bit, f.bytes, hash)
	}
}

func (c *candidate) kindNumber(n int32) {
	kind, ok := kindNumbered(n)
	c.kind = kind
	c.require(ok)
}

// Beyond says whether a record is one event that Decode would take and that is of no series of the filter, without
// decoding it. It says no to many that are. l is a look at the record that did not know it: it knows it then, as
// Beyond. It keeps nothing of src.
func (d *Decoder) Beyond(k *Looker, l *Look, src *Source, f *Filter) bool {
	if f.vain.hopeless() {
		return false
	}
	f.vain++
	noTime, ok := false, false
	c := &k.candidate
	c.begin(&d.opts, f)
	e := &c.event
	switch d.lookable(src) {
	case formatJSON:
		_, noTime, ok = k.cutter.readUnordered(f.seed, withoutSpaces(src.Value), e, c)
		if ok && noTime {
			e.Time = src.Timestamp
			ok = e.Time > 0
		}
	case formatProtobuf:
		var message []byte
		if message, ok = onlyMessage(src.Value); ok {
			_, noTime, ok = unorderedMessage(f.seed, message, src.Timestamp, e, c)
		}
	}
	if ok = c.end() && ok; !ok {
		return false
	}
	f.vain = 0
	if r := src.Repeats; l.Missed() && l.way == byBytes && r.worthLearning() {
		r.LearnBeyond(l.digest)
	}
	e.Ref = Beyond
	l.Repeat, l.NoTime, l.known = *e, noTime, true
	return true
}
