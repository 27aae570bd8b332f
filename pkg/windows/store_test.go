package windows_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/pkg/windows"
)

// sum is an accumulator that shows a lost or doubled event.
type sum struct{ n, total int64 }

var sums = windows.Accumulator[sum]{
	Merge: func(into, from *sum) { into.n += from.n; into.total += from.total },
	Bytes: func(*sum) int { return 16 },
}

func plus(v int64) func(*sum) {
	return func(a *sum) { a.n++; a.total += v }
}

type cellKey struct {
	tenant, key string
	window      windows.Window
}

// results is a reader of emissions: it adds deltas and replaces by version.
type results map[cellKey]sum

func (r results) take(t interface{ Fatalf(string, ...any) }, versions map[cellKey]uint32, e *windows.Emission[sum]) {
	at := cellKey{e.Tenant, e.Key, e.Window}
	if e.Version != versions[at]+1 {
		t.Fatalf("%v: got version %d after %d, want the next", at, e.Version, versions[at])
	}
	versions[at] = e.Version
	value := *e.Value
	if e.Delta {
		value.n += r[at].n
		value.total += r[at].total
	}
	r[at] = value
}

func config(late windows.LatePolicy, lateness time.Duration) windows.StoreConfig {
	return windows.StoreConfig{AllowedLateness: lateness, Late: late, MaxSlices: 1 << 20, MaxBytes: 1 << 40}
}

// Whatever the windows, the policy, the order of events and the places where the store is written to a log and read
// back: what a reader has at the end is what a plain loop over the events finds, window by window.
func TestStoreRecount(t *testing.T) {
	aligned := []windows.Aligned{
		windows.Tumbling{Size: 10}, windows.Tumbling{Size: 10, Offset: 3},
		windows.Hopping{Size: 12, Hop: 4}, windows.Hopping{Size: 10, Hop: 4, Offset: 1},
	}
	rapid.Check(t, func(t *rapid.T) {
		w := rapid.SampledFrom(aligned).Draw(t, "windows")
		late := windows.LatePolicy(rapid.IntRange(0, 2).Draw(t, "late"))
		lateness := rapid.Int64Range(0, 30).Draw(t, "lateness")
		cfg := config(late, time.Duration(lateness))
		store := windows.NewStore(w, cfg, sums)
		progress, log := map[string]windows.Progress{}, map[[2]string]windows.Entry[sum]{}
		got, versions := results{}, map[cellKey]uint32{}
		want := results{}
		fired := map[string]int64{}
		var saved struct { // at the last commit
			got, want results
			versions  map[cellKey]uint32
			fired     map[string]int64
		}
		commit := func() {
			told := map[[2]string]bool{}
			store.Changes(
				func(tenant string, was, is windows.Progress) {
					if old, known := progress[tenant]; known != (was.Fired != windows.None) || known && was != old ||
						is != store.Progress(tenant) {
						t.Fatalf("%s: told of %v after %v, want %v after %v", tenant, is, was, store.Progress(tenant), old)
					}
					progress[tenant] = is
				},
				func(tenant, key string, was, is *windows.Entry[sum]) {
					at := [2]string{tenant, key}
					if old, known := log[at]; known != (was != nil) || known && text(was) != text(&old) {
						t.Fatalf("%v: told that it was %s, want %s", at, text(was), text(&old))
					}
					if told[at] = true; is == nil {
						delete(log, at)
						return
					}
					log[at] = clone(is)
				})
			for at, old := range log {
				if is := store.Entry(at[0], at[1]); !told[at] && text(is) != text(&old) {
					t.Fatalf("%v: not told of %s, was %s", at, text(is), text(&old))
				}
			}
			store.Commit()
			saved.got, saved.want, saved.versions, saved.fired = maps.Clone(got), maps.Clone(want), maps.Clone(versions), maps.Clone(fired)
		}
		restored := func() *windows.Store[sum] {
			store := windows.NewStore(w, cfg, sums)
			for at, e := range log {
				store.Restore(at[0], at[1], clone(&e))
			}
			for tenant, p := range progress {
				store.RestoreProgress(tenant, p)
			}
			return store
		}
		commit()
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			tenant := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "tenant")
			if _, ok := fired[tenant]; !ok {
				fired[tenant] = -1 << 40
			}
			switch rapid.IntRange(0, 9).Draw(t, "step") {
			case 0, 1:
				watermark := max(fired[tenant], rapid.Int64Range(0, 120).Draw(t, "watermark"))
				fired[tenant] = watermark
				var last *windows.Emission[sum]
				corrections := true
				store.Advance(tenant, watermark, func(e *windows.Emission[sum]) {
					if e.Window.End > watermark {
						t.Fatalf("got %v before its end, at watermark %d", e, watermark)
					}
					if last != nil && e.Window.End < last.Window.End {
						if !corrections {
							t.Fatalf("got %v after %v, want them by end", e, last)
						}
						corrections = false
					}
					copied := *e
					last = &copied
					got.take(t, versions, e)
				})
				commit()
			case 2:
				// Only what is in the log survives, so first put all of it there.
				for _, name := range []string{"a", "b"} {
					store.Advance(name, -1<<41, func(e *windows.Emission[sum]) { got.take(t, versions, e) })
				}
				commit()
				before := dump(store)
				store = restored()
				if after := dump(store); after != before {
					t.Fatalf("restored: got %s, want %s", after, before)
				}
			case 3:
				store.Rollback()
				if got, want := dump(store), dump(restored()); got != want {
					t.Fatalf("rolled back: got %s, want %s as restored", got, want)
				}
				got, want, versions, fired = maps.Clone(saved.got), maps.Clone(saved.want), maps.Clone(saved.versions), maps.Clone(saved.fired)
			default:
				key := rapid.SampledFrom([]string{"k", "l", "m"}).Draw(t, "key")
				at := rapid.Int64Range(0, 120).Draw(t, "time")
				value := rapid.Int64Range(1, 1000).Draw(t, "value")
				verdict := store.Add(tenant, key, at, plus(value))
				wantVerdict := windows.TooLate
				open, closed := false, false
				for _, x := range collect(w, w.Slice(at)) {
					switch {
					case x.End > fired[tenant]:
						open = true
					case x.End > fired[tenant]-lateness:
						closed = true
						if late == windows.Divert {
							continue
						}
					default:
						continue
					}
					cell := want[cellKey{tenant, key, x}]
					cell.n, cell.total = cell.n+1, cell.total+value
					want[cellKey{tenant, key, x}] = cell
				}
				switch {
				case closed && late == windows.Divert:
					wantVerdict = windows.Diverted
				case closed:
					wantVerdict = windows.Late
				case open:
					wantVerdict = windows.OnTime
				}
				if verdict != wantVerdict {
					t.Fatalf("event at %d, fired %d: got %s, want %s", at, fired[tenant], verdict, wantVerdict)
				}
			}
		}
		for _, tenant := range []string{"a", "b"} { // with what came late, of which nothing is in the log yet
			store.Advance(tenant, 1<<40, func(e *windows.Emission[sum]) { got.take(t, versions, e) })
			if keys, parts, bytes := store.Usage(tenant); keys != 0 || parts != 0 || bytes != 0 {
				t.Fatalf("at the end: got %d keys, %d slices, %d bytes, want nothing kept", keys, parts, bytes)
			}
		}
		if !maps.Equal(got, want) {
			t.Fatalf("%s: got %v, want %v", late, got, want)
		}
	})
}

func clone(e *windows.Entry[sum]) windows.Entry[sum] {
	out := windows.Entry[sum]{Emitted: slices.Clone(e.Emitted)}
	for _, s := range e.Slices {
		if s.Value != nil {
			v := *s.Value
			s.Value = &v
		}
		if s.Late != nil {
			v := *s.Late
			s.Late = &v
		}
		out.Slices = append(out.Slices, s)
	}
	return out
}

// text is all that is known of a key.
func text(e *windows.Entry[sum]) (out string) {
	if e == nil {
		return "nothing"
	}
	out = fmt.Sprint(e.Emitted)
	for _, s := range e.Slices {
		out += fmt.Sprint(" ", s.Window, s.Value, s.Late)
	}
	return out
}

// dump is all that is known of the tenants and keys of a test.
func dump(s *windows.Store[sum]) (out string) {
	for _, tenant := range []string{"a", "b"} {
		keys, parts, bytes := s.Usage(tenant)
		out += fmt.Sprint(keys, " ", parts, " ", bytes, " ", s.Next(tenant), "; ")
		for _, key := range []string{"k", "l", "m"} {
			out += text(s.Entry(tenant, key)) + "; "
		}
	}
	return out
}

// One tenant's watermark moves no window of another.
func TestStoreTenantsAreApart(t *testing.T) {
	s := windows.NewStore(windows.Tumbling{Size: 10}, config(windows.MergeDelta, 0), sums)
	s.Add("slow", "k", 5, plus(1))
	s.Add("fast", "k", 5, plus(1))
	emitted := ""
	s.Advance("fast", 1000, func(e *windows.Emission[sum]) { emitted += e.Tenant })
	if got := s.Add("slow", "k", 6, plus(1)); got != windows.OnTime || emitted != "fast" {
		t.Errorf("got %s and windows of %q, want on_time and fast's", got, emitted)
	}
	if got := s.Add("fast", "k", 6, plus(1)); got != windows.TooLate {
		t.Errorf("got %s, want too_late", got)
	}
}

// At its bound a tenant is refused new slices and loses corrections, not what is open; no other tenant notices.
func TestStoreBounds(t *testing.T) {
	cfg := config(windows.Recompute, 1000)
	cfg.MaxSlices = 4
	s := windows.NewStore(windows.Tumbling{Size: 10}, cfg, sums)
	f := func(tenant, key string, at int64, want windows.Verdict) {
		t.Helper()
		if got := s.Add(tenant, key, at, plus(1)); got != want {
			t.Errorf("%s %s at %d: got %s, want %s", tenant, key, at, got, want)
		}
	}
	var emitted []string
	advance := func(watermark int64) {
		s.Advance("flood", watermark, func(e *windows.Emission[sum]) {
			emitted = append(emitted, fmt.Sprintf("%s@%d=%d.v%d", e.Key, e.Window.Start, e.Value.n, e.Version))
		})
	}
	f("flood", "a", 1, windows.OnTime)
	f("flood", "b", 1, windows.OnTime)
	f("flood", "a", 11, windows.OnTime)
	f("flood", "b", 11, windows.OnTime)
	f("flood", "c", 11, windows.Full)
	f("flood", "a", 12, windows.OnTime) // what is open takes events on
	f("calm", "c", 11, windows.OnTime)
	advance(10)
	// The windows [0, 10) could be corrected no longer, and there is room again.
	f("flood", "a", 1, windows.TooLate)
	f("flood", "c", 11, windows.OnTime)
	f("flood", "d", 11, windows.OnTime)
	f("flood", "e", 11, windows.Full)
	advance(20)
	if want := "[a@0=1.v1 b@0=1.v1 a@10=2.v1 b@10=1.v1 c@10=1.v1 d@10=1.v1]"; fmt.Sprint(emitted) != want {
		t.Errorf("got %v, want %s", emitted, want)
	}
	stats := s.Stats("flood")
	if stats.Cut != 2 || stats.Verdicts[windows.Full] != 2 || stats.Verdicts[windows.TooLate] != 1 || stats.Emitted != 6 {
		t.Errorf("got %+v, want 2 cuts, 2 full, 1 too late, 6 emitted", stats)
	}
	bytes := config(windows.MergeDelta, 0)
	bytes.MaxBytes = 1000
	s = windows.NewStore(windows.Tumbling{Size: 10}, bytes, sums)
	taken := 0
	for i := range 100 {
		if s.Add("flood", fmt.Sprint(i), 1, plus(1)) == windows.OnTime {
			taken++
		}
	}
	if _, _, used := s.Usage("flood"); taken == 0 || taken == 100 || used > 1000+300 {
		t.Errorf("got %d keys in %d bytes, want some and about 1000", taken, used)
	}
}

func TestStoreConfigValidate(t *testing.T) {
	f := func(change func(*windows.StoreConfig), valid bool) {
		t.Helper()
		c := config(windows.MergeDelta, time.Minute)
		change(&c)
		if err := c.Validate(); (err == nil) != valid {
			t.Errorf("%+v: got %v, want valid %v", c, err, valid)
		}
	}
	f(func(*windows.StoreConfig) {}, true)
	f(func(c *windows.StoreConfig) { c.AllowedLateness = -1 }, false)
	f(func(c *windows.StoreConfig) { c.Late = 9 }, false)
	f(func(c *windows.StoreConfig) { c.MaxSlices = 0 }, false)
	f(func(c *windows.StoreConfig) { c.MaxBytes = 0 }, false)
	for _, p := range []windows.LatePolicy{windows.MergeDelta, windows.Recompute, windows.Divert} {
		if got, err := windows.ParseLatePolicy(p.String()); got != p || err != nil {
			t.Errorf("%s: got %s, %v", p, got, err)
		}
	}
	if _, err := windows.ParseLatePolicy("drop"); err == nil {
		t.Error("drop: got no error")
	}
}

// One event, with windows that overlap 1, 10 and 60 times: the cost of an event must not grow with them.
func BenchmarkStoreAdd(b *testing.B) {
	for _, overlap := range []int{1, 10, 60} {
		b.Run(fmt.Sprintf("overlap=%d", overlap), func(b *testing.B) {
			minute := time.Minute
			w := windows.Hopping{Size: time.Duration(overlap) * minute, Hop: minute}
			s := windows.NewStore[sum](w, config(windows.MergeDelta, time.Hour), sums)
			keys := make([]string, 1000)
			for i := range keys {
				keys[i] = fmt.Sprintf("service=%d", i)
			}
			at := int64(1_795_000_000_000_000_000)
			update := plus(1)
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				s.Add("acme", keys[i%1000], at, update)
				i++
			}
		})
	}
}

// What one window costs from its first event to its emission, with 1,000 keys at a time.
func BenchmarkStoreLife(b *testing.B) {
	s := windows.NewStore[sum](windows.Tumbling{Size: time.Minute}, config(windows.MergeDelta, 0), sums)
	keys := make([]string, 1000)
	for i := range keys {
		keys[i] = fmt.Sprintf("service=%d", i)
	}
	at, n := int64(1_795_000_000_000_000_000), 0
	update, drop := plus(1), func(*windows.Emission[sum]) {}
	b.ReportAllocs()
	for b.Loop() {
		s.Add("acme", keys[n%1000], at, update)
		if n++; n%1000 == 0 {
			_, _, bytes := s.Usage("acme")
			b.ReportMetric(float64(bytes)/1000, "B/window")
			at += int64(time.Minute)
			s.Advance("acme", at, drop)
			s.Changes(func(string, windows.Progress, windows.Progress) {},
				func(string, string, *windows.Entry[sum], *windows.Entry[sum]) {})
			s.Commit()
		}
	}
}
