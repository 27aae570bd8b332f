package app

import (
	"context"
	"time"

	"github.com/vigie-io/vigie/internal/backfill"
	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/config"
	"github.com/vigie-io/vigie/internal/pipeline"
)

// BackfillPast is the age up to which backfill takes events: the retention of the widest tier.
const BackfillPast = 400 * 24 * time.Hour

// Backfill runs a job, of which the configuration gives the bounds that are not set.
func Backfill(ctx context.Context, cfg config.Config, of backfill.Config, out backfill.Output) (backfill.Summary, error) {
	of = backfillOf(&cfg, of)
	if of.Replace != nil {
		of.Replace.MaxPast = cfg.Stream.MaxPast
	}
	if err := of.Validate(); err != nil {
		return backfill.Summary{}, err
	}
	client, err := readyClickHouse(ctx, &cfg)
	if err != nil {
		return backfill.Summary{}, err
	}
	defer client.Close()
	return backfill.New(of, clickhouse.NewBackfill(client), clickhouse.Encoder{}, out, nil).Run(ctx)
}

// backfillOf gives a job the bounds of the configuration.
func backfillOf(cfg *config.Config, of backfill.Config) backfill.Config {
	of.MaxPast, of.MaxFuture, of.Decoder = BackfillPast, cfg.Stream.MaxFuture, pipeline.DecoderOptions(&cfg.Tenants.Defaults)
	of.S3, of.Rollups = cfg.Backfill.S3, cfg.Stream.Rollups
	return of
}
