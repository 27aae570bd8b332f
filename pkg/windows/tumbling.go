// Package windows assigns events to windows of event time, holds their contents until the watermark closes them, and
// corrects them while allowed lateness lasts.
//
// Windows are Tumbling, Hopping and Calendar (days, weeks and months of a time zone), whose bounds are known
// beforehand, and sessions, whose bounds are their events'. Store holds the contents of the former and Sessions of the
// latter, for many tenants and keys. Watermarks follows the progress of event time by key.
//
// Times are int64 Unix nanoseconds; windows are [Start, End). The package has no clock, does no I/O and starts no
// goroutine: watermarks and processing time are passed in, and the same calls give the same results in the same order.
package windows

import (
	"fmt"
	"time"
)

// Window is [Start, End) in Unix nanoseconds.
type Window struct {
	Start, End int64
}

// Tumbling cuts event time into adjacent windows of one size. The first one after 1970 begins at Offset.
type Tumbling struct {
	Size   time.Duration // above zero
	Offset time.Duration // 0 ≤ Offset < Size
}

// Validate says what is wrong with sizes that came from outside. The other methods take a valid Tumbling.
func (w Tumbling) Validate() error {
	if w.Size <= 0 {
		return fmt.Errorf("tumbling window of size %s: want a size above zero", w.Size)
	}
	if w.Offset < 0 || w.Offset >= w.Size {
		return fmt.Errorf("tumbling window offset %s: want 0 <= offset < size (%s)", w.Offset, w.Size)
	}
	return nil
}

// Assign returns the window of an event at t. t must be farther than Size from the ends of int64 (years 1677 and 2262).
func (w Tumbling) Assign(t int64) Window {
	start := w.Start(t)
	return Window{Start: start, End: start + int64(w.Size)}
}

// Start is the start of the window that holds t: the latest border at or before t, also before 1970.
func (w Tumbling) Start(t int64) int64 {
	into := (t - int64(w.Offset)) % int64(w.Size)
	if into < 0 {
		into += int64(w.Size)
	}
	return t - into
}

// End is the end of the window that holds t: the first border after t.
func (w Tumbling) End(t int64) int64 { return w.Start(t) + int64(w.Size) }
