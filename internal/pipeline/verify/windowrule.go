package verify

import (
	"fmt"
	"time"
)

// stretch is [start, end) in Unix seconds.
type stretch struct{ start, end int64 }

// windowRule is a rollup with windows.
type windowRule struct {
	*rule
	id       uint64
	lateness int64 // nanoseconds
	zone     *time.Location
	// midnights are those that have been looked for.
	midnights map[time.Time]int64
}

func newWindowRule(c *rule) (*windowRule, error) {
	w := &windowRule{rule: c, id: c.RuleID(), lateness: int64(c.Window.AllowedLateness), midnights: map[time.Time]int64{}}
	if cal := c.Window.Calendar; cal != nil {
		zone, err := time.LoadLocation(cal.Zone)
		if err != nil {
			return nil, fmt.Errorf("rollup %s: %w", c.Name, err)
		}
		w.zone = zone
	}
	return w, nil
}

func (w *windowRule) sessions() bool { return w.Window.Session != nil }

func (w *windowRule) diverts() bool { return w.Window.Late == "divert" }

// around are the windows that an event at t lies in, Unix seconds; of sessions the one that it makes alone.
func (w *windowRule) around(t int64) (list []stretch) {
	size := int64(w.Window.Tumbling / time.Second)
	every := size
	switch {
	case w.Window.Session != nil:
		return []stretch{{t, t + int64(w.Window.Session.Gap/time.Second)}}
	case w.Window.Calendar != nil:
		return []stretch{w.date(t)}
	case w.Window.Hopping != nil:
		size, every = int64(w.Window.Hopping.Size/time.Second), int64(w.Window.Hopping.Every/time.Second)
	}
	for start := floor(t, every); start > t-size; start -= every {
		list = append(list, stretch{start, start + size})
	}
	return list
}

// date is the day, week or month that t is in.
func (w *windowRule) date(t int64) stretch {
	year, month, day := time.Unix(t, 0).In(w.zone).Date()
	first := func(n int) time.Time { return time.Date(year, month, day+n, 0, 0, 0, 0, time.UTC) }
	switch w.Window.Calendar.Unit {
	case "week":
		monday := day - (int(time.Date(year, month, day, 0, 0, 0, 0, time.UTC).Weekday())+6)%7
		first = func(n int) time.Time { return time.Date(year, month, monday+7*n, 0, 0, 0, 0, time.UTC) }
	case "month":
		first = func(n int) time.Time { return time.Date(year, month+time.Month(n), 1, 0, 0, 0, 0, time.UTC) }
	}
	for n := 0; ; {
		switch s := (stretch{w.midnight(first(n)), w.midnight(first(n + 1))}); {
		case t < s.start: // clocks that go back over midnight show a date twice
			n--
		case t >= s.end:
			n++
		default:
			return s
		}
	}
}

// midnight is the first moment that has the date in the zone, or a later one, found by looking: some dates have no
// midnight, some two, and a few places have left dates out.
func (w *windowRule) midnight(date time.Time) int64 {
	if at, known := w.midnights[date]; known {
		return at
	}
	before := func(t int64) bool {
		year, month, day := time.Unix(t, 0).In(w.zone).Date()
		return time.Date(year, month, day, 0, 0, 0, 0, time.UTC).Before(date)
	}
	at := date.Unix() - 36*3600
	for before(at + 60) {
		at += 60
	}
	for before(at) {
		at++
	}
	w.midnights[date] = at
	return at
}

// tide says how far the clock of a tenant in a partition is, Unix nanoseconds. Which of the events of an epoch came
// before its end, when windows close, no record says: so there is a time that it has certainly passed, and one that it
// has not.
type tide struct {
	newest   int64 // event time of what has certainly counted
	possible int64 // or may have
	most     int64 // to where a silent tenant's clock may have gone on, or possible
	heard    int64 // timestamp of the last record
}

// clockSkew is how far the clocks of brokers and workers may be apart.
const clockSkew = 5 * time.Second

// silent lets the clock of a tenant that was not heard of go on until now.
func (w *tide) silent(now int64, after time.Duration) {
	if silence := now - w.heard + int64(clockSkew); w.heard > 0 && after > 0 && silence >= int64(after) {
		w.most = max(w.most, w.possible+silence)
	}
}

func (w *tide) take(e *event) {
	w.possible = max(w.possible, e.metric.Time)
	w.most, w.heard = max(w.most, w.possible), max(w.heard, e.timestamp)
	if !e.unknown {
		w.newest = max(w.newest, e.metric.Time)
	}
}
