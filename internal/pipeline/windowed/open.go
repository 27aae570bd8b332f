package windowed

import (
	"cmp"
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"github.com/vigie-io/vigie/internal/pipeline/state"
	"github.com/vigie-io/vigie/pkg/windows"
)

// openWindows are the open windows of a rule, by tenant and series.
type openWindows interface {
	Add(tenant, key string, t int64, update func(*contents)) windows.Verdict
	Advance(tenant string, watermark int64, emit func(*windows.Emission[contents]))
	// missed calls each for the windows of t that have been emitted, after Add said verdict of an event at t that is
	// diverted.
	missed(tenant string, t int64, verdict windows.Verdict, each func(w windows.Window, tooLate bool))
	Next(tenant string) int64
	Bound(tenant string, maxSlices int, maxBytes int64)
	Usage(tenant string) (keys, parts int, bytes int64)
	Progress(tenant string) windows.Progress
	RestoreProgress(tenant string, p windows.Progress)
	Commit()
	Rollback()
	// contents is the kind of the keys under which the contents of its windows are kept.
	contents() byte
	// changes tells what is not as it was at the last Commit.
	changes(progress func(tenant string, was, is windows.Progress), key func(tenant, name string, was, is *keptWindows))
	// kept is what is kept of a key.
	kept(tenant, name string) *keptWindows
	// restore sets what is kept of a key in place of what it had. Its values belong to the store afterwards.
	restore(tenant, name string, k *keptWindows)
	// put adds a slice, or a session that touches no other, to those of a key. None of its windows has been emitted.
	put(tenant, name string, p *keptPart)
	Reset()
	// encode appends what is kept of a key in one record, without the contents of its parts unless whole.
	encode(dst []byte, k *keptWindows, whole bool) []byte
}

// keptWindows are what is kept of a key: slices, and the windows of them that have been emitted; or sessions.
type keptWindows struct {
	emitted []windows.Emitted
	parts   []keptPart // ascending
}

func (k *keptWindows) empty() bool { return len(k.emitted)+len(k.parts) == 0 }

// find returns where the part is, or would be, that begins at start.
func (k *keptWindows) find(start int64) (int, bool) {
	return slices.BinarySearchFunc(k.parts, start,
		func(p keptPart, start int64) int { return cmp.Compare(p.window.Start, start) })
}

type keptPart struct {
	window  windows.Window
	version uint32 // of a session; 0 when it is not emitted yet
	value   *contents
}

var windowValues = windows.Accumulator[contents]{Merge: (*contents).mergeFrom, Bytes: (*contents).bytes}

type alignedWindows struct{ *windows.Store[contents] }

func (alignedWindows) contents() byte { return kindSlices }

func (s alignedWindows) changes(progress func(tenant string, was, is windows.Progress),
	key func(tenant, name string, was, is *keptWindows)) {
	s.Changes(progress, func(tenant, name string, was, is *windows.Entry[contents]) {
		key(tenant, name, keptSlices(was), keptSlices(is))
	})
}

func (s alignedWindows) kept(tenant, name string) *keptWindows {
	return keptSlices(s.Entry(tenant, name))
}

func keptSlices(e *windows.Entry[contents]) *keptWindows {
	if e == nil {
		return new(keptWindows)
	}
	k := &keptWindows{emitted: e.Emitted, parts: make([]keptPart, len(e.Slices))}
	for i := range e.Slices {
		k.parts[i] = keptPart{window: e.Slices[i].Window, value: e.Slices[i].Value}
	}
	return k
}

func (s alignedWindows) restore(tenant, name string, k *keptWindows) {
	e := windows.Entry[contents]{Emitted: k.emitted, Slices: make([]windows.EntrySlice[contents], len(k.parts))}
	for i := range k.parts {
		e.Slices[i] = windows.EntrySlice[contents]{Window: k.parts[i].window, Value: k.parts[i].value}
	}
	s.Restore(tenant, name, e)
}

func (s alignedWindows) put(tenant, name string, p *keptPart) {
	s.Add(tenant, name, p.window.Start, func(v *contents) { v.mergeFrom(p.value) })
}

func (alignedWindows) encode(dst []byte, k *keptWindows, whole bool) []byte {
	return appendWindows(dst, k, whole)
}

func (s alignedWindows) missed(tenant string, t int64, _ windows.Verdict, each func(w windows.Window, tooLate bool)) {
	s.Missed(tenant, t, each)
}

type sessionWindows struct {
	*windows.Sessions[contents]
	gap int64
}

func (sessionWindows) contents() byte { return kindSessions }

// Add counts in whole seconds, as storage does for the bounds of windows.
func (s sessionWindows) Add(tenant, key string, t int64, update func(*contents)) windows.Verdict {
	return s.Sessions.Add(tenant, key, t-t%int64(time.Second), update)
}

// missed takes the session that the event would have begun.
func (s sessionWindows) missed(_ string, t int64, verdict windows.Verdict, each func(w windows.Window, tooLate bool)) {
	if verdict == windows.Diverted || verdict == windows.TooLate {
		t -= t % int64(time.Second)
		each(windows.Window{Start: t, End: t + s.gap}, verdict == windows.TooLate)
	}
}

func (s sessionWindows) changes(progress func(tenant string, was, is windows.Progress),
	key func(tenant, name string, was, is *keptWindows)) {
	s.Changes(progress, func(tenant, name string, was, is []windows.EntrySession[contents]) {
		key(tenant, name, keptSessions(was), keptSessions(is))
	})
}

func (s sessionWindows) kept(tenant, name string) *keptWindows {
	return keptSessions(s.Entry(tenant, name))
}

func keptSessions(sessions []windows.EntrySession[contents]) *keptWindows {
	k := &keptWindows{parts: make([]keptPart, len(sessions))}
	for i := range sessions {
		k.parts[i] = keptPart{sessions[i].Window, sessions[i].Version, sessions[i].Value}
	}
	return k
}

func (s sessionWindows) restore(tenant, name string, k *keptWindows) {
	sessions := make([]windows.EntrySession[contents], len(k.parts))
	for i := range k.parts {
		sessions[i] = windows.EntrySession[contents]{Window: k.parts[i].window,
			Version: k.parts[i].version, Value: k.parts[i].value}
	}
	s.Restore(tenant, name, sessions)
}

func (s sessionWindows) put(tenant, name string, p *keptPart) {
	s.restore(tenant, name, &keptWindows{parts: []keptPart{*p}})
}

func (sessionWindows) encode(dst []byte, k *keptWindows, whole bool) []byte {
	return appendSessions(dst, k, whole)
}

// appendSessions appends the sessions of a key: docs/format/state.md, without their contents unless whole. It is called
// after Advance, when none is late.
func appendSessions(dst []byte, k *keptWindows, whole bool) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(k.parts)))
	for i := range k.parts {
		dst = appendWindow(dst, k.parts[i].window)
		dst = binary.AppendUvarint(dst, uint64(k.parts[i].version))
		if whole {
			dst = k.parts[i].value.append(dst)
		}
	}
	return dst
}

var errSessions = errors.New("contents of sessions end early, go on, or overlap")

// decodeSessions reads what appendSessions wrote.
func decodeSessions(src []byte) (*keptWindows, error) {
	r, k := reader{state.Reader{Rest: src}}, new(keptWindows)
	for n := r.Uvarint(); n > 0 && !r.Bad; n-- {
		p := keptPart{window: r.window(), version: uint32(r.Uvarint())}
		p.value = r.value()
		if last := len(k.parts) - 1; last >= 0 && k.parts[last].window.End > p.window.Start {
			r.Bad = true
		}
		k.parts = append(k.parts, p)
	}
	if r.Bad || len(r.Rest) > 0 || len(k.parts) == 0 {
		return nil, errSessions
	}
	return k, nil
}
