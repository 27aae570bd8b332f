package verify

import "slices"

// session is one that the events of a series make, whatever order they came in.
type session struct {
	stretch
	*windowCell
	// tainted: an event came when what it belongs to may have been closed for good. It is then another session, or
	// none.
	tainted bool
}

// sessionList are the sessions of a series in a partition, ascending.
type sessionList []*session

// take puts an event that makes alone the stretch into the sessions it touches, which become one. closed is a time that
// no clock has passed: what ends after it is open, or can be corrected.
func (l *sessionList) take(alone stretch, closed func(end int64) bool, unsure bool, add func(c *windowCell, late bool)) {
	late := closed(alone.end)
	joined := &session{stretch: alone, windowCell: newWindowCell(), tainted: late || unsure}
	rest := (*l)[:0]
	for _, s := range *l {
		if s.end <= alone.start || s.start >= alone.end {
			rest = append(rest, s)
			continue
		}
		joined.start, joined.end = min(joined.start, s.start), max(joined.end, s.end)
		joined.tainted = joined.tainted || s.tainted || closed(s.end)
		joined.merge(s.windowCell)
	}
	add(joined.windowCell, late)
	*l = append(rest, joined)
	slices.SortFunc(*l, func(a, b *session) int { return int(a.start - b.start) })
}

// of is the session that a row lies in, or nil.
func (l sessionList) of(row stretch) *session {
	for _, s := range l {
		if row.start >= s.start && row.end <= s.end {
			return s
		}
	}
	return nil
}
