package pipeline_test

import (
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/pipeline/windowed"
)

// quiet is a task on a clock, whose partition is read to its end.
type quiet struct {
	testing.TB
	cfg   pipeline.Config
	task  *pipeline.Task
	state stateLog
	now   time.Time
}

func newQuiet(t testing.TB, w windowed.Window) *quiet {
	q := &quiet{TB: t, cfg: windowedConfig(w), state: stateLog{}, now: start}
	q.task = windowedTask(q.cfg)
	return q
}

// hear steps events of a tenant, whose clock is ahead by skew.
func (q *quiet) hear(tenant string, skew time.Duration) {
	step(q.task, q.now, record(tenant, event(q.now.Add(skew), "m", `"service":"s"`)))
}

// drain passes time and returns what closed.
func (q *quiet) drain(d time.Duration, commit bool) string {
	q.now = q.now.Add(d)
	q.task.SetReach(pipeline.Reach{Partition: at, Signal: "metrics", Through: q.now.UnixMilli()})
	out := drain(q.task, q.now)
	if commit {
		q.state.append(out.State)
		q.task.Committed(true)
	} else {
		q.task.Forget()
	}
	return strings.Join(windowRows(out), ";")
}

// wait passes time in steps of a second and returns what closed, and when.
func (q *quiet) wait(d time.Duration) string {
	var rows []string
	for end := q.now.Add(d); q.now.Before(end); {
		if row := q.drain(time.Second, true); row != "" {
			rows = append(rows, fmt.Sprint(q.now.Sub(start).Seconds(), "s: ", row))
		}
	}
	return strings.Join(rows, ", ")
}

func (q *quiet) want(got, want string) {
	q.Helper()
	if got != want {
		q.Errorf("got %q, want %q", got, want)
	}
}

func (q *quiet) restart() {
	q.task = windowedTask(q.cfg)
	q.state.restore(q, q.task)
}

// tumbling10 closes by processing time 15 s after its start at the earliest: 10 s and the watermark's delay.
var tumbling10 = windowed.Window{Tumbling: 10 * time.Second}

func TestSilentTenantsWindowsClose(t *testing.T) {
	q := newQuiet(t, tumbling10)
	q.hear("acme", 0)
	q.want(q.wait(59*time.Second), "")
	q.want(q.wait(2*time.Second), "61s: acme 0-10 v1 n1")
	q.want(q.wait(5*time.Minute), "")
	for key := range q.state {
		if key[0] == 4 {
			t.Errorf("got the clock of %q kept, want none without open windows", key[2:])
		}
	}
	// It goes on: what comes now is on time, what lies before is late.
	q.hear("acme", -5*time.Minute-30*time.Second)
	q.hear("acme", 0)
	out := drain(q.task, q.now)
	if n := out.Tally.Dropped[pipeline.TenantReason{Tenant: "acme", Reason: windowed.ReasonTooLate}]; n != 0 {
		t.Errorf("got %d too late, want none: the windows of that time had not closed", n)
	}
}

// A tenant's own clock goes on: one that is half an hour behind loses nothing by its silence.
func TestSilentTenantsClock(t *testing.T) {
	q := newQuiet(t, windowed.Window{Tumbling: time.Hour})
	q.hear("slow", -30*time.Minute) // 11:30
	q.hear("right", 0)              // 12:00
	q.want(q.wait(30*time.Minute+10*time.Second), "1805s: slow -3600-0 v1 n1")
	q.hear("slow", -30*time.Minute) // 12:00:10
	out := drain(q.task, q.now)
	if len(out.Tally.Dropped) != 0 {
		t.Errorf("got %v dropped, want nothing", out.Tally.Dropped)
	}
	q.state.append(out.State)
	q.task.Committed(true)
	q.want(q.wait(60*time.Minute), "3605s: right 0-3600 v1 n1, 5405s: slow 0-3600 v1 n1")
}

// While records wait in the partition, nobody is silent.
func TestUnreadPartitionClosesNothing(t *testing.T) {
	q := newQuiet(t, tumbling10)
	q.hear("acme", 0)
	q.wait(time.Second)
	for range 300 {
		q.now = q.now.Add(time.Second)
		out := drain(q.task, q.now) // Through stands
		q.want(strings.Join(windowRows(out), ";"), "")
		q.task.Committed(true)
	}
}

// A clock of the host that jumps ahead closes nothing of tenants that are heard of.
func TestHostClockJumps(t *testing.T) {
	q := newQuiet(t, windowed.Window{Tumbling: time.Hour})
	for range 100 {
		q.hear("acme", 0)
		q.want(q.drain(time.Second, true), "")
	}
	q.want(q.drain(2*time.Hour, true), "")
}

// An epoch that is aborted opens again what it closed, and a task that takes over closes it once. Its wait begins anew,
// the tenant's clock does not.
func TestSilenceSurvives(t *testing.T) {
	q := newQuiet(t, windowed.Window{Tumbling: 10 * time.Minute})
	q.hear("acme", 0)
	q.want(q.wait(10*time.Minute+4*time.Second), "")
	q.want(q.drain(time.Second, false), "acme 0-600 v1 n1")
	q.restart()
	q.want(q.wait(59*time.Second), "")
	q.want(q.wait(2*time.Second), "666s: acme 0-600 v1 n1")
	q.hear("acme", -5*time.Minute)
	q.restart() // before it commits: the event comes again
	q.hear("acme", -5*time.Minute)
	out := drain(q.task, q.now)
	if n := out.Tally.Dropped[pipeline.TenantReason{Tenant: "acme", Reason: windowed.ReasonTooLate}]; n != 1 {
		t.Errorf("got %d too late, want the event for the closed window", n)
	}
	if got := limitLines(out); strings.Contains(got, "too_late") {
		t.Errorf("got %s, want limits only: what is too late is none", got)
	}
}

// The bytes are those of docs/format/state.md.
func TestClockStateGolden(t *testing.T) {
	q := newQuiet(t, tumbling10)
	q.hear("acme", 1500*time.Millisecond)
	q.drain(0, true)
	const want = "00aff22b62f9ea18005a6d0da2010000"
	if got := hex.EncodeToString([]byte(q.state["\x04\x01acme"])); got != "01"+want {
		t.Errorf("got %s, want 01%s", got, want)
	}
	f := func(key, value, want string) {
		t.Helper()
		if err := windowedTask(q.cfg).Restore([]byte(key), []byte(value)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%x=%x: got %v, want %q", key, value, err, want)
		}
	}
	f("\x04\x01acme", "\x01short", "got 5 bytes, want 16")
	f("\x04\x01acme", "\x01"+strings.Repeat("\xff", 16), "outside of what is admitted")
	f("\x04\x01a b", string(q.state["\x04\x01acme"]), "tenant")
}

// Whatever comes, is silent, is aborted and crashes: no window closes before its tenant's own clock has passed its end,
// each holds what a plain loop finds, and after a silence all have closed.
func TestSilenceRecount(t *testing.T) {
	shapes := []windowed.Window{
		{Tumbling: 20 * time.Second, AllowedLateness: time.Hour},
		{Session: &windowed.Session{Gap: 20 * time.Second}, AllowedLateness: time.Hour},
	}
	rapid.Check(t, func(t *rapid.T) {
		shape := rapid.SampledFrom(shapes).Draw(t, "shape")
		cfg := windowedConfig(shape)
		cfg.IdleAfter = 10 * time.Second
		skew := map[string]time.Duration{"ann": -time.Minute, "bob": 0, "cyd": time.Minute}
		world, table, now := newAccidents(func() *pipeline.Task { return windowedTask(cfg) }), windowTable{}, start.Add(10*time.Minute)
		var all []sessionEvent
		newest, seen, reached := map[string]int64{}, map[string]time.Time{}, map[string]int64{}
		epoch := func(events []sessionEvent, length time.Duration) {
			began := now
			now = now.Add(length)
			table.insert(t, world.epoch(t, now, func(task *pipeline.Task) {
				steps(began, events, sessionEvent.metric)(task)
				task.SetReach(pipeline.Reach{Partition: at, Signal: "metrics", Through: now.UnixMilli()})
			}))
			for _, e := range events {
				newest[e.tenant], seen[e.tenant] = max(newest[e.tenant], e.second), began
			}
			all = append(all, events...)
			for tenant, at := range newest {
				reached[tenant] = max(reached[tenant], at+int64(now.Sub(seen[tenant])/time.Second)-5)
			}
			for key := range table {
				var tenant, metric, service string
				var from, to int64
				fmt.Sscan(key, &tenant, &metric, &service, &from, &to)
				if to > reached[tenant] && !table[key].retracted {
					t.Fatalf("%s has closed when its tenant's clock had reached %d", key, reached[tenant])
				}
			}
		}
		for range rapid.IntRange(1, 12).Draw(t, "epochs") {
			var events []sessionEvent
			for range rapid.IntRange(0, 4).Draw(t, "events") {
				tenant := rapid.SampledFrom([]string{"ann", "bob", "cyd"}).Draw(t, "tenant")
				at := now.Add(skew[tenant]).Sub(start) - time.Duration(rapid.IntRange(0, 60).Draw(t, "ago"))*time.Second
				events = append(events, sessionEvent{tenant, rapid.SampledFrom([]string{"s", "r"}).Draw(t, "service"),
					int64(at / time.Second), float64(rapid.IntRange(1, 64).Draw(t, "value")) / 8})
			}
			epoch(events, time.Duration(rapid.SampledFrom([]int{1, 5, 15}).Draw(t, "seconds"))*time.Second)
		}
		for range 30 {
			epoch(nil, 5*time.Second)
		}
		want := naiveSessions(all, 20, func(string, int64) bool { return true })
		if shape.Session == nil {
			want = naiveTumbling(all, 20)
		}
		for key, c := range table {
			if c.version = 0; c.retracted {
				delete(table, key)
				continue
			}
			table[key] = c
		}
		if !maps.Equal(table, want) {
			t.Fatalf("got %v\nwant %v", table, want)
		}
	})
}

// naiveTumbling is the plain loop for windows of a size.
func naiveTumbling(events []sessionEvent, size int64) windowTable {
	byWindow := map[int64][]sessionEvent{}
	for _, e := range events {
		byWindow[e.second/size*size] = append(byWindow[e.second/size*size], e)
	}
	out := windowTable{}
	for from, list := range byWindow {
		// Moved to its start, all that a window holds of a series is one session.
		list = slices.Clone(list)
		for i := range list {
			list[i].second = from
		}
		maps.Copy(out, naiveSessions(list, size, func(string, int64) bool { return true }))
	}
	return out
}
