package app

import (
	"context"
	"time"

	"github.com/vigie-io/vigie/internal/pause"
)

// sessions calls once again and again until ctx ends, with pauses between shortest and longest that double while
// sessions are shorter than the longest. failed is told why one ended, and how long the pause is.
func sessions(ctx context.Context, shortest, longest time.Duration, once func() error,
	failed func(err error, wait time.Duration)) {
	for wait := shortest; ctx.Err() == nil; wait = min(2*wait, longest) {
		began := time.Now()
		err := once()
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > longest {
			wait = shortest
		}
		failed(err, wait)
		_ = pause.For(ctx, wait) // the loop sees that ctx has ended
	}
}
