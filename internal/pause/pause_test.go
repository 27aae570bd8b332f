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
