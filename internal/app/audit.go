package app

import (
	"context"
	"log/slog"
	"time"

	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/config"
	"github.com/vigie-io/vigie/internal/kafka"
	"github.com/vigie-io/vigie/internal/pipeline/verify"
)

// AuditRequest says what to audit.
type AuditRequest struct {
	Tables []verify.Table
	Since  time.Time
	Wait   time.Duration // for results that are not stored yet
	Repair bool
}

// AuditResults compares result records with what ClickHouse holds, table by table, and repairs what is missing when it is
// asked to. found is called for every table; what it was told of is repaired when the function returns without an error.
func AuditResults(ctx context.Context, cfg config.Config, of AuditRequest, log *slog.Logger, found func(verify.Table, verify.Audited)) error {
	client, err := readyClickHouse(ctx, &cfg)
	if err != nil {
		return err
	}
	defer client.Close()
	results := kafka.NewResultsTopic(cfg.Kafka, of.Wait, log)
	store := clickhouse.NewStore(client)
	for _, table := range of.Tables {
		audited, err := verify.Audit(ctx, verify.AuditConfig{
			Table: table, Since: of.Since, Now: time.Now(), MaxFuture: cfg.Stream.MaxFuture, WatermarkDelay: cfg.Stream.WatermarkDelay,
			Decode: clickhouse.Decoder{}.DecodeRollups,
		}, results, store)
		if err != nil {
			return err
		}
		found(table, audited)
		if !of.Repair {
			continue
		}
		for _, missing := range audited.Missing {
			if err := client.Repair(ctx, missing); err != nil {
				return err
			}
			log.Warn("result block repaired", "table", table.Name, "partition", missing.Partition, "offset", missing.Offset, "rows", missing.Rows)
		}
	}
	return nil
}
