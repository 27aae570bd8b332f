package simulation

import (
	"context"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/coarse"
	"github.com/vigie-io/vigie/internal/kafka"
	"github.com/vigie-io/vigie/internal/pause"
)

// merge runs the mergers of the results partitions that a process is given.
func (f *Fleet) merge(ctx context.Context, process string, cfg kafka.Config, log *slog.Logger) {
	runner := coarse.NewRunner(f.shape.Coarse, clickhouse.Decoder{}, clickhouse.Encoder{}, f.Warehouse.Merged,
		f.mergers.metrics, log)
	for ctx.Err() == nil {
		err := kafka.RunCoarseShards(ctx, cfg, log, func(ctx context.Context, shard *kafka.CoarseShard) error {
			at := shard.Position()
			defer f.mergers.enter(at.Partition, process, nil)()
			f.mergers.metrics.Lost(shard.Lost())
			return runner.Run(ctx, shard, at)
		})
		if err != nil {
			log.Error("mergers ended; starting them again", "err", err)
			_ = pause.For(ctx, 250*time.Millisecond)
		}
	}
}

// open notes which transactions are open, by the requests that begin and end them: most last some milliseconds, so that
// asking the brokers now and then would not see them.
func (f *Fleet) open(request kmsg.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch r := request.(type) {
	case *kmsg.ProduceRequest:
		if r.TransactionID != nil {
			f.transactions[*r.TransactionID] = time.Now()
			f.mostOpen = max(f.mostOpen, len(f.transactions))
		}
	case *kmsg.EndTxnRequest:
		delete(f.transactions, r.TransactionalID)
	case *kmsg.InitProducerIDRequest:
		if r.TransactionalID != nil {
			delete(f.transactions, *r.TransactionalID)
		}
	}
}

// takeOpen is how many transactions have been open at the same time since it was asked last. Those whose owner has gone
// are ended by the brokers.
func (f *Fleet) takeOpen() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	most := f.mostOpen
	for id, began := range f.transactions {
		if time.Since(began) > f.cfg.TransactionTimeout {
			delete(f.transactions, id)
		}
	}
	f.mostOpen = len(f.transactions)
	return most
}
