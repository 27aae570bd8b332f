package pipeline

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/vigie-io/vigie/pkg/windows"
)

// openWindows are the open windows of a rule, by tenant and series.
type openWindows interface {
	Add(tenant, key string, t int64, update func(*windowValue)) windows.Verdict
	Advance(tenant string, watermark int64, emit func(*windows.Emission[windowValue]))
	// missed calls each for the windows of t that have been emitted, after Add said verdict of an event at t that is diverted.
	missed(tenant string, t int64, verdict windows.Verdict, each func(w windows.Window, tooLate bool))
	Next(tenant string) int64
	Bound(tenant string, maxSlices int, maxBytes int64)
	Usage(tenant string) (keys, parts int, bytes int64)
	RestoreProgress(tenant string, p windows.Progress)
	// contents is the kind of the keys under which the contents of its windows are kept.
	contents() byte
	// changes tells what changed since the last call, as state keeps it; a nil value is gone.
	changes(progress func(tenant string, p windows.Progress), key func(tenant, name string, value []byte))
	// restore takes what changes told, which has been checked.
	restore(tenant, name string, value []byte)
}

var windowValues = windows.Accumulator[windowValue]{Merge: (*windowValue).mergeFrom, Bytes: (*windowValue).bytes}

type alignedWindows struct{ *windows.Store[windowValue] }

func (alignedWindows) contents() byte { return windowContents }

func (s alignedWindows) changes(progress func(tenant string, p windows.Progress), key func(tenant, name string, value []byte)) {
	s.Changes(progress, func(tenant, name string, e *windows.Entry[windowValue]) {
		if e == nil {
			key(tenant, name, nil)
		} else {
			key(tenant, name, appendWindows(nil, e))
		}
	})
}

func (s alignedWindows) restore(tenant, name string, value []byte) {
	e, err := decodeWindows(value)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	s.Restore(tenant, name, e)
}

func (s alignedWindows) missed(tenant string, t int64, _ windows.Verdict, each func(w windows.Window, tooLate bool)) {
	s.Missed(tenant, t, each)
}

type sessionWindows struct {
	*windows.Sessions[windowValue]
	gap int64
}

func (sessionWindows) contents() byte { return windowSessions }

// Add counts in whole seconds, as storage does for the bounds of windows.
func (s sessionWindows) Add(tenant, key string, t int64, update func(*windowValue)) windows.Verdict {
	return s.Sessions.Add(tenant, key, t-t%int64(time.Second), update)
}

// missed takes the session that the event would have begun.
func (s sessionWindows) missed(_ string, t int64, verdict windows.Verdict, each func(w windows.Window, tooLate bool)) {
	if verdict == windows.Diverted || verdict == windows.TooLate {
		t -= t % int64(time.Second)
		each(windows.Window{Start: t, End: t + s.gap}, verdict == windows.TooLate)
	}
}

func (s sessionWindows) changes(progress func(tenant string, p windows.Progress), key func(tenant, name string, value []byte)) {
	s.Changes(progress, func(tenant, name string, sessions []windows.EntrySession[windowValue]) {
		if len(sessions) == 0 {
			key(tenant, name, nil)
		} else {
			key(tenant, name, appendSessions(nil, sessions))
		}
	})
}

func (s sessionWindows) restore(tenant, name string, value []byte) {
	sessions, err := decodeSessions(value)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	s.Restore(tenant, name, sessions)
}

// appendSessions appends the sessions of a key: docs/format/state.md. It is called after Advance, when none is late.
func appendSessions(dst []byte, sessions []windows.EntrySession[windowValue]) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(sessions)))
	for i := range sessions {
		dst = appendWindow(dst, sessions[i].Window)
		dst = binary.AppendUvarint(dst, uint64(sessions[i].Version))
		dst = sessions[i].Value.append(dst)
	}
	return dst
}

var errSessions = errors.New("contents of sessions end early, go on, or overlap")

// decodeSessions reads what appendSessions wrote.
func decodeSessions(src []byte) (sessions []windows.EntrySession[windowValue], err error) {
	r := windowReader{src: src}
	for n := r.uvarint(); n > 0 && !r.bad; n-- {
		e := windows.EntrySession[windowValue]{Window: r.window(), Version: uint32(r.uvarint())}
		e.Value = r.value()
		if last := len(sessions) - 1; last >= 0 && sessions[last].Window.End > e.Window.Start {
			r.bad = true
		}
		sessions = append(sessions, e)
	}
	if r.bad || len(r.src) > 0 || len(sessions) == 0 {
		return nil, errSessions
	}
	return sessions, nil
}
