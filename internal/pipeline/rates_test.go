package pipeline_test

import (
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/tenants"
)

// taken is the number of events of a tenant's series in the outputs.
func taken(out *pipeline.Outputs) map[string]uint64 {
	counts := map[string]uint64{}
	for _, b := range out.Rollups {
		for i := range b.Grain {
			if b.Grain[i] == pipeline.GrainSeries {
				counts[b.Tenant[i]] += b.Count[i]
			}
		}
	}
	return counts
}

// A tenant that writes more to Kafka than it may loses the excess, is told by a counter, and harms nobody.
func TestRateLimit(t *testing.T) {
	f := func(limits tenants.Limits, key string, reason string, want uint64) {
		t.Helper()
		task := newTask(func(c *pipeline.TaskConfig) { c.Limits = limitsOf(map[tenants.ID]tenants.Limits{"hot": limits}) })
		const n = 1000
		for range n {
			hot := record("hot", event(start, "m", ""), "{", event(start, "m", ""))
			hot.Key = []byte(key)
			step(task, start, hot, record("calm", event(start, "m", "")))
		}
		out := drain(task, start)
		// A record stands for its three events, the bad one with them.
		if got, want := taken(out), map[string]uint64{"hot": 2 * want, "calm": n}; !reflect.DeepEqual(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		if got := uint64(len(out.Letters)); got != want {
			t.Errorf("got %d dead letters, want %d: a flood is not to be doubled", got, want)
		}
		lost := map[string]uint64{}
		for key, n := range out.Tally.Dropped {
			lost[key.Tenant+" "+string(key.Reason)] += n
		}
		if want := map[string]uint64{"hot " + reason: 3 * (n - want)}; !reflect.DeepEqual(lost, want) {
			t.Errorf("got dropped %v, want %v", lost, want)
		}
	}
	// Burst is 2s.
	f(tenants.Limits{StreamEventsPerSecond: 60}, "hot", "rate_events", 40)
	f(tenants.Limits{StreamEventsPerSecond: 60, Burst: 4 * time.Second}, "hot", "rate_events", 80)
	// Each of a tenant's shards has its part.
	f(tenants.Limits{StreamEventsPerSecond: 60, Shards: 4}, "hot#3", "rate_events", 10)
	// A shard that the tenant has not counts with one that it has.
	f(tenants.Limits{StreamEventsPerSecond: 60, Shards: 4}, "hot#77", "rate_events", 10)
	size := len(record("hot", event(start, "m", ""), "{", event(start, "m", "")).Value) + len("hot")
	f(tenants.Limits{StreamBytesPerSecond: 10 * 1000}, "hot", "rate_bytes", uint64(20*1000/size))
	// What is larger than a window is taken once in it.
	f(tenants.Limits{StreamEventsPerSecond: 1}, "hot", "rate_events", 1)
}

// What is judged is when records were written, not when they are read.
func TestRateLimitOfABacklog(t *testing.T) {
	task := newTask(func(c *pipeline.TaskConfig) {
		c.Limits = limitsOf(map[tenants.ID]tenants.Limits{"acme": {StreamEventsPerSecond: 1}})
	})
	const n = 5000
	for i := range n {
		r := record("acme", event(start, "m", ""))
		r.Timestamp += int64(i) * int64(time.Second)
		step(task, start, r)
	}
	if got := taken(drain(task, start))["acme"]; got != n {
		t.Errorf("got %d of %d records taken, want all: one a second", got, n)
	}
}

// rateRecount is the rule as a loop over the records of one partition.
type rateRecount map[string]map[int64][2]int

func (r rateRecount) take(key string, l tenants.Limits, at int64, n, size int) bool {
	all := r[key]
	if all == nil {
		all = map[int64][2]int{}
		r[key] = all
	}
	start := at / int64(l.Burst)
	for other := range all { // what a window has used is forgotten for one that is four later, or earlier
		if other != start && other%pipeline.RateWindows == start%pipeline.RateWindows {
			delete(all, other)
		}
	}
	used := all[start]
	most := func(perSecond int) int { return int(float64(perSecond) * l.Burst.Seconds() / float64(l.Shards)) }
	if used[0] > 0 && (used[0]+n > most(l.StreamEventsPerSecond) || used[1]+size > most(int(l.StreamBytesPerSecond))) {
		return false
	}
	all[start] = [2]int{used[0] + n, used[1] + size}
	return true
}

// Whatever is cut into epochs, aborted and done again, or handed over to another task: the records that are taken are
// those that a loop over the log takes.
func TestRateRecount(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		overrides := map[tenants.ID]tenants.Limits{}
		for _, name := range []tenants.ID{"acme", "globex"} {
			overrides[name] = tenants.Limits{
				StreamEventsPerSecond: rapid.IntRange(1, 8).Draw(t, "events"),
				Burst:                 time.Duration(rapid.IntRange(1, 3).Draw(t, "burst")) * time.Second,
				Shards:                rapid.IntRange(1, 3).Draw(t, "shards"),
			}
		}
		limits := limitsOf(overrides)
		fresh := func() *pipeline.Task { return newTask(func(c *pipeline.TaskConfig) { c.Limits = limits }) }
		var log []pipeline.Record
		recount, want := rateRecount{}, map[string]uint64{}
		written := start.UnixNano()
		for range rapid.IntRange(1, 60).Draw(t, "records") {
			name := rapid.SampledFrom([]string{"acme", "globex"}).Draw(t, "tenant")
			l := limits().For(tenants.ID(name))
			n := rapid.IntRange(1, 4).Draw(t, "n")
			r := record(name, slices.Repeat([]string{event(start, "m", "")}, n)...)
			if shard := rapid.IntRange(0, l.Shards-1).Draw(t, "shard"); shard > 0 {
				r.Key = fmt.Appendf(nil, "%s#%d", name, shard)
			}
			written += rapid.Int64Range(-1500, 2000).Draw(t, "later") * int64(time.Millisecond)
			r.Timestamp = written
			log = append(log, r)
			if recount.take(string(r.Key), l, r.Timestamp, n, len(r.Key)+len(r.Value)) {
				want[name] += uint64(n)
			}
		}
		world, got := newAccidents(fresh), map[string]uint64{}
		for done := 0; done < len(log); {
			n := 0
			out := world.epoch(t, start, func(task *pipeline.Task) {
				n = rapid.IntRange(1, len(log)-done).Draw(t, "records") // epochs are cut elsewhere after an accident
				step(task, start, log[done:done+n]...)
			})
			for name, n := range taken(out) {
				got[name] += n
			}
			done += n
		}
		if !maps.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
	})
}

// Limits change between epochs, not in one; what has been taken of a window stays taken.
func TestRateLimitChanges(t *testing.T) {
	live := tenants.NewLive(*limitsOf(map[tenants.ID]tenants.Limits{"acme": {StreamEventsPerSecond: 5, ActiveSeries: 1}})())
	task := newTask(func(c *pipeline.TaskConfig) { c.Limits = live.Config })
	send := func() {
		for i := range 20 {
			step(task, start, record("acme", event(start, "m", fmt.Sprintf(`"i":"%d"`, i%2))))
		}
	}
	check := func(want uint64, reasons ...string) {
		t.Helper()
		out := drain(task, start)
		var got []string
		for key, n := range out.Tally.Dropped {
			got = append(got, fmt.Sprint(key.Reason, " ", n))
		}
		slices.Sort(got)
		if n := taken(out)["acme"]; n != want || !slices.Equal(got, reasons) {
			t.Errorf("got %d taken, dropped %v; want %d, %v", n, got, want, reasons)
		}
	}
	send()
	live.Replace(*limitsOf(map[tenants.ID]tenants.Limits{"acme": {StreamEventsPerSecond: 20, ActiveSeries: 2}})())
	send()
	check(5, "rate_events 30", "series_limit 5")
	task.Committed(true)
	send()
	check(20) // 10 of the window's 40 are used
	task.Committed(true)
	send()
	check(10, "rate_events 10")
}

// A lone producer whose clock is wrong takes nothing from the others of its tenant.
func TestRateLimitAndAWrongClock(t *testing.T) {
	task := newTask(func(c *pipeline.TaskConfig) {
		c.Limits = limitsOf(map[tenants.ID]tenants.Limits{"acme": {StreamEventsPerSecond: 2}})
	})
	ahead := record("acme", event(start, "m", ""))
	ahead.Timestamp += int64(24 * time.Hour)
	step(task, start, ahead)
	for i := range 100 {
		r := record("acme", event(start, "m", ""))
		r.Timestamp += int64(i) * int64(time.Second)
		step(task, start, r)
	}
	if got := taken(drain(task, start))["acme"]; got != 101 {
		t.Errorf("got %d taken, want 101", got)
	}
	for _, timestamp := range []int64{-1e6, math.MinInt64, math.MaxInt64, 0} {
		r := record("acme", event(start, "m", ""))
		r.Timestamp = timestamp
		step(task, start, r)
	}
}

// The bytes of docs/format/state.md.
func TestRateStateGolden(t *testing.T) {
	task := newTask(nil)
	sharded := record("acme", event(start, "m", ""))
	sharded.Key = []byte("acme#7")
	task2 := newTask(func(c *pipeline.TaskConfig) {
		c.Limits = limitsOf(map[tenants.ID]tenants.Limits{"acme": {Shards: 8}})
	})
	step(task2, start, sharded)
	r := record("acme", event(start, "m", ""))
	later := r
	later.Timestamp += int64(2 * time.Second)
	step(task, start, r, later, later)
	var got []string
	for _, out := range []*pipeline.Outputs{drain(task, start), drain(task2, start)} {
		for _, m := range out.State {
			if m.Key[0] == 5 {
				got = append(got, fmt.Sprintf("%x=%x", m.Key, m.Value))
			}
		}
	}
	want := []string{
		"050161636d65=018080aa949dacbef518014680a880cea4acbef518028c01", // two windows: 1 event of 70 bytes, 2 of 140
		"050161636d652337=018080aa949dacbef5180148",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// What a task writes of its meters a task reads, whoever the records say they are of. Else one record without a key
// would stop its partition at the next start.
func TestRateStateOfWhoeverSends(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.OneOf(rapid.SampledFrom([]string{"", "acme", "acme#1", "acme#x", "acme#1#2", "#", "#3", "a b", "_x", "\xff\xfe", strings.Repeat("x", 300), "acme#99999"}), rapid.String())
		task, log := newTask(nil), stateLog{}
		for range rapid.IntRange(1, 5).Draw(t, "records") {
			r := record("acme", event(start, "m", ""))
			r.Key = []byte(names.Draw(t, "key"))
			if rapid.Bool().Draw(t, "no key") {
				r.Key = nil
			}
			if rapid.Bool().Draw(t, "header") {
				r.Headers = append(r.Headers, pipeline.Header{Key: "x-scope-orgid", Value: []byte(names.Draw(t, "header"))})
			}
			switch rapid.IntRange(0, 3).Draw(t, "value") {
			case 0:
				r.Value = []byte(`{"tenant":"acme","name":"m","value":1}`)
			case 1:
				r.Value = []byte("{")
			case 2:
				r.Value = nil
			}
			step(task, start, r)
		}
		log.append(drain(task, start).State)
		log.restore(t, newTask(nil))
	})
}
