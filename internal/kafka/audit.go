package kafka

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/vigie-io/vigie/internal/coarse"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/pipeline/verify"
	"github.com/vigie-io/vigie/internal/sink"
)

var _ verify.Results = (*ResultsTopic)(nil)

// ResultsTopic reads a topic of results from outside of the group of its sink.
type ResultsTopic struct {
	*SourceTopic
	sink   string   // role
	tables []string // whose blocks are read
}

// NewResultsTopic returns access to the results of cfg's installation that go into an ingest table. Settle waits at
// most so long.
func NewResultsTopic(cfg Config, table string, wait time.Duration, log *slog.Logger) *ResultsTopic {
	return newResultsTopic(cfg, cfg.Topics.Results.Name, sinkRole, wait, log, table)
}

func newResultsTopic(cfg Config, topic, sink string, wait time.Duration, log *slog.Logger, tables ...string) *ResultsTopic {
	return &ResultsTopic{SourceTopic: NewSourceTopic(cfg, topic, wait, log), sink: sink, tables: tables}
}

// ResultsOf returns all results of cfg's installation that fill a table of rollups. Settle waits at most so long.
func ResultsOf(cfg Config, table verify.Table, wait time.Duration, log *slog.Logger) []verify.Results {
	results := cfg.Topics.Results.Name
	if !table.Merged() {
		return []verify.Results{newResultsTopic(cfg, results, sinkRole, wait, log, pipeline.TablePanes, pipeline.TableRollups)}
	}
	return []verify.Results{
		newResultsTopic(cfg, cfg.Topics.Coarse.Name, sinkCoarseRole, wait, log, coarse.TableMinutes),
		newResultsTopic(cfg, results, sinkRole, wait, log, pipeline.TableRollups),
	}
}

// blocksMemory is what Blocks keeps at most to unpack blocks into, in bytes.
const blocksMemory = 64 << 20

// Settle implements verify.Results.
func (r *ResultsTopic) Settle(ctx context.Context, end verify.Offsets) error {
	ctx, cancel := context.WithTimeout(ctx, r.wait)
	defer cancel()
	return r.await(ctx, r.cfg.groupOf(r.sink), r.topic, end)
}

// Blocks implements verify.Results.
func (r *ResultsTopic) Blocks(ctx context.Context, from, to verify.Offsets, fn func(*verify.Block) error) error {
	how := unpacking{memory: newMemory(blocksMemory), most: unbounded}
	err := readRangeInto(ctx, &r.cfg, r.topic, from, to, how, r.log, func(id [16]byte, record *kgo.Record) error {
		table, rows := "", 0
		for _, h := range record.Headers {
			switch h.Key {
			case pipeline.HeaderTable:
				table = string(h.Value)
			case pipeline.HeaderRows:
				rows, _ = strconv.Atoi(string(h.Value)) // the sink parks what has no number
			}
		}
		if !slices.Contains(r.tables, table) {
			return nil
		}
		result := sink.Record{TopicID: id, Partition: record.Partition, Offset: record.Offset}
		return fn(&verify.Block{
			Partition: record.Partition, Offset: record.Offset, Ingest: table, Token: result.Token(table),
			Rows: rows, Bytes: record.Value,
		})
	})
	if err != nil {
		return fmt.Errorf("read %s: %w", r.topic, explain(err))
	}
	return nil
}
