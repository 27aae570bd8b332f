package kafka

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
)

// Who asks while a question is under way gets the answer to the next one, and all that wait meanwhile the same.
func TestRounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked [][]int
		free := make(chan struct{})
		r := rounds[int, int]{ask: func(keys []int) (int, error) {
			slices.Sort(keys)
			asked = append(asked, keys)
			<-free
			return len(asked), nil
		}}
		var all sync.WaitGroup
		get := func(want int, keys ...int) {
			all.Go(func() {
				if answer, err := r.get(t.Context(), keys...); err != nil || answer != want {
					t.Errorf("%v: got answer %d, %v, want the one of round %d", keys, answer, err, want)
				}
			})
		}
		get(1, 1)
		synctest.Wait()
		get(2, 2)
		get(2, 3, 4)
		gone, cancel := context.WithCancel(t.Context())
		all.Go(func() {
			if _, err := r.get(gone, 5); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want that it is not waited for", err)
			}
		})
		synctest.Wait()
		cancel()
		free <- struct{}{}
		free <- struct{}{}
		all.Wait()
		get(3, 6)
		free <- struct{}{}
		all.Wait()
		if want := [][]int{{1}, {2, 3, 4, 5}, {6}}; !slices.EqualFunc(asked, want, slices.Equal) {
			t.Errorf("got rounds %v, want %v", asked, want)
		}
	})
}

// A round that fails fails for those that it was for, and for nobody else.
func TestRoundsFail(t *testing.T) {
	failed := errors.New("once")
	r := rounds[int, int]{ask: func([]int) (int, error) { err := failed; failed = nil; return 7, err }}
	if _, err := r.get(t.Context(), 1); err == nil {
		t.Error("got no error, want that of the round")
	}
	if answer, err := r.get(t.Context(), 1); answer != 7 || err != nil {
		t.Errorf("got %d, %v, want 7", answer, err)
	}
}
