package app

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vigie-io/vigie/internal/kafka"
)

// trace is what is opened, closed and found, in order.
type trace struct {
	mu   sync.Mutex
	text strings.Builder
}

func (t *trace) note(what string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text.WriteString(what + " ")
}

func (t *trace) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.String()
}

// Close ends what was opened.
func (t *trace) Close() { t.note("close") }

// What is opened beside the first look at the topics is used if they are there, and otherwise not before they are.
func TestOpenedBesideTheFirstLook(t *testing.T) {
	f := func(looked, there, takes time.Duration, fails bool, want string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			topics, got := newTopics(kafka.DefaultConfig(), nil), &trace{}
			time.AfterFunc(looked, func() { got.note("looked"); close(topics.looked) })
			time.AfterFunc(there, func() { got.note("there"); close(topics.there) })
			_, err := opened(t.Context(), topics, func() (*trace, error) {
				got.note("open")
				missing := fails && !isClosed(topics.there)
				time.Sleep(takes)
				if missing {
					return nil, errors.New("no such topic")
				}
				return got, nil
			})
			if got.note("done"); err != nil || strings.TrimSpace(got.String()) != want {
				t.Errorf("got %s (%v), want %s", got, err, want)
			}
			synctest.Wait()
		})
	}
	const s = time.Second
	f(2*s, s, 3*s, false, "open there looked done")
	f(3*s, 2*s, s, false, "open there looked done")
	f(3*s, 2*s, s, true, "open there looked open done")
	f(3*s, s, 2*s, true, "open there looked open done")
	// The topics have to be made, or what is wrong with them to be mended, first.
	f(2*s, 9*s, s, false, "open looked close there open done")
	f(2*s, 9*s, s, true, "open looked there open done")
	f(s, 9*s, 2*s, false, "open looked close there open done")
}

func TestOpenedEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		got := &trace{}
		_, err := opened(ctx, newTopics(kafka.DefaultConfig(), nil), func() (*trace, error) { return got, nil })
		if !errors.Is(err, context.DeadlineExceeded) || got.String() != "close " {
			t.Errorf("got %v, %q, want a deadline and what was opened closed", err, got)
		}
	})
}
