package simulation

import (
	"fmt"
	"slices"
	"time"
)

// claims compares what progress says with the rows that are there at that moment: every record that was appended to a
// partition before the time that is told of it has to be counted by what is stored, or to have been put aside.
type claims struct {
	open  []published     // of which no progress has been told
	due   map[Key]uint64  // events that progress has spoken of, by row
	aside map[Key]uint64  // events of blocks that were refused
	told  map[place]int64 // Unix milliseconds
	ahead string          // the first row that was short, "" when none was
}

type place struct {
	topic     string
	partition int32
}

// published are equal events of one record, acknowledged at a time (Unix milliseconds).
type published struct {
	place
	at    int64
	key   Key
	count uint64
}

func newClaims() claims {
	return claims{due: map[Key]uint64{}, aside: map[Key]uint64{}, told: map[place]int64{}}
}

// report notes progress of a partition. count is what is stored of a row.
func (c *claims) report(of place, millis int64, count func(Key) uint64) {
	c.told[of] = max(c.told[of], millis)
	var rows []Key
	c.open = slices.DeleteFunc(c.open, func(p published) bool {
		if p.place != of || p.at >= c.told[of] {
			return false
		}
		c.due[p.key] += p.count
		rows = append(rows, p.key)
		return true
	})
	for _, key := range rows {
		if has := count(key) + c.aside[key]; has < c.due[key] && c.ahead == "" {
			c.ahead = fmt.Sprintf("progress of %s/%d (%s) is ahead of its rows: %s has %d of the %d events told of",
				of.topic, of.partition, time.UnixMilli(millis).UTC().Format(time.TimeOnly), key, has, c.due[key])
		}
	}
}

// published notes events that a record holds, in the finest tier.
func (s *Server) published(p published) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n, t := range tiers {
		p.key.Table, p.key.Start = "rollups_"+t.name, p.key.Start/t.width*t.width
		s.claims[n].open = append(s.claims[n].open, p)
	}
}

// ahead says where progress was told before its rows were stored, "" when it never was.
func (s *Server) ahead() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n := range s.claims {
		if s.claims[n].ahead != "" {
			return s.claims[n].ahead
		}
	}
	return ""
}

// untold names an event that progress has not spoken of, "" when there is none.
func (s *Server) untold() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n := range s.claims {
		if len(s.claims[n].open) > 0 {
			p := s.claims[n].open[0]
			return fmt.Sprintf("%s/%d: %s", p.topic, p.partition, p.key)
		}
	}
	return ""
}
