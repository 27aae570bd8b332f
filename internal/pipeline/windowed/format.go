package windowed

import (
	"encoding/binary"
	"errors"

	"github.com/vigie-io/vigie/internal/pipeline/state"
	"github.com/vigie-io/vigie/pkg/windows"
)

// What a key is about, after the rule's id.
const (
	kindDefinition = 'd'
	kindProgress   = 'p'
	kindSlices     = 'k' // slices
	kindSessions   = 's'
	kindKept       = 'v' // one slice or session of a rule with a Keep
)

func stateKey(id uint64, kind byte, tenant, name string) string {
	if kind == kindDefinition {
		return string(append(binary.LittleEndian.AppendUint64(nil, id), kind))
	}
	return string(append(state.AppendRuleKey(nil, id, kind, tenant), name...))
}

// cutKey takes a key apart; kind is 0 when it is none.
func cutKey(key string) (id uint64, kind byte, tenant, name string) {
	if len(key) == 9 && key[8] == kindDefinition {
		return state.RuleOf(key), kindDefinition, "", ""
	}
	kind, tenant, name = state.CutRuleKey(key)
	switch kind {
	case kindSlices, kindSessions:
	case kindKept:
		if len(name) < startBytes {
			return 0, 0, "", ""
		}
	case kindProgress:
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
func (v *contents) append(dst []byte) []byte {
	if v == nil {
		v = new(contents)
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
func (v *contents) inLog() int {
	if v == nil {
		return len(noContents)
	}
	return int(v.logged)
}

var noContents = (*contents)(nil).append(nil)

var errWindows = errors.New("contents of windows end early, or go on")

// decodeWindows reads what appendWindows wrote.
func decodeWindows(src []byte) (*keptWindows, error) {
	r, k := reader{state.Reader{Rest: src}}, new(keptWindows)
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

type reader struct{ state.Reader }

func (r *reader) window() windows.Window {
	start, size := r.Varint(), r.Varint()
	r.Bad = r.Bad || size <= 0
	return windows.Window{Start: start, End: start + size}
}

func (r *reader) value() *contents {
	v, before := new(contents), len(r.Rest)
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
