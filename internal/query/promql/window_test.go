package promql

import (
	"math"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/internal/tenants"
)

type point struct {
	t, st int64
	f     float64
	stale bool
}

func read(it chunkenc.Iterator) point {
	t, f := it.At()
	p := point{t: t, st: it.AtST(), f: f, stale: value.IsStaleNaN(f)}
	if p.stale {
		p.f = 0
	}
	return p
}

func all(it chunkenc.Iterator) (list []point) {
	for it.Next() != chunkenc.ValNone {
		list = append(list, read(it))
	}
	return list
}

// Seek finds what Next would have come to, but for markers of ends long past.
func TestSeekFindsWhatNextFinds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ten, minute := Tier10s.millis(), Tier1m.millis()
		g := &grid{fill: rapid.Int64Range(1, 20).Draw(t, "fill") * ten}
		g.segments = []segment{{Tier1m, 0, 10 * minute}, {Tier10s, 10 * minute, 20 * minute}}
		s := &deltas{grid: g, prior: never}
		if rapid.Bool().Draw(t, "prior") {
			s.prior = -rapid.Int64Range(0, 30).Draw(t, "before") * ten
		}
		for start := int64(0); start < g.to(); start += g.width(start) {
			if rapid.IntRange(0, 9).Draw(t, "active") == 0 {
				s.starts, s.values = append(s.starts, start), append(s.values, float64(start+1))
			}
		}
		whole := all(s.Iterator(nil))
		for i, p := range whole {
			if i > 0 && p.t <= whole[i-1].t {
				t.Fatalf("times %d then %d: want ascending", whole[i-1].t, p.t)
			}
			if !p.stale && p.st != p.t-g.width(p.t-1)+1 {
				t.Fatalf("start timestamp of %d: got %d", p.t, p.st)
			}
		}
		seeker := s.Iterator(nil)
		target := int64(0)
		for target < g.to() {
			target += rapid.Int64Range(1, 5*minute).Draw(t, "seek")
			var want *point
			for i := range whole {
				if whole[i].t >= target && !whole[i].stale {
					want = &whole[i]
					break
				}
			}
			kind := seeker.Seek(target)
			for kind != chunkenc.ValNone && read(seeker).stale {
				kind = seeker.Next()
			}
			if (kind == chunkenc.ValNone) != (want == nil) {
				t.Fatalf("seek %d: got kind %v, want %v", target, kind, want)
			}
			if want == nil {
				break
			}
			if got := read(seeker); got != *want {
				t.Fatalf("seek %d: got %+v, want %+v", target, got, *want)
			}
			target = max(target, want.t)
		}
	})
}

func TestWatermark(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC).UnixMilli()
	row := func(p int32, tenant tenants.ID, behind, quiet time.Duration) Progress {
		return Progress{Topic: "m", Partition: p, Tenant: tenant, Time: now - behind.Milliseconds(), Updated: now - quiet.Milliseconds()}
	}
	f := func(why string, want time.Duration, rows ...Progress) {
		t.Helper()
		if got := time.Duration(now-watermark(rows, now)) * time.Millisecond; got != want {
			t.Errorf("%s: got %s behind, want %s", why, got, want)
		}
	}
	sec, min := time.Second, time.Minute
	f("nothing known", 30*sec)
	f("no events of the tenant", 10*sec, row(0, "", 2*sec, 0))
	f("the tenant is ahead of processing", 10*sec, row(0, "", 2*sec, 0), row(0, "acme", -min, 0))
	f("the tenant's events are late", 20*sec, row(0, "", 2*sec, 0), row(0, "acme", 15*sec, 0))
	f("the tenant fell silent", 20*sec, row(0, "", 2*sec, 0), row(0, "acme", time.Hour, time.Hour))
	f("one partition is behind", 5*min, row(0, "", 2*sec, 0), row(0, "acme", 2*sec, 0), row(1, "", 5*min, 0), row(1, "acme", 5*min, 0))
	f("the tenant is on one of two partitions", 10*sec, row(0, "", 2*sec, 0), row(0, "acme", 2*sec, 0), row(1, "", 2*sec, 0))
	f("one partition is gone", 10*sec, row(0, "", 2*sec, 0), row(0, "acme", 2*sec, 0), row(1, "", time.Hour, 11*min), row(1, "acme", time.Hour, time.Hour))
	f("all have stopped", time.Hour, row(0, "", time.Hour, time.Hour), row(0, "acme", time.Hour, time.Hour))
}

func TestFloor(t *testing.T) {
	for _, c := range [][3]int64{{0, 10, 0}, {9, 10, 0}, {10, 10, 10}, {-1, 10, -10}, {-10, 10, -10}} {
		if got := floor(c[0], c[1]); got != c[2] {
			t.Errorf("floor(%d, %d): got %d, want %d", c[0], c[1], got, c[2])
		}
	}
	if got := ceil(math.MinInt32, 10); got%10 != 0 {
		t.Errorf("ceil: got %d", got)
	}
}
