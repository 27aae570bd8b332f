package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vigie-io/vigie/internal/kafka"
	"github.com/vigie-io/vigie/internal/pause"
)

// topics makes sure that Kafka can be reached and has the topics of the configuration.
type topics struct {
	cfg     kafka.Config
	log     *slog.Logger
	looked  chan struct{} // closed when they have been looked at once
	there   chan struct{} // closed when they are there
	failure atomic.Value  // string: why not yet
}

func newTopics(cfg kafka.Config, log *slog.Logger) *topics {
	return &topics{cfg: cfg, log: log, looked: make(chan struct{}), there: make(chan struct{})}
}

const (
	topicsRetryMin = 200 * time.Millisecond
	topicsRetryMax = 10 * time.Second
)

// ensure tries until the topics are there or ctx ends: a service may start before its broker.
func (t *topics) ensure(ctx context.Context) error {
	looked := sync.OnceFunc(func() { close(t.looked) })
	for wait := topicsRetryMin; ; wait = min(2*wait, topicsRetryMax) {
		err := t.once(ctx)
		if err == nil {
			close(t.there)
			looked()
			return nil
		}
		t.failure.Store(err.Error())
		looked()
		t.log.Warn("topics are not ready", "err", err, "retry_in", wait)
		if pause.For(ctx, wait) != nil {
			return nil
		}
	}
}

// opened calls open beside the first look at the topics, which a process that starts again need not wait for, and
// returns what it opened when they are there. Until they are, it waits with nothing open.
func opened[T interface{ Close() }](ctx context.Context, t *topics, open func() (T, error)) (T, error) {
	if isClosed(t.there) {
		return open()
	}
	session, err := open()
	if await(ctx, t.looked); err == nil && isClosed(t.there) {
		return session, nil
	}
	if err == nil {
		session.Close()
	}
	if await(ctx, t.there); ctx.Err() != nil {
		return session, ctx.Err()
	}
	return open()
}

func await(ctx context.Context, c <-chan struct{}) {
	select {
	case <-c:
	case <-ctx.Done():
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func (t *topics) once(ctx context.Context) error {
	admin, err := kafka.NewAdmin(t.cfg, t.log)
	if err != nil {
		return err
	}
	defer admin.Close()
	_, err = admin.EnsureTopics(ctx)
	return err
}

// ready is nil when the topics were found and the broker answers now.
func (t *topics) ready(ctx context.Context) error {
	if !isClosed(t.there) {
		reason, _ := t.failure.Load().(string)
		if reason == "" {
			return errors.New("topics: not looked at yet")
		}
		return fmt.Errorf("topics: %s", reason)
	}
	admin, err := kafka.NewAdmin(t.cfg, t.log)
	if err != nil {
		return err
	}
	defer admin.Close()
	return admin.Ping(ctx)
}
