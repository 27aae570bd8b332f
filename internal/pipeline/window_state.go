package pipeline

import (
	"encoding/binary"
	"errors"

	"github.com/vigie-io/vigie/internal/pipeline/state"
	"github.com/vigie-io/vigie/pkg/windows"
)

// What a key is about, after the rule's id.
const (
	windowDefinition = 'd'
	windowProgress   = 'p'
	windowContents   = 'k' // slices
	windowSessions   = 's'
	windowKept       = 'v' // one slice or session of a rule with a Keep
)

func windowKey(id uint64, kind byte, tenant, name string) string {
	if kind == windowDefinition {
		return string(append(binary.LittleEndian.AppendUint64(nil, id), kind))
	}
	return string(append(state.AppendRuleKey(nil, id, kind, tenant), name...))
}

// cutWindowKey takes a key apart; kind is 0 when it is none.
func cutWindowKey(key string) (id uint64, kind byte, tenant, name string) {
	if len(key) == 9 && key[8] == windowDefinition {
		return state.RuleOf(key), windowDefinition, "", ""
	}
	kind, tenant, name = state.CutRuleKey(key)
	switch kind {
	case windowContents, windowSessions:
	case windowKept:
		if len(name) < startBytes {
			return 0, 0, "", ""
		}
	case windowProgress:
		if name != "" {
			return 0, 0, "", ""
		}
	default:
		return 0, 0, "", ""
	}
	return state.RuleOf(key), kind, tenant, name
}

// appendWindows appends what is kept of a key: docs/format/state.md, without the contents of slices unless whole.
func appendWindows(dst []byte, k *keptWindows, whole bool) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(k.emitted)))
	for _, m := range k.emitted {
		dst = appendWindow(dst, m.Window)
		dst = binary.AppendUvarint(dst, uint64(m.Version))
	}
	dst = binary.AppendUvarint(dst, uint64(len(k.parts)))
	for i := range k.parts {
		dst = appendWindow(dst, k.parts[i].window)
		if whole {
			dst = k.parts[i].value.append(dst)
		}
	}
	return dst
}

func appendWindow(dst []byte, w windows.Window) []byte {
	return binary.AppendVarint(binary.AppendVarint(dst, w.Start), w.End-w.Start)
}

// append writes the value; nil, which no window needs any more, is one without events.
func (v *windowValue) append(dst []byte) []byte {
	if v == nil {
		v = new(windowValue)
	}
	v.begin()
	before := len(dst)
	dst = binary.AppendUvarint(dst, v.Count)
	dst = state.AppendFloat(state.AppendFloat(state.AppendFloat(dst, v.Sum), v.Min), v.Max)
	dst = v.Sketch.AppendDD(dst)
	v.logged = uint32(len(dst) - before)
	return dst
}

// inLog is how many bytes the contents take in the log.
func (v *windowValue) inLog() int {
	if v == nil {
		return len(noContents)
	}
	return int(v.logged)
}

var noContents = (*windowValue)(nil).append(nil)

var errWindows = errors.New("contents of windows end early, or go on")

// decodeWindows reads what appendWindows wrote.
func decodeWindows(src []byte) (*keptWindows, error) {
	r, k := windowReader{state.Reader{Rest: src}}, new(keptWindows)
	for n := r.Uvarint(); n > 0 && !r.Bad; n-- {
		k.emitted = append(k.emitted, windows.Emitted{Window: r.window(), Version: uint32(r.Uvarint())})
	}
	for n := r.Uvarint(); n > 0 && !r.Bad; n-- {
		k.parts = append(k.parts, keptPart{window: r.window(), value: r.value()})
	}
	if r.Bad || len(r.Rest) > 0 {
		return nil, errWindows
	}
	return k, nil
}

type windowReader struct{ state.Reader }

func (r *windowReader) window() windows.Window {
	start, size := r.Varint(), r.Varint()
	r.Bad = r.Bad || size <= 0
	return windows.Window{Start: start, End: start + size}
}

func (r *windowReader) value() *windowValue {
	v, before := new(windowValue), len(r.Rest)
	v.begin()
	v.Count = r.Uvarint()
	v.Sum, v.Min, v.Max = r.Float(), r.Float(), r.Float()
	n, err := v.Sketch.DecodeDD(r.Rest)
	if err != nil {
		n = 0
	}
	r.Skip(n)
	v.logged = uint32(before - len(r.Rest))
	return v
}
