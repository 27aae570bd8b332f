package app

import (
	"context"
	"time"

	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/coarse"
	"github.com/vigie-io/vigie/internal/config"
	"github.com/vigie-io/vigie/internal/kafka"
)

// mergeResults merges results into rows of a minute until ctx ends.
func mergeResults(ctx context.Context, cfg *config.Config, p *Process, client *clickhouse.Client, metrics *coarse.Metrics) {
	runner := coarse.NewRunner(cfg.Stream.Coarse, clickhouse.Decoder{}, clickhouse.Encoder{}, clickhouse.NewStore(client).Merged, metrics, p.Log)
	run := func(ctx context.Context, shard *kafka.CoarseShard) error {
		metrics.Lost(shard.Lost())
		return runner.Run(ctx, shard, shard.Position())
	}
	sessions(ctx, sinkRetryMin, sinkRetryMax, func() error { return kafka.RunCoarseShards(ctx, cfg.Kafka, p.Log, run) },
		func(err error, wait time.Duration) {
			p.Log.Error("merging of results ended; starting it again", "err", err, "retry_in", wait)
		})
}
