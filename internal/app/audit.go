package app

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/config"
	"github.com/vigie-io/vigie/internal/kafka"
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
	store := clickhouse.NewStore(client)
	replaced, err := replacedOf(ctx, client)
	if err != nil {
		return err
	}
	for _, table := range of.Tables {
		asked := verify.AuditConfig{
			Table: filled(&cfg, table, of.Wait, log), Since: of.Since, Now: time.Now(), MaxFuture: cfg.Stream.MaxFuture,
			Decode: clickhouse.Decoder{}.DecodeAmounts, Replaced: replaced,
		}
		var audited verify.Audited
		if of.Repair {
			audited, err = verify.Repair(ctx, asked, store, clickhouse.NewRepairer(client, clickhouse.RepairPatience))
			for _, m := range audited.Missing[:audited.Repaired] {
				log.Warn("result block repaired", "table", table.Name, "ingest", m.Ingest, "partition", m.Partition,
					"offset", m.Offset, "rows", m.Rows)
			}
		} else {
			audited, err = verify.Audit(ctx, asked, store)
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

// filled is a table of rollups with all results that fill it, which wait so long to be stored.
func filled(cfg *config.Config, table verify.Table, wait time.Duration, log *slog.Logger) verify.Filled {
	delay := cfg.Stream.WatermarkDelay
	if table.Merged() {
		delay += cfg.Stream.Coarse.Interval
	}
	return verify.Filled{Table: table, Results: kafka.ResultsOf(cfg.Kafka, table, wait, log), Delay: delay}
}

// auditedBy are the tables that the auditor of a sink looks at, that of what is merged or that of results; first of each
// table's results are those that the sink stores.
func auditedBy(cfg *config.Config, merged bool, log *slog.Logger) (tables []verify.Filled) {
	for _, table := range verify.Tables() {
		of := filled(cfg, table, auditWait, log)
		switch {
		case table.Merged() && !merged:
			slices.Reverse(of.Results) // those for all tiers first
		case table.Merged() != merged:
			continue
		}
		tables = append(tables, of)
	}
	return tables
}
