package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/vigie-io/vigie/internal/kafka"
)

// topics makes sure that Kafka can be reached and has the topics of the configuration.
type topics struct {
	cfg     kafka.Config
	log     *slog.Logger
	ensured atomic.Bool
	failure atomic.Value // string: why not yet
}

func newTopics(cfg kafka.Config, log *slog.Logger) *topics {
	return &topics{cfg: cfg, log: log}
}

const (
	topicsRetryMin = 200 * time.Millisecond
	topicsRetryMax = 10 * time.Second
)

// ensure tries until the topics are there or ctx ends: a service may start before its broker.
func (t *topics) ensure(ctx context.Context) error {
	for wait := topicsRetryMin; ; wait = min(2*wait, topicsRetryMax) {
		err := t.once(ctx)
		if err == nil {
			t.ensured.Store(true)
			return nil
		}
		t.failure.Store(err.Error())
		t.log.Warn("topics are not ready", "err", err, "retry_in", wait)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
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
	if !t.ensured.Load() {
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
