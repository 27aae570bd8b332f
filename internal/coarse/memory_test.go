package coarse_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vigie-io/vigie/internal/coarse"
	"github.com/vigie-io/vigie/internal/pipeline"
)

// counting is a shard whose commits succeed and are counted.
type counting struct {
	*shard
	commits int
}

func (c *counting) Commit(context.Context, []coarse.Block, int64) error {
	c.commits++
	return nil
}

// The partitions that a process has share its memory, however many the topic has: one alone has all of it. Many workers
// with a partition each would else commit after some hundred rows, and merge nothing.
func TestPartitionsOfAProcessShareItsMemory(t *testing.T) {
	const memory = 100 << 10
	// commits are those before their time of so many partitions of a process, each with rows for six tenths of its memory.
	commits := func(t *testing.T, partitions int) (n int) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(1)
			noReach := func(context.Context, string) (map[int32]int64, error) { return nil, errors.New("not asked") }
			runner := coarse.NewRunner(coarse.Config{Interval: 10 * time.Minute, Memory: memory}, plainCodec{}, plainCodec{}, noReach,
				coarse.NewMetrics(prometheus.NewRegistry()), slog.New(slog.DiscardHandler))
			ctx, stop := context.WithCancel(t.Context())
			shards := make([]*counting, partitions)
			var running sync.WaitGroup
			for p := range partitions {
				s, at := w.open(p)
				shards[p] = &counting{shard: s}
				running.Go(func() { _ = runner.Run(ctx, shards[p], at) })
			}
			synctest.Wait() // all have begun
			w.mu.Lock()
			var rows coarse.Merger
			for i := 0; rows.Bytes() < memory*6/10; i++ {
				one := rollups(oneRow{tenant: "a", metric: "m", start: uint32(60 * i), count: 1})
				if err := rows.Add(one); err != nil {
					t.Fatal(err)
				}
				for p := range partitions {
					w.append(p, pipeline.TablePanes, one)
				}
			}
			w.mu.Unlock()
			time.Sleep(time.Minute)
			stop()
			running.Wait()
			for _, s := range shards {
				n += s.commits
			}
		})
		return n
	}
	for partitions, want := range map[int]int{1: 0, 2: 2} {
		if got := commits(t, partitions); got != want {
			t.Errorf("commits of %d partitions: got %d, want %d", partitions, got, want)
		}
	}
}
