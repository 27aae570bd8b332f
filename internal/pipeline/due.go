package pipeline

import "time"

// maxLetterBytes of dead letters end an epoch early.
const maxLetterBytes = 16 << 20

// underway is the epoch that a run gathers. It begins with its first records.
type underway struct {
	began     time.Time     // zero while there are no records
	waited    time.Duration // for records since then
	caughtUp  time.Time     // when the first of its partitions was read to where its log ended when the epoch began
	late      bool          // its results are late, whatever its length
	longer    bool          // it goes on for that
	pressed   time.Duration // what it may last, as results take long to be stored
	stretched bool          // it goes on for that
	cut       bool          // it is to end: a partition gives nothing more until then
	starved   bool          // the last poll brought nothing
	ending    ending
}

// begin follows the poll that brought the first records.
func (e *underway) begin(now time.Time) {
	e.began, e.waited, e.caughtUp, e.longer, e.stretched = now, 0, time.Time{}, false, false
}

// over follows the commit.
func (e *underway) over() { e.began, e.late, e.cut = time.Time{}, false, false }

// busy is the share of the epoch that ends at end in which the worker had something to do.
func (e *underway) busy(end time.Time) float64 {
	length := end.Sub(e.began)
	return float64(length-e.waited) / float64(max(length, 1))
}

// rollups is the table that the epoch's rollups are for. Those of a worker that is behind go to all tiers at once: its epochs
// are long, so that mergers find little to merge in them, and would cost more than they save.
func (e *underway) rollups() string {
	if e.late || e.longer {
		return TableRollups
	}
	return TablePanes
}

// judge looks at the epoch after a poll that brought records, or none.
func (r *run) judge(came bool, now time.Time) {
	e := &r.epoch
	e.starved = !came
	e.late = came && r.behind(now)
	e.pressed = r.pace.pressed(r.w.cfg.Storing())
}

// behind says whether results of the epoch are late anyway: all its records were in the log before it began, and more
// follow in each of their partitions, or have done so for half of its time. Who waits for results of such an epoch has
// waited, or waited for its record to be read, for half as long as it lasts at least.
func (r *run) behind(now time.Time) bool {
	e := &r.epoch
	for _, t := range r.order {
		switch {
		case t.tally.Records == 0 || t.reach.Next < t.there:
		case t.reach.Next > t.there:
			return false
		case e.caughtUp.IsZero():
			e.caughtUp = now
		}
	}
	return e.caughtUp.IsZero() || now.Sub(e.began) < 2*e.caughtUp.Sub(e.began)
}

// deadline is when the epoch ends: its length after the first records, which is another while results are late or have
// to wait, or when it is time to publish progress.
func (r *run) deadline() time.Time {
	e := &r.epoch
	switch {
	case e.began.IsZero():
		return r.published.Add(r.cfg.ProgressEvery)
	case e.late:
		return e.began.Add(max(e.pressed, r.pace.late))
	}
	return e.began.Add(e.pressed)
}

// patience is how long a poll may wait. A backlog comes at once, or the epoch does not wait for it.
func (r *run) patience(now time.Time) time.Duration {
	left := r.deadline().Sub(now)
	if r.epoch.late {
		left = min(left, r.cfg.Epoch.Min)
	}
	return left
}

// due says why the epoch is to end now, if it is.
func (r *run) due() ending {
	now, e := r.w.cfg.Now(), &r.epoch
	switch {
	case len(r.leaving) > 0:
		return endRevoked
	case e.cut:
		return endCut
	case now.Before(r.deadline()):
	case e.longer && !now.Before(e.began.Add(r.pace.late)):
		return endBacklog
	case e.longer && e.starved:
		return endStarved
	case e.longer:
		return endCaughtUp
	case e.stretched:
		return endPressed
	default:
		return endLength
	}
	if !e.began.IsZero() && !now.Before(e.began.Add(r.pace.length)) {
		e.longer, e.stretched = e.longer || e.late, e.stretched || !e.late
	}
	return r.full()
}

// full says whether the epoch ends because of what its tasks have gathered.
func (r *run) full() ending {
	bytes, letters := int64(0), int64(0)
	for _, t := range r.order {
		b, l := t.Pending()
		bytes, letters = bytes+b, letters+l
	}
	switch {
	case bytes >= int64(r.cfg.Epoch.MaxBytes):
		return endBytes
	case letters >= maxLetterBytes:
		return endLetters
	}
	return ""
}
