package kafka

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/pipeline/verify"
)

var _ verify.Results = (*ResultsTopic)(nil)

// ResultsTopic reads the results topic from outside of the sink's group.
type ResultsTopic struct{ *SourceTopic }

// NewResultsTopic returns access to the results of cfg's installation. Settle waits at most so long.
func NewResultsTopic(cfg Config, wait time.Duration, log *slog.Logger) *ResultsTopic {
	return &ResultsTopic{NewSourceTopic(cfg, cfg.Topics.Results.Name, wait, log)}
}

// Settle implements verify.Results.
func (r *ResultsTopic) Settle(ctx context.Context, end verify.Offsets) error {
	ctx, cancel := context.WithTimeout(ctx, r.wait)
	defer cancel()
	return r.await(ctx, r.cfg.Group+"-sink", r.topic, end)
}

// Blocks implements verify.Results.
func (r *ResultsTopic) Blocks(ctx context.Context, from, to verify.Offsets, fn func(*verify.Block) error) error {
	err := readRange(ctx, &r.cfg, r.topic, from, to, r.log, func(_ [16]byte, record *kgo.Record) error {
		for _, h := range record.Headers {
			if h.Key == pipeline.HeaderTable && string(h.Value) == pipeline.TableRollups {
				return fn(&verify.Block{Partition: record.Partition, Offset: record.Offset, Time: record.Timestamp, Bytes: record.Value})
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read %s: %w", r.topic, explain(err))
	}
	return nil
}
