package pipeline

import (
	"testing"
	"time"
)

func TestPace(t *testing.T) {
	p := newPace(EpochConfig{Min: 250 * time.Millisecond, Max: 5 * time.Second, RowsPerSecond: 20_000})
	f := func(cost time.Duration, busy float64, rows int, want time.Duration) {
		t.Helper()
		if p.ended(cost, busy, rows); p.length != want {
			t.Errorf("cost %s, %v busy, %d rows: got %s, want %s", cost, busy, rows, p.length, want)
		}
	}
	f(5*time.Millisecond, 1, 100, 250*time.Millisecond)
	f(100*time.Millisecond, 1, 100, 500*time.Millisecond)    // ending took too large a share
	f(100*time.Millisecond, 1, 100, time.Second)             // and again: a tenth it is
	f(100*time.Millisecond, 1, 100, time.Second)             //
	f(5*time.Millisecond, 1, 100, 500*time.Millisecond)      // slow commits are soon forgotten
	f(5*time.Millisecond, 1, 100, 250*time.Millisecond)      //
	f(20*time.Second, 1, 100, 500*time.Millisecond)          // one that waited for the brokers sooner
	f(5*time.Millisecond, 1, 100, 250*time.Millisecond)      //
	f(100*time.Millisecond, 0, 100, 250*time.Millisecond)    // time to spare
	f(200*time.Millisecond, 0, 100, 400*time.Millisecond)    //
	f(100*time.Millisecond, 0.25, 100, 600*time.Millisecond) // half of what a busy one takes, and of what it may
	f(5*time.Millisecond, 0, 100, 300*time.Millisecond)      //
	f(5*time.Millisecond, 1, 20_000, time.Second)            // 20,000 active series
	f(5*time.Millisecond, 1, 20_000, time.Second)            // a second each: the rate is met and holds
	f(5*time.Millisecond, 1, 1_000_000, 5*time.Second)       // as much as may be
	f(time.Minute, 1, 1_000_000, 5*time.Second)              //
	f(5*time.Millisecond, 1, 0, 2500*time.Millisecond)       //
	f(5*time.Millisecond, 1, 0, 1250*time.Millisecond)       //
	f(5*time.Millisecond, 1, 5_000_000_000, 5*time.Second)   // no overflow
}

func TestPaceOfABacklog(t *testing.T) {
	p := newPace(EpochConfig{Min: 250 * time.Millisecond, Max: 5 * time.Second, Backlog: 18 * time.Second, RowsPerSecond: 20_000})
	f := func(why string, want time.Duration) {
		t.Helper()
		if p.late != want {
			t.Errorf("%s: got %s, want %s", why, p.late, want)
		}
	}
	f("the first epoch of a session", 0)
	for _, want := range []time.Duration{5 * time.Second, 10 * time.Second, 18 * time.Second, 18 * time.Second} {
		p.ended(time.Millisecond, 1, 1)
		f("after one that was committed", want)
	}
	p.aborted()
	p.aborted()
	f("after two that were aborted", 4500*time.Millisecond)
	p.ended(time.Millisecond, 1, 1)
	f("after one that was committed", 9*time.Second)
	for range 100 {
		p.aborted()
	}
	f("after a hundred that were aborted", 0)
}
