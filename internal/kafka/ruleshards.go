package kafka

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/vigie-io/vigie/internal/tenants"
)

// RunRuleShards joins the group of those that evaluate rules (kafka.group with "-rules") and runs each partition of the
// topic of rule states that it is given, until it is taken away or ctx ends. run is called anew, with the shard opened
// anew, when it returned an error. It returns nil when ctx ends, and an error when the membership is lost.
func RunRuleShards(ctx context.Context, cfg Config, log *slog.Logger, run func(context.Context, *RuleShard) error) error {
	group := &shardGroup{cfg: cfg, role: rulesRole, topic: cfg.Topics.RuleState.Name, log: log}
	return runShards(ctx, group, openRuleShard, run)
}

// RuleShard is one partition of the topic of rule states and the only producer to it: its transactional id is that of
// the partition, so that opening it fences whoever had it before and ends his transaction. One goroutine uses it.
type RuleShard struct {
	cfg       Config
	log       *slog.Logger
	producer  *transactor
	partition int32
}

func openRuleShard(ctx context.Context, cfg Config, partition int32, log *slog.Logger) (*RuleShard, error) {
	producer, err := newShardProducer(ctx, &cfg, rulesRole, partition, log, cfg.Topics.Metrics.Name, cfg.Topics.RuleState.Name)
	if err != nil {
		return nil, err
	}
	return &RuleShard{cfg, log, producer, partition}, nil
}

func (s *RuleShard) close() { s.producer.client.Close() }

// Partition is the shard's number and how many there are.
func (s *RuleShard) Partition() (number, of int32) {
	return s.partition, int32(s.producer.partitions[s.cfg.Topics.RuleState.Name])
}

// Restore returns the last committed states by key. No transaction is open since the shard was: what lies before the
// end of the log is all there is.
func (s *RuleShard) Restore(ctx context.Context) (map[string][]byte, error) {
	topic := s.cfg.Topics.RuleState.Name
	admin := kadm.NewClient(s.producer.client)
	starts, err := listed(ctx, admin, topic, listStarts)
	if err != nil {
		return nil, err
	}
	ends, err := listed(ctx, admin, topic, listEnds)
	if err != nil {
		return nil, err
	}
	states := map[string][]byte{}
	own := map[int32]int64{s.partition: ends[s.partition]}
	err = readRange(ctx, &s.cfg, topic, starts, own, s.log, func(_ [16]byte, r *kgo.Record) error {
		if r.Value == nil {
			delete(states, string(r.Key))
		} else {
			states[string(r.Key)] = r.Value
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("restore rules from %s/%d: %w", topic, s.partition, err)
	}
	return states, nil
}

// Commit appends events, with their tenants as keys, to the topic of metrics, and states to the shard's partition, in
// one transaction. After an error the shard is of no more use.
func (s *RuleShard) Commit(ctx context.Context, events map[tenants.ID][][]byte, states map[string][]byte) error {
	var records []kgo.Record
	for tenant, values := range events {
		for _, value := range values {
			records = append(records, kgo.Record{Topic: s.cfg.Topics.Metrics.Name, Partition: byKey, Key: []byte(tenant), Value: value})
		}
	}
	for key, value := range states {
		records = append(records, kgo.Record{Topic: s.cfg.Topics.RuleState.Name, Partition: s.partition, Key: []byte(key), Value: value})
	}
	if err := s.producer.transact(ctx, records); err != nil {
		return fmt.Errorf("commit rules: %w", explain(err))
	}
	return nil
}
