package pause

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestFor(t *testing.T) {
	f := func(end, d, wantTook time.Duration, want error) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), end)
			defer cancel()
			began := time.Now()
			err := For(ctx, d)
			if took := time.Since(began); took != wantTook || !errors.Is(err, want) || (err == nil) != (want == nil) {
				t.Errorf("pause of %s, context of %s: got %v after %s, want %v after %s", d, end, err, took, want, wantTook)
			}
		})
	}
	f(time.Hour, time.Second, time.Second, nil)
	f(time.Second, time.Hour, time.Second, context.DeadlineExceeded)
	// The context has ended before.
	f(-time.Second, time.Hour, 0, context.DeadlineExceeded)
}

func TestOutliving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		longer, cancel := Outliving(ctx, time.Minute)
		defer cancel()
		stop()
		time.Sleep(time.Minute - time.Nanosecond)
		if synctest.Wait(); longer.Err() != nil {
			t.Errorf("before its time: got %v", longer.Err())
		}
		time.Sleep(time.Nanosecond)
		if synctest.Wait(); longer.Err() == nil {
			t.Error("a minute after its context: it has not ended")
		}

		longer, cancel = Outliving(t.Context(), time.Minute)
		if cancel(); longer.Err() == nil {
			t.Error("cancelled: it has not ended")
		}
	})
}
