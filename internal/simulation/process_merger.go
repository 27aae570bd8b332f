package simulation

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/coarse"
	"github.com/vigie-io/vigie/internal/kafka"
	"github.com/vigie-io/vigie/internal/units"
)

// merge runs the mergers of the partitions that a process is given.
func (w *World) merge(ctx context.Context, cfg kafka.Config, p *process, log *slog.Logger) error {
	runner := coarse.NewRunner(w.coarseConfig(), clickhouse.Decoder{}, clickhouse.Encoder{}, w.Server.answerReached,
		w.mergers.metrics, log)
	return kafka.RunCoarseShards(ctx, cfg, log, func(ctx context.Context, shard *kafka.CoarseShard) error {
		at := shard.Position()
		defer w.mergers.enter(at.Partition, p.name, w.hits)()
		w.mergers.metrics.Lost(shard.Lost())
		return runner.Run(ctx, merging{shard, p, w.hits}, at)
	})
}

func (w *World) coarseConfig() coarse.Config {
	return coarse.Config{Interval: time.Duration(w.shape.Interval) * time.Second, Memory: units.Bytes(w.shape.Memory) << 10}
}

// answerReached is the answer of the server to a merger.
func (s *Server) answerReached(_ context.Context, topic string) (map[int32]int64, error) {
	s.mu.Lock()
	away := time.Now().Before(s.away)
	s.mu.Unlock()
	if away {
		s.hits.add(hitWaits, 1)
		return nil, errRefused
	}
	return s.reached(topic), nil
}

// mergers are those that run.
type mergers struct {
	metrics *coarse.Metrics

	mu      sync.Mutex
	running map[int32]int    // by partition of the results
	last    map[int32]string // process that had it
}

func newMergers(metrics *coarse.Metrics) mergers {
	return mergers{metrics: metrics, running: map[int32]int{}, last: map[int32]string{}}
}

// enter notes that a merger runs in a process until leave is called.
func (m *mergers) enter(partition int32, process string, hits *Hits) (leave func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if last := m.last[partition]; last != "" && last != process {
		hits.add(hitMoved, 1)
	}
	m.last[partition] = process
	if m.running[partition]++; m.running[partition] > 1 {
		hits.add(hitTwo, 1)
	}
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.running[partition]--
	}
}

// working is how many partitions have a merger.
func (m *mergers) working() (partitions int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, n := range m.running {
		if n > 0 {
			partitions++
		}
	}
	return partitions
}

// merging is a merger's shard whose moments can be trapped.
type merging struct {
	coarse.Shard
	process *process
	hits    *Hits
}

// Moments of a merger that are no requests.
const (
	momentMerging = "merging" // rows are about to be committed: nothing has been sent of them
	momentMerged  = "merged"  // and are, which the merger does not know yet
)

func (m merging) Commit(ctx context.Context, blocks []coarse.Block, next int64) error {
	rows := next >= 0
	if rows {
		m.process.reach(momentMerging)
	}
	err := m.Shard.Commit(ctx, blocks, next)
	switch {
	case errors.Is(err, kafka.ErrFenced):
		m.hits.add(hitFenced, 1)
	case err == nil && rows:
		m.process.reach(momentMerged)
	}
	return err
}
