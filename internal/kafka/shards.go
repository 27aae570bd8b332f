package kafka

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/vigie-io/vigie/internal/pause"
)

const (
	shardRetryMin = 250 * time.Millisecond
	shardRetryMax = 15 * time.Second
)

// shardGroup is a consumer group that shares the partitions of a topic out and commits no offsets: each partition is
// run by whoever has it, who fences whoever had it before by a transactional id.
type shardGroup struct {
	cfg   Config
	role  string // of the connections, and of the group: behind kafka.group
	topic string
	log   *slog.Logger
	once  func(ctx context.Context, partition int32) error

	mu      sync.Mutex
	running map[int32]*shardRunner
}

type shardRunner struct {
	cancel context.CancelFunc
	done   chan struct{}
}

// runShards joins the group and opens and runs each partition that it is given, until it is taken away or ctx ends. It
// is opened anew when open or run returned an error. runShards returns nil when ctx ends, and an error when the
// membership is lost.
func runShards[S interface{ close() }](ctx context.Context, g *shardGroup,
	open func(context.Context, Config, int32, *slog.Logger) (S, error), run func(context.Context, S) error) error {
	g.once = func(ctx context.Context, partition int32) error {
		shard, err := open(ctx, g.cfg, partition, g.log.With("shard", partition))
		if err != nil {
			return fmt.Errorf("open %s %d: %w", g.role, partition, err)
		}
		defer shard.close()
		return run(ctx, shard)
	}
	return g.share(ctx)
}

// newShardProducer returns the only producer to a partition: it fences whoever had it before, and ends his transaction.
func newShardProducer(ctx context.Context, cfg *Config, role string, partition int32, log *slog.Logger, topics ...string) (*transactor, error) {
	id := fmt.Sprintf("%s-%s-%d", cfg.TransactionalIDPrefix, role, partition)
	return newTransactor(ctx, cfg, role, topics, log, kgo.TransactionalID(id))
}

func (g *shardGroup) share(ctx context.Context) error {
	g.running = map[int32]*shardRunner{}
	instance, err := g.cfg.instance()
	if err != nil {
		return err
	}
	options, err := g.cfg.options(g.role, g.log)
	if err != nil {
		return err
	}
	group := g.cfg.groupOf(g.role)
	client, err := kgo.NewClient(append(options,
		kgo.ConsumerGroup(group),
		kgo.InstanceID(memberID(instance, 0)),
		kgo.SessionTimeout(g.cfg.SessionTimeout),
		kgo.HeartbeatInterval(g.cfg.heartbeat()),
		kgo.DisableAutoCommit(),
		kgo.ConsumeTopics(g.topic),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, given map[string][]int32) { g.start(ctx, given[g.topic]) }),
		kgo.OnPartitionsRevoked(func(_ context.Context, _ *kgo.Client, taken map[string][]int32) { g.stop(taken[g.topic]) }),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, lost map[string][]int32) { g.stop(lost[g.topic]) }),
	)...)
	if err != nil {
		return fmt.Errorf("kafka client: %w", err)
	}
	// The group shares partitions out; each shard reads its own.
	client.PauseFetchTopics(g.topic)
	defer g.close()
	defer client.Close()
	for ctx.Err() == nil {
		fetches, err := pollFor(ctx, client, time.Minute, g.log)
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("group %s: %w", group, explain(err))
		}
		if fetches.IsClientClosed() {
			return fmt.Errorf("group %s: %w", group, kgo.ErrClientClosed)
		}
	}
	return nil
}

func (g *shardGroup) start(ctx context.Context, partitions []int32) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, partition := range partitions {
		if g.running[partition] != nil {
			continue
		}
		running, cancel := context.WithCancel(ctx)
		r := &shardRunner{cancel, make(chan struct{})}
		g.running[partition] = r
		go func() {
			defer close(r.done)
			g.keep(running, partition)
		}()
	}
}

// stop returns when nothing of the partitions is running any more.
func (g *shardGroup) stop(partitions []int32) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, partition := range partitions {
		if r := g.running[partition]; r != nil {
			r.cancel()
			<-r.done
			delete(g.running, partition)
		}
	}
}

func (g *shardGroup) close() {
	g.mu.Lock()
	var all []int32
	for partition := range g.running {
		all = append(all, partition)
	}
	g.mu.Unlock()
	g.stop(all)
}

// keep runs a shard, and again after an error.
func (g *shardGroup) keep(ctx context.Context, partition int32) {
	for wait := shardRetryMin; ; wait = min(2*wait, shardRetryMax) {
		began := time.Now()
		err := g.once(ctx, partition)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > shardRetryMax {
			wait = shardRetryMin
		}
		g.log.Warn("shard ended; opening it again", "topic", g.topic, "partition", partition, "err", err, "retry_in", wait)
		if pause.For(ctx, wait) != nil {
			return
		}
	}
}
