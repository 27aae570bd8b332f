package promql

import (
	"math"
	"time"
)

const (
	// staleProgress is when a partition that reports nothing stops holding everyone back: its worker is gone
	// or the partition is.
	staleProgress = 10 * time.Minute
	// idleDelay is how far behind the partitions a tenant without newer events is taken to be.
	idleDelay = 15 * time.Second
	// silentTenant is by when the stream has surely closed the windows of a tenant that is silent. It is longer than
	// the stream's idle_after, and not counted as silence.
	silentTenant = 2 * time.Minute
	// unknownDelay is used when no partition has ever reported.
	unknownDelay = 30 * time.Second
)

type partition struct {
	topic  string
	number int32
}

// watermark returns the latest time (Unix ms, a multiple of 10 s) up to which every window of the tenant is
// complete: C is the least of the partitions' own rows, W the least over the partitions that have seen the tenant
// of its row there but not less than C − 15 s, and windows that end after min(C, W) may still change by events in
// order. A tenant that no partition has seen has nothing to wait for.
// Rows not updated for ten minutes do not count, unless there are no others: then nothing newer was processed.
func watermark(rows []Progress, now int64) int64 {
	tenant := make(map[partition]int64)
	for _, r := range rows {
		if r.Tenant != "" {
			tenant[partition{r.Topic, r.Partition}] = r.Time
		}
	}
	c := processed(rows, now)
	w := c
	for p := range counting(rows, now) {
		if t, seen := tenant[p]; seen {
			w = min(w, max(t, c-idleDelay.Milliseconds()))
		}
	}
	return floor(w, Tier10s.millis())
}

// processed is the time (Unix ms) before which everything in Kafka has been processed and is stored.
func processed(rows []Progress, now int64) int64 {
	own := counting(rows, now)
	if len(own) == 0 {
		return now - unknownDelay.Milliseconds()
	}
	c := int64(math.MaxInt64)
	for _, r := range own {
		c = min(c, r.Time)
	}
	return c
}

// coarseUpTo returns the time (Unix ms, a multiple of 1 m, not after clamp) before which the tiers of a minute and an hour
// hold all that the tier of 10 s does; 0 when nothing is known of them.
//
// All that was appended before the least time that the partitions have in those tiers is there, and of what was appended
// later no event in order is older than that by more than idleDelay. This holds for every tenant: for one whose first
// events came a moment ago, so that no progress tells of him in either, and for one of whom there are backfills alone.
// So the rows of the tenant, which could take it further by idleDelay at most, are not looked at. An event that comes
// later than that changes the wider tiers when it is merged, some time after the tier of 10 s.
//
// Partitions count as they do for the watermark, however long ago the wider tiers heard of them: as long as no results
// are merged they lack what the tier of 10 s has. Where no partition has ever reported there are only backfills, which
// are in all tiers at once.
func coarseUpTo(rows []Progress, now, clamp int64) int64 {
	for _, r := range counting(rows, now) {
		if r.Coarse == 0 {
			return 0
		}
		clamp = min(clamp, r.Coarse-idleDelay.Milliseconds())
	}
	return max(0, floor(clamp, Tier1m.millis()))
}

// counting are the partitions' own rows, of those partitions that count.
func counting(rows []Progress, now int64) map[partition]Progress {
	own := make(map[partition]Progress)
	collect := func(since int64) {
		for _, r := range rows {
			if r.Tenant == "" && r.Updated >= since {
				own[partition{r.Topic, r.Partition}] = r
			}
		}
	}
	if collect(now - staleProgress.Milliseconds()); len(own) == 0 {
		collect(math.MinInt64)
	}
	return own
}

// closedUpTo returns the time (Unix ms) up to which the closed windows of a tenant are there from every partition: the
// least of the tenant's own watermarks, as it is those that close windows, and not after clamp. Where the tenant is
// silent his clock is taken to go on, as the stream does, but later by silentTenant.
func closedUpTo(rows []Progress, now, clamp int64) int64 {
	own := counting(rows, now)
	for _, r := range rows {
		through, counts := own[partition{r.Topic, r.Partition}]
		if r.Tenant != "" && counts {
			clamp = min(clamp, r.Time+max(0, through.Time-r.Updated-silentTenant.Milliseconds()))
		}
	}
	return clamp
}

func (t Tier) millis() int64 { return time.Duration(t).Milliseconds() }

// floor rounds t down to a multiple of unit, also below zero.
func floor(t, unit int64) int64 {
	r := t % unit
	if r < 0 {
		r += unit
	}
	return t - r
}

// ceil rounds t up to a multiple of unit.
func ceil(t, unit int64) int64 { return floor(t+unit-1, unit) }
