package pipeline_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/internal/pipeline"
)

// The host's clock jumps by an hour, forth and back, between any two steps, through aborts and crashes: an event counts
// exactly when it is within max_past and max_future of the clock as it was when the event was processed, or else is
// refused with the reason; and no watermark is forgotten that a later event could meet.
func TestClockJumps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		task, log, now := newTask(nil), stateLog{}, start
		var counted, tooNew, tooOld uint64
		newest, latestClock := int64(0), start
		for range rapid.IntRange(1, 30).Draw(t, "epochs") {
			now = now.Add(time.Duration(rapid.SampledFrom([]int64{1, 60, 3600, -3600}).Draw(t, "jump")) * time.Second)
			if now.After(latestClock) {
				latestClock = now
			}
			var count, young, old uint64
			latest := newest
			for range rapid.IntRange(0, 4).Draw(t, "events") {
				at := start.Add(time.Duration(rapid.Int64Range(-80*3600, 80*3600).Draw(t, "at")) * time.Second)
				step(task, now, record("acme", event(at, "m", "")))
				switch {
				case at.After(now.Add(5 * time.Minute)):
					young++
				case at.Before(now.Add(-72 * time.Hour)):
					old++
				default:
					count++
					latest = max(latest, at.UnixNano())
				}
			}
			out := drain(task, now)
			switch rapid.IntRange(0, 5).Draw(t, "end") {
			case 0:
				task.Forget()
				continue
			case 1:
				task = newTask(nil)
				log.restore(t, task)
				continue
			}
			task.Committed(false)
			log.append(out.State)
			counted, tooNew, tooOld, newest = counted+count, tooNew+young, tooOld+old, latest
			refused := map[string]uint64{}
			for key, n := range out.Tally.Refused {
				refused[string(key.Reason)] += n
			}
			if out.Tally.Events != count || refused["too_new"] != young || refused["too_old"] != old {
				t.Fatalf("at %s: got %d events, refused %v, want %d, %d too new and %d too old",
					now, out.Tally.Events, refused, count, young, old)
			}
			if newest > 0 && log["\x01\x01acme"] == "" && newest > latestClock.Add(-72*time.Hour).UnixNano() {
				t.Fatalf("at %s: the watermark %d is gone", now, newest)
			}
		}
	})
}

// A clock that is set back does not keep series from being announced, nor from being forgotten when they are idle.
func TestClockSetBack(t *testing.T) {
	task := newTask(nil)
	cfg := pipeline.DefaultConfig()
	announced := func(now time.Time) int {
		step(task, now, record("acme", event(start, "m", "")))
		out := drain(task, now)
		task.Committed(false)
		n := 0
		for _, b := range out.Series {
			n += len(b.ID)
		}
		return n
	}
	if got := announced(start.Add(time.Hour)); got != 1 {
		t.Fatalf("got %d series announced, want the new one", got)
	}
	if got := announced(start); got != 1 {
		t.Errorf("after the clock was set back: got %d series announced, want it again", got)
	}
	if got := announced(start.Add(time.Second)); got != 0 {
		t.Errorf("a second later: got %d series announced, want none", got)
	}
	step(task, start.Add(time.Hour), record("acme", event(start, "idle", "")))
	drain(task, start.Add(time.Hour))
	task.Committed(false)
	for now := start; now.Before(start.Add(cfg.SeriesIdle + cfg.SeriesIdle/2)); now = now.Add(time.Minute) {
		announced(now)
	}
	// idle has been forgotten, so that it is announced when it comes back
	step(task, start.Add(cfg.SeriesIdle+cfg.SeriesIdle/2), record("acme", event(start, "idle", "")))
	out := drain(task, start.Add(cfg.SeriesIdle+cfg.SeriesIdle/2))
	found := false
	for _, b := range out.Series {
		for _, metric := range b.Metric {
			found = found || metric == "idle"
		}
	}
	if !found {
		t.Error("got an idle series remembered after the clock was set back, want it forgotten")
	}
}
