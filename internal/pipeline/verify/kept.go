package verify

import (
	"context"
	"time"

	"github.com/vigie-io/vigie/internal/pipeline"
)

// Tables whose rows replace each other: a block may be inserted again at any time, and changes nothing where it is
// already.
const (
	KeptWindows      = "windows"
	KeptWindowSeries = "window_series"
	KeptSeries       = "series"
	KeptLabelValues  = "label_values"
)

// KeptTable is such a table and the results that fill it.
type KeptTable struct {
	Name    string
	Results Results
}

// KeptIngest is the destination of the result records that fill the tables, by table.
func KeptIngest() map[string]string {
	return map[string]string{
		KeptWindows: pipeline.TableWindows, KeptWindowSeries: pipeline.TableWindows,
		KeptSeries: pipeline.TableSeries, KeptLabelValues: pipeline.TableSeries,
	}
}

// KeptStore is the tables whose rows replace each other.
type KeptStore interface {
	// Lacks is how many rows of a block a table has not, nor later ones in their place.
	Lacks(ctx context.Context, table string, b *Block) (rows int, err error)
	// Again inserts a block as if it had never been.
	Again(ctx context.Context, table string, b *Block) error
}

// AuditKept asks of each result record behind cfg.After, or of epochs since cfg.Since, whether the table has its rows,
// and inserts what it has not again when repair is set. Panes need not be over: rows do not add up. Cfg's table, and
// what it says of times of panes, do not matter.
func AuditKept(ctx context.Context, cfg AuditConfig, table KeptTable, store KeptStore, repair bool) (out Audited, err error) {
	span, err := table.Results.Span(ctx, cfg.Since)
	if err != nil {
		return out, err
	}
	if err := table.Results.Settle(ctx, span.To); err != nil {
		return out, err
	}
	if cfg.After != nil {
		for partition, end := range span.To {
			after, named := cfg.After[partition]
			if !named {
				after = end
			}
			span.From[partition] = max(span.From[partition], after)
		}
	}
	out.From, out.To = cfg.Since.Unix(), time.Now().Unix()
	err = table.Results.Blocks(ctx, span.From, span.To, func(b *Block) error {
		out.Blocks++
		out.Rows += b.Rows
		lacks, err := store.Lacks(ctx, table.Name, b)
		if err != nil || lacks == 0 {
			return err
		}
		out.Missing = append(out.Missing, Missing{
			Block: Block{Partition: b.Partition, Offset: b.Offset, Ingest: b.Ingest, Token: b.Token},
			Table: Table{Name: table.Name}, Rows: lacks,
		})
		if !repair {
			return nil
		}
		if err := store.Again(ctx, table.Name, b); err != nil {
			return err
		}
		out.Repaired++
		return nil
	})
	return out, err
}
