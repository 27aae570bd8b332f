package promql

import (
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/internal/tenants"
)

// lane is a source partition: its records, and how far they are in the tier of 10 s and in the wider ones. Rows are stored
// before the progress that tells of them.
type lane struct {
	number         int32
	appended, time []int64 // of each record: when it came, and its event time
	fine, merged   int     // records in the tiers
	row            Progress
}

// drawLane draws records in order: none is older than idleDelay when it is appended.
func drawLane(r *rand.Rand, number int32, now int64) *lane {
	l := &lane{number: number}
	at := now - r.Int64N(20*60_000)
	for range r.IntN(30) {
		at += r.Int64N(40_000)
		l.appended = append(l.appended, at)
		l.time = append(l.time, at-r.Int64N(idleDelay.Milliseconds()+5000)+5000)
	}
	l.fine = r.IntN(len(l.time) + 1)
	l.merged = r.IntN(l.fine + 1)
	if r.IntN(3) == 0 {
		l.merged = l.fine
	}
	l.row = Progress{Topic: "m", Partition: number, Time: l.before(r, l.fine), Updated: now}
	switch {
	case l.merged == l.fine && r.IntN(2) == 0:
		l.row.Coarse = l.row.Time
	case l.merged > 0 || r.IntN(2) == 0:
		l.row.Coarse = min(l.before(r, l.merged), l.row.Time)
	}
	if r.IntN(5) == 0 {
		l.row.Updated -= 2 * staleProgress.Milliseconds()
	}
	return l
}

// before draws a time before which no record was appended but the first n.
func (l *lane) before(r *rand.Rand, n int) int64 {
	if len(l.appended) == 0 {
		return 1 + r.Int64N(60_000)
	}
	published := n - r.IntN(min(n, 2)+1)
	if published == len(l.appended) {
		return l.appended[published-1] + 1 + r.Int64N(60_000)
	}
	return l.appended[published] - r.Int64N(5000)
}

// No window that the wider tiers are said to have lacks a row that the tier of 10 s has, of any tenant, wherever each
// partition is; and when nothing is behind, they are said to have all but the last minute or so.
func TestCoarseHasAllRows(t *testing.T) {
	reached := 0
	rapid.Check(t, func(t *rapid.T) {
		now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC).UnixMilli()
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		var (
			lanes []*lane
			rows  []Progress
		)
		caughtUp := true
		for i := range 1 + r.IntN(4) {
			l := drawLane(r, int32(i), now)
			lanes, rows = append(lanes, l), append(rows, l.row)
			caughtUp = caughtUp && l.row.Coarse == l.row.Time
			if r.IntN(2) == 0 {
				own := l.row
				own.Tenant, own.Coarse, own.Time = "acme", 0, own.Time+5000-r.Int64N(65_000)
				rows = append(rows, own)
			}
		}
		clamp := watermark(rows, now)
		got := coarseUpTo(rows, now, clamp)
		if got < 0 || got > max(0, clamp) || got%Tier1m.millis() != 0 {
			t.Fatalf("got %d, want a multiple of a minute from 0 to %d", got, clamp)
		}
		if least := clamp - idleDelay.Milliseconds() - Tier1m.millis(); caughtUp && got < least {
			t.Fatalf("nothing is behind: got %d, want %d at least", got, least)
		}
		if got > 0 {
			reached++
		}
		counts := counting(rows, now)
		for _, l := range lanes {
			if _, there := counts[partition{"m", l.number}]; !there {
				continue
			}
			for i := l.merged; i < l.fine; i++ {
				if l.time[i] < got {
					t.Fatalf("got %d: partition %d has an event of %d in the tier of 10 s alone", got, l.number, l.time[i])
				}
			}
		}
	})
	if reached == 0 {
		t.Error("the wider tiers never reached anywhere")
	}
}

func TestCoarseUpTo(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC).UnixMilli()
	row := func(p int32, tenant tenants.ID, behind, coarse, quiet time.Duration) Progress {
		r := Progress{Topic: "m", Partition: p, Tenant: tenant, Time: now - behind.Milliseconds(), Updated: now - quiet.Milliseconds()}
		if coarse > 0 {
			r.Coarse = now - coarse.Milliseconds()
		}
		return r
	}
	f := func(why string, want time.Duration, rows ...Progress) {
		t.Helper()
		got := time.Duration(now-coarseUpTo(rows, now, watermark(rows, now))) * time.Millisecond
		if want < 0 {
			want = time.Duration(now) * time.Millisecond
		}
		if got != want {
			t.Errorf("%s: got %s behind, want %s", why, got, want)
		}
	}
	sec, min, nowhere := time.Second, time.Minute, time.Duration(-1)
	f("only backfills", min)
	f("a partition of which nothing is merged", nowhere, row(0, "", 2*sec, 40*sec, 0), row(1, "", 2*sec, 0, 0))
	f("a tenant without events", min, row(0, "", 2*sec, 40*sec, 0))
	f("what came within 15 s may be older", 2*min, row(0, "", 2*sec, 50*sec, 0))
	f("a tenant whose events are not merged yet", 2*min, row(0, "", 2*sec, 50*sec, 0), row(0, "acme", 2*sec, 0, 0))
	f("one partition is behind", 11*min, row(0, "", 2*sec, 40*sec, 0), row(1, "", 2*sec, 10*min, 0))
	f("one that is gone does not count", min, row(0, "", 2*sec, 40*sec, 0), row(1, "", time.Hour, 2*time.Hour, 11*min))
	f("the watermark is behind", 6*min, row(0, "", 5*min+10*sec, 40*sec, 0))
}
