package windowed

import (
	"encoding/binary"
	"errors"
	"slices"

	"github.com/vigie-io/vigie/internal/pipeline/state"
	"github.com/vigie-io/vigie/pkg/sketches"
)

// startBytes is the length of a window's start in front of a series key.
const startBytes = 8

// keptName is the name of a record of one slice or session.
func keptName(start int64, name string) string {
	return string(binary.BigEndian.AppendUint64(nil, uint64(start))) + name
}

// keepParts writes what has changed of a key of a rule with a Keep, each slice and session in a record of its own, and
// the windows that have been emitted in that of the key.
func (w *Windows) keepParts(s *store, tenant, name string, was, is *keptWindows) {
	head := stateKey(s.id, s.contents(), tenant, name)
	switch {
	case len(is.emitted) == 0 && len(was.emitted) > 0:
		w.remove(head)
	case !slices.Equal(was.emitted, is.emitted):
		w.write(head, func(dst []byte) []byte { return s.encode(dst, is.head(), true) })
	}
	for i := range is.parts {
		p := &is.parts[i]
		if at, found := was.find(p.window.Start); !found || was.parts[at] != *p {
			w.write(stateKey(s.id, kindKept, tenant, keptName(p.window.Start, name)), p.append)
		}
	}
	for i := range was.parts {
		start := was.parts[i].window.Start
		if _, there := is.find(start); !there {
			w.remove(stateKey(s.id, kindKept, tenant, keptName(start, name)))
		}
	}
}

// head is what the record of a key itself holds when its parts have their own.
func (k *keptWindows) head() *keptWindows { return &keptWindows{emitted: k.emitted} }

// placeKept puts a record of a key, of a rule with a Keep, in its place: all that it holds of the part that begins at
// start, or else the windows that have been emitted.
func (s *store) placeKept(tenant, name string, start int64, part bool, r *keptWindows) {
	k := s.kept(tenant, name)
	if !part {
		k.emitted = r.emitted
	} else {
		at, found := k.find(start)
		if found {
			k.parts = slices.Delete(k.parts, at, at+1)
		}
		k.parts = slices.Insert(k.parts, at, r.parts...)
	}
	s.restore(tenant, name, k)
}

// append writes a record of its own: docs/format/state.md.
func (p *keptPart) append(dst []byte) []byte {
	dst = binary.AppendUvarint(appendWindow(dst, p.window), uint64(p.version))
	before := len(dst)
	dst = p.value.append(dst)
	if p.value == nil || p.value.more == nil {
		dst = append(dst, 0)
	} else {
		dst = p.value.more.append(dst)
	}
	if p.value != nil {
		p.value.logged = uint32(len(dst) - before)
	}
	return dst
}

// inLog is how many bytes a record of its own takes, without its key.
func (p *keptPart) inLog() int {
	n := len(binary.AppendUvarint(appendWindow(nil, p.window), uint64(p.version))) + p.value.inLog()
	if p.value == nil {
		n++ // no measures
	}
	return n
}

func (k *keptValue) append(dst []byte) []byte {
	m := k.measures
	if k.distinct != nil {
		m |= MeasureDistinct
	}
	if k.top != nil {
		m |= MeasureTop
	}
	dst = append(dst, byte(m))
	if m&MeasureFirst != 0 {
		dst = state.AppendFloat(binary.AppendVarint(dst, k.first.time), k.first.value)
	}
	if m&MeasureLast != 0 {
		dst = state.AppendFloat(binary.AppendVarint(dst, k.last.time), k.last.value)
	}
	if k.distinct != nil {
		dst = k.distinct.AppendState(dst)
	}
	if k.top != nil {
		dst, _ = k.top.AppendBinary(dst) // it has no errors
	}
	return dst
}

var errKept = errors.New("contents of a window end early, go on, or hold measures that this version of Vigie does not know")

// decodeKept reads what keptPart.append wrote.
func decodeKept(src []byte) (p keptPart, err error) {
	r := reader{state.Reader{Rest: src}}
	p = keptPart{window: r.window(), version: uint32(r.Uvarint())}
	contents := len(r.Rest)
	p.value = r.value()
	p.value.logged = uint32(contents)
	m := Measures(r.Byte())
	if m == 0 {
		if r.Bad || len(r.Rest) > 0 {
			return keptPart{}, errKept
		}
		return p, nil
	}
	k := &keptValue{measures: m & (MeasureFirst | MeasureLast)}
	p.value.more = k
	if m&MeasureFirst != 0 {
		k.first = timed{r.Varint(), r.Float()}
	}
	if m&MeasureLast != 0 {
		k.last = timed{r.Varint(), r.Float()}
	}
	if m&MeasureDistinct != 0 && !r.Bad {
		k.distinct = new(sketches.Distinct)
		n, err := k.distinct.DecodeState(r.Rest)
		if err != nil {
			return keptPart{}, err
		}
		r.Skip(n)
	}
	if m&MeasureTop != 0 && !r.Bad {
		k.top = sketches.NewTopK(1)
		if err := k.top.UnmarshalBinary(r.Rest); err != nil {
			return keptPart{}, err
		}
		r.Rest = nil
	}
	if r.Bad || len(r.Rest) > 0 || m&^allMeasures != 0 {
		return keptPart{}, errKept
	}
	return p, nil
}
