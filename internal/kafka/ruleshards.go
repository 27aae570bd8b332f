package kafka

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/vigie-io/vigie/internal/pause"
	"github.com/vigie-io/vigie/internal/tenants"
)

const (
	shardRetryMin = 250 * time.Millisecond
	shardRetryMax = 15 * time.Second
)

// RunRuleShards joins the group of those that evaluate rules (kafka.group with "-rules") and runs each partition of the
// topic of rule states that it is given, until it is taken away or ctx ends. run is called anew, with the shard opened
// anew, when it returned an error. It returns nil when ctx ends, and an error when the membership is lost.
func RunRuleShards(ctx context.Context, cfg Config, log *slog.Logger, run func(context.Context, *RuleShard) error) error {
	instance, err := cfg.instance()
	if err != nil {
		return err
	}
	options, err := cfg.options("rules", log)
	if err != nil {
		return err
	}
	m := &ruleMember{cfg: cfg, log: log, run: run, running: map[int32]*shardRunner{}}
	topic := cfg.Topics.RuleState.Name
	client, err := kgo.NewClient(append(options,
		kgo.ConsumerGroup(cfg.Group+"-rules"),
		kgo.InstanceID(memberID(instance, 0)),
		kgo.SessionTimeout(cfg.SessionTimeout),
		kgo.HeartbeatInterval(cfg.heartbeat()),
		kgo.DisableAutoCommit(),
		kgo.ConsumeTopics(topic),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, given map[string][]int32) { m.start(ctx, given[topic]) }),
		kgo.OnPartitionsRevoked(func(_ context.Context, _ *kgo.Client, taken map[string][]int32) { m.stop(taken[topic]) }),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, lost map[string][]int32) { m.stop(lost[topic]) }),
	)...)
	if err != nil {
		return fmt.Errorf("kafka client: %w", err)
	}
	// The group shares partitions out; each shard reads its own.
	client.PauseFetchTopics(topic)
	defer m.close()
	defer client.Close()
	for ctx.Err() == nil {
		fetches, err := pollFor(ctx, client, time.Minute, log)
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("group %s-rules: %w", cfg.Group, explain(err))
		}
		if fetches.IsClientClosed() {
			return fmt.Errorf("group %s-rules: %w", cfg.Group, kgo.ErrClientClosed)
		}
	}
	return nil
}

// ruleMember is this process' membership.
type ruleMember struct {
	cfg Config
	log *slog.Logger
	run func(context.Context, *RuleShard) error

	mu      sync.Mutex
	running map[int32]*shardRunner
}

type shardRunner struct {
	cancel context.CancelFunc
	done   chan struct{}
}

func (m *ruleMember) start(ctx context.Context, partitions []int32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, partition := range partitions {
		if m.running[partition] != nil {
			continue
		}
		running, cancel := context.WithCancel(ctx)
		r := &shardRunner{cancel, make(chan struct{})}
		m.running[partition] = r
		go func() {
			defer close(r.done)
			m.keep(running, partition)
		}()
	}
}

// stop returns when nothing of the partitions is running any more.
func (m *ruleMember) stop(partitions []int32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, partition := range partitions {
		if r := m.running[partition]; r != nil {
			r.cancel()
			<-r.done
			delete(m.running, partition)
		}
	}
}

func (m *ruleMember) close() {
	m.mu.Lock()
	var all []int32
	for partition := range m.running {
		all = append(all, partition)
	}
	m.mu.Unlock()
	m.stop(all)
}

// keep runs a shard, and again after an error.
func (m *ruleMember) keep(ctx context.Context, partition int32) {
	for wait := shardRetryMin; ; wait = min(2*wait, shardRetryMax) {
		began := time.Now()
		err := m.once(ctx, partition)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > shardRetryMax {
			wait = shardRetryMin
		}
		m.log.Warn("shard of rules ended; opening it again", "partition", partition, "err", err, "retry_in", wait)
		if pause.For(ctx, wait) != nil {
			return
		}
	}
}

func (m *ruleMember) once(ctx context.Context, partition int32) error {
	shard, err := openRuleShard(ctx, m.cfg, partition, m.log)
	if err != nil {
		return err
	}
	defer shard.producer.client.Close()
	return m.run(ctx, shard)
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
	log = log.With("shard", partition)
	metrics, states := cfg.Topics.Metrics.Name, cfg.Topics.RuleState.Name
	producer, err := newTransactor(ctx, &cfg, "rules", []string{metrics, states}, log,
		kgo.TransactionalID(fmt.Sprintf("%s-rules-%d", cfg.TransactionalIDPrefix, partition)))
	if err != nil {
		return nil, fmt.Errorf("open rules %d: %w", partition, err)
	}
	return &RuleShard{cfg, log, producer, partition}, nil
}

// Partition is the shard's number and how many there are.
func (s *RuleShard) Partition() (number, of int32) {
	return s.partition, int32(s.producer.partitions[s.cfg.Topics.RuleState.Name])
}

// Restore returns the last committed states by key. No transaction is open since the shard was: what lies before the
// end of the log is all there is.
func (s *RuleShard) Restore(ctx context.Context) (map[string][]byte, error) {
	topic := s.cfg.Topics.RuleState.Name
	starts, err := offsetsOf(ctx, &s.cfg, topic, s.log, listStarts)
	if err != nil {
		return nil, err
	}
	ends, err := offsetsOf(ctx, &s.cfg, topic, s.log, listEnds)
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
