package app

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// group runs parts that live and die together: the first that ends with an error ends all.
type group struct {
	ctx     context.Context
	stop    context.CancelFunc
	running sync.WaitGroup

	mu   sync.Mutex
	errs []error
}

func newGroup(ctx context.Context) *group {
	g := &group{}
	g.ctx, g.stop = context.WithCancel(ctx)
	return g
}

func (g *group) run(name string, part func(context.Context) error) {
	g.running.Go(func() {
		err := part(g.ctx)
		if err == nil || errors.Is(err, context.Canceled) && g.ctx.Err() != nil {
			return
		}
		g.mu.Lock()
		g.errs = append(g.errs, fmt.Errorf("%s: %w", name, err))
		g.mu.Unlock()
		g.stop()
	})
}

// wait returns when every part has ended, with their errors.
func (g *group) wait() error {
	g.running.Wait()
	g.stop()
	return errors.Join(g.errs...)
}
