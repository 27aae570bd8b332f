package app

import (
	"context"
	"log/slog"
	"time"

	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/config"
	"github.com/vigie-io/vigie/internal/kafka"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/pipeline/verify"
)

// AuditRequest says what to audit.
type AuditRequest struct {
	Tables []verify.Table
	Kept   []string // names of tables whose rows replace each other
	Since  time.Time
	Wait   time.Duration // for results that are not stored yet
	Repair bool
}

// AuditResults compares result records with what ClickHouse holds, table by table, and puts back what is missing when
// it is asked to. found is called for every table: of what is missing, or was and has been put back.
func AuditResults(ctx context.Context, cfg config.Config, of AuditRequest, log *slog.Logger,
	found func(table string, a verify.Audited)) error {
	client, err := readyClickHouse(ctx, &cfg)
	if err != nil {
		return err
	}
	defer client.Close()
	results := kafka.NewResultsTopic(cfg.Kafka, pipeline.TableRollups, of.Wait, log)
	store := clickhouse.NewStore(client)
	replaced, err := replacedOf(ctx, client)
	if err != nil {
		return err
	}
	for _, table := range of.Tables {
		asked := verify.AuditConfig{
			Table: table, Since: of.Since, Now: time.Now(), MaxFuture: cfg.Stream.MaxFuture,
			WatermarkDelay: cfg.Stream.WatermarkDelay,
			Decode:         clickhouse.Decoder{}.DecodeAmounts, Replaced: replaced,
		}
		var audited verify.Audited
		if of.Repair {
			audited, err = verify.Repair(ctx, asked, results, store, clickhouse.NewRepairer(client, clickhouse.RepairPatience))
			for _, m := range audited.Missing[:audited.Repaired] {
				log.Warn("result block repaired", "table", table.Name, "partition", m.Partition,
					"offset", m.Offset, "rows", m.Rows)
			}
		} else {
			audited, err = verify.Audit(ctx, asked, results, store)
		}
		if err != nil {
			return err
		}
		found(table.Name, audited)
	}
	for _, name := range of.Kept {
		table := verify.KeptTable{Name: name, Results: kafka.NewResultsTopic(cfg.Kafka, verify.KeptIngest()[name], of.Wait, log)}
		audited, err := verify.AuditKept(ctx, verify.AuditConfig{Since: of.Since}, table, clickhouse.NewKept(client), of.Repair)
		if err != nil {
			return err
		}
		found(name, audited)
	}
	return nil
}
