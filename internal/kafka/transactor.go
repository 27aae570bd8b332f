package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/vigie-io/vigie/internal/pipeline"
)

// transactor produces in transactions that commit no offsets. Each begins when the last has ended in all partitions.
// One goroutine uses it.
type transactor struct {
	client     *kgo.Client
	last       settling
	partitions map[string]int // of each topic that it produces to
}

// newTransactor fences whoever had the transactional id before, and returns when nothing of him is open any more in topics:
// those that the transactor will produce to. options hold the id. The caller closes the client.
func newTransactor(ctx context.Context, cfg *Config, role string, topics []string, log *slog.Logger,
	options ...kgo.Opt) (*transactor, error) {
	common, err := cfg.options(role, log)
	if err != nil {
		return nil, err
	}
	client, err := kgo.NewClient(append(append(common,
		kgo.TransactionTimeout(cfg.TransactionTimeout),
		kgo.RecordPartitioner(newPartitioner()),
		cfg.Topics.batchLimit(),
	), options...)...)
	if err != nil {
		return nil, fmt.Errorf("kafka client: %w", err)
	}
	t := &transactor{client: client, partitions: map[string]int{}}
	t.last.hangings = &hangings{client: client, cfg: cfg, log: log, topics: topics}
	if err := t.start(ctx); err != nil {
		client.Close()
		return nil, err
	}
	return t, nil
}

func (t *transactor) start(ctx context.Context) error {
	if _, _, err := t.client.ProducerID(ctx); err != nil {
		return fmt.Errorf("initialise the transactional id: %w", explain(err))
	}
	t.last.endOwn(ctx)
	partitions, err := partitionsOf(ctx, t.client, t.last.hangings.topics...)
	if err != nil {
		return err
	}
	for _, p := range partitions {
		t.partitions[p.Topic]++
	}
	t.last.unknown(ctx, partitions)
	return t.last.wait(ctx)
}

// transact produces records in one transaction, or nothing. After an error the transactor is of no more use, and the
// client may still be writing to the records.
func (t *transactor) transact(ctx context.Context, records []kgo.Record) error {
	if err := t.last.wait(ctx); err != nil {
		return err
	}
	if err := t.client.BeginTransaction(); err != nil {
		return err
	}
	if err := t.produce(ctx, records); err != nil {
		return errors.Join(err, t.client.EndTransaction(ctx, kgo.TryAbort))
	}
	return t.client.EndTransaction(ctx, kgo.TryCommit)
}

func (t *transactor) produce(ctx context.Context, records []kgo.Record) error {
	under, err := newTransaction(ctx, t.client)
	if err != nil {
		return err
	}
	for i := range records {
		under.produce(ctx, &records[i])
	}
	if err := under.flush(ctx); err != nil {
		return err
	}
	t.last.wrote(records)
	return nil
}

// partitionsOf asks for the partitions of topics that have to exist.
func partitionsOf(ctx context.Context, client *kgo.Client, topics ...string) (all []pipeline.Partition, err error) {
	for _, topic := range topics {
		count, err := partitionCount(ctx, client, topic)
		if err != nil {
			return nil, err
		}
		for p := range count {
			all = append(all, pipeline.Partition{Topic: topic, Partition: int32(p)})
		}
	}
	return all, nil
}
