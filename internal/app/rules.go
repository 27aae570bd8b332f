package app

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/vigie-io/vigie/internal/kafka"
	"github.com/vigie-io/vigie/internal/query/ruler"
)

var _ ruler.Shard = (*kafka.RuleShard)(nil)

const (
	rulesRetryMin = time.Second
	rulesRetryMax = 30 * time.Second
)

// ruleRunner evaluates rules in a query service, from when there are some.
type ruleRunner struct {
	*ruler.Ruler
	needed chan struct{} // closed when there are rules
	once   sync.Once
}

func newRuleRunner(cfg ruler.Config, o ruler.Options) (*ruleRunner, error) {
	files, err := ruler.Load(cfg)
	if err != nil {
		return nil, fmt.Errorf("rules: %w", err)
	}
	r := &ruleRunner{Ruler: ruler.New(files, o), needed: make(chan struct{})}
	r.replace(files)
	return r, nil
}

func (r *ruleRunner) replace(files *ruler.Files) {
	r.Replace(files)
	if !files.Empty() {
		r.once.Do(func() { close(r.needed) })
	}
}

// run returns when ctx ends. A query service without rules needs no Kafka.
func (r *ruleRunner) run(ctx context.Context, cfg kafka.Config, log *slog.Logger) error {
	select {
	case <-ctx.Done():
		return nil
	case <-r.needed:
		return runRules(ctx, cfg, r.Ruler, log)
	}
}

// runRules evaluates rules until ctx ends, whatever becomes of Kafka.
func runRules(ctx context.Context, cfg kafka.Config, r *ruler.Ruler, log *slog.Logger) error {
	if err := newTopics(cfg, log).ensure(ctx); err != nil {
		return err
	}
	for wait := rulesRetryMin; ctx.Err() == nil; wait = min(2*wait, rulesRetryMax) {
		began := time.Now()
		err := kafka.RunRuleShards(ctx, cfg, log, func(ctx context.Context, shard *kafka.RuleShard) error { return r.RunShard(ctx, shard) })
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(began) > rulesRetryMax {
			wait = rulesRetryMin
		}
		log.Error("rules are not evaluated; joining the group again", "err", err, "retry_in", wait)
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
	return nil
}
