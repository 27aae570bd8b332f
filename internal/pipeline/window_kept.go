package pipeline

import (
	"cmp"
	"encoding/binary"
	"errors"
	"slices"
	"strings"

	"github.com/vigie-io/vigie/pkg/series"
	"github.com/vigie-io/vigie/pkg/sketches"
)

// startBytes is the length of a window's start in front of a series key.
const startBytes = 8

// keptName is the name of a record of one slice or session.
func keptName(start int64, name string) string {
	return string(binary.BigEndian.AppendUint64(nil, uint64(start))) + name
}

// keepParts writes what is kept of a key of a rule with a Keep, each slice and session in a record of its own, and the windows
// that have been emitted in that of the key. k is nil when nothing is.
func (w *windowed) keepParts(s *windowStore, head, tenant, name string, k *keptWindows) {
	at := keptKey{tenant, name}
	gone := s.kept[at]
	delete(s.kept, at)
	w.pending[head] = nil
	if k == nil {
		k = new(keptWindows)
	}
	if len(k.emitted) > 0 {
		w.pending[head] = appendWindows(nil, &keptWindows{emitted: k.emitted})
	}
	starts := make([]int64, len(k.parts))
	for i := range k.parts {
		p := &k.parts[i]
		starts[i] = p.window.Start
		_, known := slices.BinarySearch(gone, p.window.Start)
		if known && s.contents() == windowContents && p.value != nil && p.value.clean {
			continue // sessions may have changed their bounds all the same
		}
		w.pending[windowKey(s.id, windowKept, tenant, keptName(p.window.Start, name))] = p.append(nil)
	}
	for _, start := range gone {
		if _, there := slices.BinarySearch(starts, start); !there {
			w.pending[windowKey(s.id, windowKept, tenant, keptName(start, name))] = nil
		}
	}
	if len(starts) > 0 {
		s.kept[at] = starts
	}
}

// loadKept fills the records of slices and sessions into their stores.
func (w *windowed) loadKept() {
	type of struct {
		store        *windowStore
		tenant, name string
	}
	found := map[of]*keptWindows{}
	get := func(key string) (k *keptWindows, s *windowStore, name string) {
		id, _, tenant, name := cutWindowKey(key)
		if s = w.store(id); s == nil || s.keep == nil {
			return nil, nil, ""
		}
		at := of{s, tenant, strings.TrimPrefix(name, name[:min(len(name), startBytes)])}
		if key[8] != windowKept {
			at.name = name
		}
		if found[at] == nil {
			found[at] = new(keptWindows)
		}
		return found[at], s, at.name
	}
	for key, value := range w.committed {
		switch key[8] {
		case windowKept:
			if k, _, _ := get(key); k != nil {
				p, err := decodeKept(value)
				if err != nil {
					panic("BUG: " + err.Error())
				}
				k.parts = append(k.parts, p)
			}
		case windowContents:
			if k, s, _ := get(key); k != nil && s.contents() == windowContents {
				k.emitted = s.decode(value).emitted
			}
		}
	}
	for at, k := range found {
		slices.SortFunc(k.parts, func(a, b keptPart) int { return cmp.Compare(a.window.Start, b.window.Start) })
		starts := make([]int64, len(k.parts))
		for i := range k.parts {
			starts[i] = k.parts[i].window.Start
		}
		w.know(at.store, at.tenant)
		at.store.kept[keptKey{at.tenant, at.name}] = starts
		at.store.restore(at.tenant, at.name, k)
	}
}

// append writes a record of its own: docs/format/state.md.
func (p *keptPart) append(dst []byte) []byte {
	dst = binary.AppendUvarint(appendWindow(dst, p.window), uint64(p.version))
	dst = p.value.append(dst)
	if p.value == nil || p.value.more == nil {
		return append(dst, 0)
	}
	p.value.clean = true
	return p.value.more.append(dst)
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
		dst = appendFloat(binary.AppendVarint(dst, k.first.time), k.first.value)
	}
	if m&MeasureLast != 0 {
		dst = appendFloat(binary.AppendVarint(dst, k.last.time), k.last.value)
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
	r := windowReader{src: src}
	p = keptPart{window: r.window(), version: uint32(r.uvarint())}
	p.value = r.value()
	m := Measures(r.byte())
	if m == 0 {
		if r.bad || len(r.src) > 0 {
			return keptPart{}, errKept
		}
		return p, nil
	}
	k := &keptValue{measures: m & (MeasureFirst | MeasureLast)}
	p.value.more, p.value.clean = k, true
	if m&MeasureFirst != 0 {
		k.first = timed{r.varint(), r.float()}
	}
	if m&MeasureLast != 0 {
		k.last = timed{r.varint(), r.float()}
	}
	if m&MeasureDistinct != 0 && !r.bad {
		k.distinct = new(sketches.Distinct)
		n, err := k.distinct.DecodeState(r.src)
		if err != nil {
			return keptPart{}, err
		}
		r.skip(n)
	}
	if m&MeasureTop != 0 && !r.bad {
		k.top = sketches.NewTopK(1)
		if err := k.top.UnmarshalBinary(r.src); err != nil {
			return keptPart{}, err
		}
		r.src = nil
	}
	if r.bad || len(r.src) > 0 || m&^allMeasures != 0 {
		return keptPart{}, errKept
	}
	return p, nil
}

// checkContents says what is wrong with a record of windows.
func checkContents(kind byte, name string, value []byte) error {
	if kind == windowKept {
		p, err := decodeKept(value)
		if err != nil {
			return err
		}
		if name[:startBytes] != keptName(p.window.Start, "") {
			return errKept
		}
		name = name[startBytes:]
	}
	if _, _, _, err := series.ParseKey([]byte(name)); err != nil {
		return err
	}
	var err error
	switch kind {
	case windowContents:
		_, err = decodeWindows(value)
	case windowSessions:
		_, err = decodeSessions(value)
	}
	return err
}

// keep appends what a window holds as its rule says, and returns about how many bytes it takes. Rows of rules that keep
// nothing cost nothing until there is one that does.
func (b *WindowRows) keep(keep *Keep, v *keptValue) (size int) {
	if keep == nil && b.Measures == nil {
		return 0
	}
	for len(b.Measures) < len(b.Tenant)-1 {
		b.append(0, &keptValue{}, nil)
	}
	if v == nil {
		v = &keptValue{}
	}
	before := len(b.Distinct)
	b.append(keep.measures(), v, keep)
	size = 40 + len(b.Distinct) - before
	for _, item := range b.Top[len(b.Top)-1].Items {
		size += 24 + len(item)
	}
	return size
}

func (b *WindowRows) append(m Measures, v *keptValue, keep *Keep) {
	b.Measures = append(b.Measures, m)
	b.FirstTime, b.First = append(b.FirstTime, v.first.time), append(b.First, v.first.value)
	b.LastTime, b.Last = append(b.LastTime, v.last.time), append(b.Last, v.last.value)
	distinct := v.distinct
	if distinct == nil {
		distinct = new(sketches.Distinct)
	}
	b.Distinct = distinct.AppendState(b.Distinct)
	top := WindowTop{}
	if m&MeasureTop != 0 {
		top = rowTop(v.top, keep.Top)
	}
	b.Top = append(b.Top, top)
}

// rowTop is a summary as rows have it.
func rowTop(t *sketches.TopK, of *Top) WindowTop {
	top := WindowTop{K: uint16(of.K)}
	if t == nil {
		return top
	}
	floor := t.Floor()
	top.Floor, top.Total = float64(floor)*of.Unit, float64(t.Total())*of.Unit
	for _, c := range t.Top(t.Capacity()) {
		top.Items = append(top.Items, c.Item)
		top.Counts = append(top.Counts, float64(c.Count-floor)*of.Unit)
		top.Errors = append(top.Errors, (float64(c.Error)-float64(floor))*of.Unit)
	}
	return top
}
