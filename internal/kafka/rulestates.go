package kafka

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// FollowRuleStates reads all committed states of rule groups, of every partition, and goes on with those that are
// committed later, until ctx ends (nil) or reading is in error. take is given a state nil when it was forgotten; a
// key's states come in order.
func FollowRuleStates(ctx context.Context, cfg Config, log *slog.Logger, take func(key string, state []byte)) error {
	options, err := cfg.options("rules", log)
	if err != nil {
		return err
	}
	topic := cfg.Topics.RuleState.Name
	client, err := kgo.NewClient(append(options,
		kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchMaxWait(time.Second),
		kgo.WithContext(ctx), // so that nothing is fetched any more while it closes, as in closeReader
	)...)
	if err != nil {
		return fmt.Errorf("kafka client: %w", err)
	}
	defer client.Close()
	for {
		fetches, err := pollFor(ctx, client, time.Minute, log)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("follow %s: %w", topic, explain(err))
		}
		fetches.EachRecord(func(r *kgo.Record) { take(string(r.Key), r.Value) })
	}
}
