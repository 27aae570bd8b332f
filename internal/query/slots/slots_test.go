package slots_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/vigie-io/vigie/internal/query/slots"
	"github.com/vigie-io/vigie/internal/tenants"
)

func TestWaitsThenTurnsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := slots.New(func(tenants.ID) (int, int) { return 1, 1 })
		place, err := s.Acquire(t.Context(), "acme")
		if err != nil {
			t.Fatal(err)
		}
		if n := s.Running("acme"); n != 1 {
			t.Errorf("got %d running, want 1", n)
		}
		var second *slots.Place
		go func() { second, _ = s.Acquire(t.Context(), "acme") }()
		synctest.Wait()
		if second != nil {
			t.Error("the second query runs beside the first")
		}
		if _, err := s.Acquire(t.Context(), "acme"); !errors.Is(err, slots.ErrFull) {
			t.Errorf("the third: got %v, want ErrFull", err)
		}
		if other, err := s.Acquire(t.Context(), "demo"); err != nil {
			t.Errorf("another tenant: got %v", err)
		} else {
			other.Release()
		}
		place.Release()
		synctest.Wait()
		if second == nil {
			t.Fatal("the second query did not get the place")
		}
		ctx, cancel := context.WithCancel(t.Context())
		var waited error
		go func() { _, waited = s.Acquire(ctx, "acme") }()
		synctest.Wait()
		cancel()
		synctest.Wait()
		if !errors.Is(waited, context.Canceled) {
			t.Errorf("gave up: got %v", waited)
		}
		second.Release()
		if got := s.Tenants(); got != 0 {
			t.Errorf("got %d tenants kept, want none", got)
		}
	})
}

func TestNeverMoreThanAllowed(t *testing.T) {
	s := slots.New(func(tenants.ID) (int, int) { return 3, 100 })
	var running, most atomic.Int64
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			place, err := s.Acquire(t.Context(), "acme")
			if err != nil {
				t.Error(err)
				return
			}
			n := running.Add(1)
			for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
			}
			running.Add(-1)
			place.Release()
		})
	}
	wg.Wait()
	if most.Load() > 3 || s.Tenants() != 0 {
		t.Errorf("got %d at a time and %d tenants left, want at most 3 and none", most.Load(), s.Tenants())
	}
}
