package kafka

import (
	"context"
	"fmt"
	"log/slog"
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
	sink  string // role
	table string
}

// NewResultsTopic returns access to the results of cfg's installation that go into an ingest table. Settle waits at
// most so long.
func NewResultsTopic(cfg Config, table string, wait time.Duration, log *slog.Logger) *ResultsTopic {
	return &ResultsTopic{NewSourceTopic(cfg, cfg.Topics.Results.Name, wait, log), sinkRole, table}
}

// NewCoarseTopic returns access to what is merged of the results of cfg's installation, rows of a minute. Settle waits
// at most so long.
func NewCoarseTopic(cfg Config, wait time.Duration, log *slog.Logger) *ResultsTopic {
	return &ResultsTopic{NewSourceTopic(cfg, cfg.Topics.Coarse.Name, wait, log), sinkCoarseRole, coarse.TableMinutes}
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
		if table != r.table {
			return nil
		}
		result := sink.Record{TopicID: id, Partition: record.Partition, Offset: record.Offset}
		return fn(&verify.Block{
			Partition: record.Partition, Offset: record.Offset, Time: record.Timestamp, Token: result.Token(table),
			Rows: rows, Bytes: record.Value,
		})
	})
	if err != nil {
		return fmt.Errorf("read %s: %w", r.topic, explain(err))
	}
	return nil
}
