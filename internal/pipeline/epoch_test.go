package pipeline

import (
	"testing"
	"time"
)

func TestPace(t *testing.T) {
	p := newPace(EpochConfig{Min: 250 * time.Millisecond, Max: 5 * time.Second, RowsPerSecond: 20_000})
	f := func(cost time.Duration, rows int, want time.Duration) {
		t.Helper()
		if p.ended(cost, rows); p.length != want {
			t.Errorf("cost %s, %d rows: got %s, want %s", cost, rows, p.length, want)
		}
	}
	f(5*time.Millisecond, 100, 250*time.Millisecond)
	f(100*time.Millisecond, 100, time.Second)           // ending took too large a share
	f(5*time.Millisecond, 100, 500*time.Millisecond)    // one slow commit is soon forgotten
	f(5*time.Millisecond, 100, 250*time.Millisecond)    //
	f(5*time.Millisecond, 20_000, time.Second)          // 20,000 active series
	f(5*time.Millisecond, 20_000, time.Second)          // a second each: the rate is met and holds
	f(5*time.Millisecond, 1_000_000, 5*time.Second)     // as much as may be
	f(time.Minute, 1_000_000, 5*time.Second)            //
	f(5*time.Millisecond, 0, 2500*time.Millisecond)     //
	f(5*time.Millisecond, 0, 1250*time.Millisecond)     //
	f(5*time.Millisecond, 5_000_000_000, 5*time.Second) // no overflow
}
