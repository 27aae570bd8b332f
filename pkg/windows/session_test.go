package windows_test

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/pkg/windows"
)

func sessionConfig(late windows.LatePolicy, gap, lateness int64) windows.SessionConfig {
	return windows.SessionConfig{Gap: time.Duration(gap), StoreConfig: config(late, time.Duration(lateness))}
}

// standing is what a reader of emissions has: retractions take away.
type standing map[cellKey]sum

func (r standing) take(t interface{ Fatalf(string, ...any) }, e *windows.Emission[sum]) {
	at := cellKey{e.Tenant, e.Key, e.Window}
	_, known := r[at]
	switch {
	case e.Value == nil && !known:
		t.Fatalf("got a retraction of %v, which does not stand", at)
	case e.Value == nil:
		delete(r, at)
	case known != (e.Version > 1):
		t.Fatalf("got version %d of %v, standing %v", e.Version, at, known)
	default:
		r[at] = *e.Value
	}
}

type moment struct{ at, value int64 }

// clusters is the plain loop: sorted events, cut where they are Gap apart or more.
func clusters(tenant, key string, events []moment, gap int64) standing {
	slices.SortFunc(events, func(a, b moment) int { return cmp.Compare(a.at, b.at) })
	out := standing{}
	for i := 0; i < len(events); {
		w, total := windows.Window{Start: events[i].at, End: events[i].at}, sum{}
		for ; i < len(events) && (total.n == 0 || events[i].at < w.End); i++ {
			w.End = events[i].at + gap
			total.n, total.total = total.n+1, total.total+events[i].value
		}
		out[cellKey{tenant, key, w}] = total
	}
	return out
}

// In any order, with any watermarks and restores: as long as nothing is too late, what stands at the end are the
// sessions of a plain loop. With little lateness, or events diverted, no accepted event is lost or counted twice.
func TestSessionsRecount(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		late := rapid.SampledFrom([]windows.LatePolicy{windows.Recompute, windows.Divert}).Draw(t, "late")
		gap := rapid.Int64Range(1, 15).Draw(t, "gap")
		lateness := rapid.SampledFrom([]int64{0, 10, 1 << 40}).Draw(t, "lateness")
		cfg := sessionConfig(late, gap, lateness)
		if err := cfg.Validate(); err != nil {
			t.Fatal(err)
		}
		store := windows.NewSessions(cfg, sums)
		got, accepted := standing{}, map[string][]moment{}
		var total sum
		fired := int64(-1 << 40)
		var saved struct { // at the last commit
			got      standing
			fired    int64
			total    sum
			accepted map[string][]moment
		}
		progress, log := windows.Progress{Fired: windows.None, Floor: windows.None}, map[string][]windows.EntrySession[sum]{}
		advance := func(watermark int64) {
			store.Advance("a", watermark, func(e *windows.Emission[sum]) { got.take(t, e) })
			store.Changes(func(_ string, was, is windows.Progress) {
				if was != progress || is != store.Progress("a") {
					t.Fatalf("told of %v after %v, want %v after %v", is, was, store.Progress("a"), progress)
				}
				progress = is
			}, func(_, key string, was, is []windows.EntrySession[sum]) {
				if textOf(was) != textOf(log[key]) {
					t.Fatalf("%s: told that it was %s, want %s", key, textOf(was), textOf(log[key]))
				}
				log[key] = cloneSessions(is)
				if len(is) == 0 {
					delete(log, key)
				}
			})
			for key, old := range log {
				if is := store.Entry("a", key); textOf(is) != textOf(old) {
					t.Fatalf("%s: not told of %s, was %s", key, textOf(is), textOf(old))
				}
			}
			store.Commit()
			saved.got, saved.fired, saved.total, saved.accepted = maps.Clone(got), fired, total, map[string][]moment{}
			for key, events := range accepted {
				saved.accepted[key] = slices.Clone(events)
			}
		}
		restored := func() *windows.Sessions[sum] {
			store := windows.NewSessions(cfg, sums)
			for key, sessions := range log {
				store.Restore("a", key, cloneSessions(sessions))
			}
			if progress.Fired != windows.None {
				store.RestoreProgress("a", progress)
			}
			return store
		}
		advance(fired)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 9).Draw(t, "step") {
			case 0, 1:
				fired = max(fired, rapid.Int64Range(0, 120).Draw(t, "watermark"))
				advance(fired)
			case 2:
				advance(fired)
				before := dumpSessions(store)
				store = restored()
				if after := dumpSessions(store); after != before {
					t.Fatalf("restored: got %s, want %s", after, before)
				}
			case 3:
				store.Rollback()
				if got, want := dumpSessions(store), dumpSessions(restored()); got != want {
					t.Fatalf("rolled back: got %s, want %s as restored", got, want)
				}
				got, fired, total, accepted = maps.Clone(saved.got), saved.fired, saved.total, map[string][]moment{}
				for key, events := range saved.accepted {
					accepted[key] = slices.Clone(events)
				}
			default:
				key := rapid.SampledFrom([]string{"k", "l"}).Draw(t, "key")
				e := moment{rapid.Int64Range(0, 120).Draw(t, "time"), rapid.Int64Range(1, 1000).Draw(t, "value")}
				switch v := store.Add("a", key, e.at, plus(e.value)); v {
				case windows.OnTime, windows.Late:
					accepted[key] = append(accepted[key], e)
					total.n, total.total = total.n+1, total.total+e.value
				case windows.TooLate:
					if e.at+gap > fired-lateness {
						t.Fatalf("event at %d, fired %d: got too late", e.at, fired)
					}
				case windows.Diverted:
					if late != windows.Divert {
						t.Fatalf("got %s with policy %s", v, late)
					}
				default:
					t.Fatalf("got %s", v)
				}
			}
		}
		advance(1 << 41)
		if keys, n, bytes := store.Usage("a"); lateness < 1<<40 && (keys != 0 || n != 0 || bytes != 0) {
			t.Fatalf("at the end: got %d keys, %d sessions, %d bytes, want nothing kept", keys, n, bytes)
		}
		var sumOf sum
		for _, v := range got {
			sumOf.n, sumOf.total = sumOf.n+v.n, sumOf.total+v.total
		}
		if sumOf != total {
			t.Fatalf("got %v in all sessions, want the accepted %v", sumOf, total)
		}
		if lateness == 1<<40 && late == windows.Recompute {
			want := standing{}
			for key, events := range accepted {
				maps.Copy(want, clusters("a", key, events, gap))
			}
			if !maps.Equal(got, want) {
				t.Fatalf("got %v, want %v", got, want)
			}
		}
	})
}

func textOf(sessions []windows.EntrySession[sum]) (out string) {
	for _, e := range sessions {
		out += fmt.Sprint(" ", e.Window, e.Version, e.Late, *e.Value)
	}
	return out
}

func dumpSessions(s *windows.Sessions[sum]) (out string) {
	keys, n, bytes := s.Usage("a")
	out = fmt.Sprint(keys, " ", n, " ", bytes, " ", s.Next("a"), "; ")
	for _, key := range []string{"k", "l"} {
		out += textOf(s.Entry("a", key)) + "; "
	}
	return out
}

func cloneSessions(in []windows.EntrySession[sum]) []windows.EntrySession[sum] {
	out := slices.Clone(in)
	for i := range out {
		v := *out[i].Value
		out[i].Value = &v
	}
	return out
}

// A late event joins two sessions that were emitted.
func TestSessionsGrowTogether(t *testing.T) {
	s := windows.NewSessions(sessionConfig(windows.Recompute, 10, 100), sums)
	var got []string
	advance := func(watermark int64) {
		s.Advance("a", watermark, func(e *windows.Emission[sum]) {
			value := "retracted"
			if e.Value != nil {
				value = fmt.Sprint(e.Value.total)
			}
			got = append(got, fmt.Sprintf("[%d,%d) v%d %s", e.Window.Start, e.Window.End, e.Version, value))
		})
	}
	s.Add("a", "k", 0, plus(1))
	s.Add("a", "k", 5, plus(2))
	s.Add("a", "k", 18, plus(4))
	advance(40)
	if v := s.Add("a", "k", 6, plus(8)); v != windows.Late {
		t.Errorf("got %s, want late", v)
	}
	advance(40)
	s.Add("a", "k", 12, plus(16))
	advance(41)
	want := "[[0,15) v1 3 [18,28) v1 4 [0,15) v2 retracted [0,16) v1 11 [0,16) v2 retracted [0,28) v1 31 [18,28) v2 retracted]"
	if fmt.Sprint(got) != want {
		t.Errorf("got  %v\nwant %s", got, want)
	}
}

// Events exactly Gap apart are two sessions.
func TestSessionsGap(t *testing.T) {
	s := windows.NewSessions(sessionConfig(windows.Divert, 10, 0), sums)
	s.Add("a", "k", 0, plus(1))
	s.Add("a", "k", 10, plus(1))
	s.Add("a", "k", 19, plus(1))
	n := 0
	s.Advance("a", 100, func(*windows.Emission[sum]) { n++ })
	if n != 2 {
		t.Errorf("got %d sessions, want [0,10) and [10,29)", n)
	}
	f := func(c windows.SessionConfig, valid bool) {
		t.Helper()
		if err := c.Validate(); (err == nil) != valid {
			t.Errorf("%+v: got %v, want valid %v", c, err, valid)
		}
	}
	f(sessionConfig(windows.Recompute, 10, 0), true)
	f(sessionConfig(windows.MergeDelta, 10, 0), false)
	f(sessionConfig(windows.Divert, 0, 0), false)
	f(sessionConfig(windows.Divert, 10, -1), false)
}

func BenchmarkSessionsAdd(b *testing.B) {
	s := windows.NewSessions[sum](sessionConfig(windows.Recompute, int64(30*time.Minute), int64(time.Hour)), sums)
	keys := make([]string, 1000)
	for i := range keys {
		keys[i] = fmt.Sprintf("user=%d", i)
	}
	at, i := int64(1_795_000_000_000_000_000), 0
	update := plus(1)
	b.ReportAllocs()
	for b.Loop() {
		s.Add("acme", keys[i%1000], at, update)
		if i++; i%1000 == 0 {
			at += int64(time.Second)
		}
	}
}
