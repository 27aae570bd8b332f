// Package pause waits between attempts, for loops that end with a context. It knows no policy: how long to wait, and
// whether to try again, is the caller's business.
package pause

import (
	"context"
	"time"
)

// For returns nil after d, or ctx's error as soon as ctx ends.
func For(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
