package windows

import (
	"errors"
	"fmt"
	"time"
)

var _ Aligned = Calendar{}

// Unit is a length of the calendar.
type Unit uint8

// The units there are. A week begins on Monday (ISO 8601).
const (
	Day Unit = iota + 1
	Week
	Month
)

var unitNames = [...]string{Day: "day", Week: "week", Month: "month"}

// String is the name of the unit: "day".
func (u Unit) String() string {
	if u < Day || u > Month {
		return fmt.Sprintf("unit(%d)", uint8(u))
	}
	return unitNames[u]
}

// ParseUnit reads "day", "week" or "month".
func ParseUnit(s string) (Unit, error) {
	for u := Day; u <= Month; u++ {
		if s == u.String() {
			return u, nil
		}
	}
	return 0, fmt.Errorf("calendar unit %q: want day, week or month", s)
}

// Calendar cuts event time into the days, weeks or months of a time zone, for numbers that people or invoices count by.
// A day has 23 or 25 hours when clocks change. Where a change leaves out midnight the day begins with the first moment
// after; where midnight comes twice, with the first. So windows never overlap and leave no gap.
type Calendar struct {
	Unit Unit
	Zone *time.Location
}

// Validate says what is wrong with values that came from outside. The other methods take a valid Calendar.
func (w Calendar) Validate() error {
	if w.Unit < Day || w.Unit > Month {
		return fmt.Errorf("calendar window of %s: want day, week or month", w.Unit)
	}
	if w.Zone == nil {
		return errors.New("calendar window without a time zone: want one, such as Europe/Paris or UTC")
	}
	return nil
}

// Assign returns the window of an event at t.
func (w Calendar) Assign(t int64) Window {
	year, month, day := time.Unix(0, t).In(w.Zone).Date()
	switch w.Unit {
	case Week:
		weekday := time.Date(year, month, day, 0, 0, 0, 0, time.UTC).Weekday()
		day -= (int(weekday) + 6) % 7
	case Month:
		day = 1
	}
	at := Window{Start: w.midnight(year, month, day)}
	// A change of clocks around midnight can show the date of a day that has not begun, or has ended.
	if t < at.Start {
		year, month, day = w.step(year, month, day, -1)
		at.Start = w.midnight(year, month, day)
	}
	at.End = w.midnight(w.step(year, month, day, 1))
	if t >= at.End {
		year, month, day = w.step(year, month, day, 1)
		at = Window{Start: at.End, End: w.midnight(w.step(year, month, day, 1))}
	}
	return at
}

// step moves a first day by n units. Days beyond their month's end are normalised by midnight.
func (w Calendar) step(year int, month time.Month, day, n int) (int, time.Month, int) {
	switch w.Unit {
	case Month:
		return year, month + time.Month(n), day
	case Week:
		return year, month, day + 7*n
	default:
		return year, month, day + n
	}
}

// midnight is the first moment of a date. time.Date does not say which it takes where midnight is left out or comes
// twice.
func (w Calendar) midnight(year int, month time.Month, day int) int64 {
	wall := time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
	noon := time.Date(year, month, day, 12, 0, 0, 0, w.Zone)
	_, offset := noon.Zone()
	at := wall.Add(-time.Duration(offset) * time.Second)
	since, _ := noon.ZoneBounds()
	if since.IsZero() {
		return at.UnixNano()
	}
	_, before := since.Add(-1).Zone()
	earlier := wall.Add(-time.Duration(before) * time.Second)
	switch {
	case earlier.Before(since) && since.Sub(earlier) <= 12*time.Hour:
		return earlier.UnixNano()
	case at.Before(since):
		return since.UnixNano()
	}
	return at.UnixNano()
}

// Slice implements Aligned: a calendar window is its own slice.
func (w Calendar) Slice(t int64) Window { return w.Assign(t) }

// Span implements Aligned.
func (w Calendar) Span(slice Window) (first, last Window) { return slice, slice }

// Next implements Aligned.
func (w Calendar) Next(at Window) Window { return w.Assign(at.End) }
