package rules

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"
)

// State is where an alert is in its life.
type State uint8

// States of an alert.
const (
	Inactive State = iota
	Pending        // its condition holds, not yet for long enough
	Firing
)

// String is the state's name in messages and documents.
func (s State) String() string {
	switch s {
	case Inactive:
		return "inactive"
	case Pending:
		return "pending"
	case Firing:
		return "firing"
	}
	return fmt.Sprintf("State(%d)", uint8(s))
}

// Status is all that has to be remembered of an alert. The zero Status is one that is inactive. Times are Unix
// nanoseconds of event time.
type Status struct {
	State State
	// Active is when the condition began to hold, Fired when the alert began to fire. 0 in earlier states.
	Active, Fired int64
	// Clear is, of a firing alert, since when it is to be cleared; 0 while it is not.
	Clear int64
}

// Lifecycle says how long a condition has to hold to be an alert, and to be none any more.
type Lifecycle struct {
	For        time.Duration // 0: fire at once
	ClearAfter time.Duration // 0: resolve at once
}

// Next is the status at a later time, when the condition holds or not and, of a firing alert, whether it is clear:
// another condition, so that a value that swings about a threshold does not fire each time. An alert that has fired
// ends as the zero Status. A firing alert whose condition holds is not clear, whatever clear says.
func (l Lifecycle) Next(s Status, at int64, holds, clear bool) Status {
	if s.State == Firing {
		switch {
		case holds || !clear:
			s.Clear = 0
			return s
		case s.Clear == 0:
			s.Clear = at
		}
		if at-s.Clear >= int64(l.ClearAfter) {
			return Status{}
		}
		return s
	}
	if !holds {
		return Status{}
	}
	if s.State == Inactive {
		s = Status{State: Pending, Active: at}
	}
	if at-s.Active >= int64(l.For) {
		s.State, s.Fired = Firing, at
	}
	return s
}

// Due is the time at which Next changes the status while the conditions stay as they were at the last Next; MaxInt64 is
// never.
func (l Lifecycle) Due(s Status) int64 {
	switch {
	case s.State == Pending:
		return s.Active + int64(l.For)
	case s.State == Firing && s.Clear != 0:
		return s.Clear + int64(l.ClearAfter)
	}
	return math.MaxInt64
}

// statusBytes is the length of AppendBinary's form.
const statusBytes = 1 + 3*8

// AppendBinary appends the status in its fixed form of 25 bytes: state, then Active, Fired and Clear, little endian.
func (s Status) AppendBinary(dst []byte) []byte {
	dst = append(dst, byte(s.State))
	for _, t := range []int64{s.Active, s.Fired, s.Clear} {
		dst = binary.LittleEndian.AppendUint64(dst, uint64(t))
	}
	return dst
}

// DecodeStatus reads what AppendBinary wrote, and returns what follows it.
func DecodeStatus(src []byte) (s Status, rest []byte, err error) {
	if len(src) < statusBytes {
		return Status{}, nil, fmt.Errorf("status of an alert: got %d bytes, want %d", len(src), statusBytes)
	}
	s.State = State(src[0])
	for i, t := range []*int64{&s.Active, &s.Fired, &s.Clear} {
		*t = int64(binary.LittleEndian.Uint64(src[1+8*i:]))
	}
	if s.State > Firing || (s.State == Inactive) != (s.Active == 0) || (s.State == Firing) != (s.Fired != 0) ||
		s.Clear != 0 && s.State != Firing {
		return Status{}, nil, fmt.Errorf("status of an alert: %x is none", src[:statusBytes])
	}
	return s, src[statusBytes:], nil
}
