package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// reader returns a client that asks about topics and groups. The caller closes it.
func (c *Config) reader(log *slog.Logger) (*kadm.Client, error) {
	client, err := c.asker(log)
	if err != nil {
		return nil, err
	}
	return kadm.NewClient(client), nil
}

// asker returns a client for requests of one's own. The caller closes it.
func (c *Config) asker(log *slog.Logger) (*kgo.Client, error) {
	options, err := c.options("reader", log)
	if err != nil {
		return nil, err
	}
	client, err := kgo.NewClient(options...)
	if err != nil {
		return nil, fmt.Errorf("kafka client: %w", err)
	}
	return client, nil
}

// lister asks for one offset of each partition of some topics.
type lister = func(*kadm.Client, context.Context, ...string) (kadm.ListedOffsets, error)

var (
	listStarts     lister = (*kadm.Client).ListStartOffsets
	listStableEnds lister = (*kadm.Client).ListCommittedOffsets
	listEnds       lister = (*kadm.Client).ListEndOffsets
)

// firstAt lists the first offsets whose timestamp is not before at.
func firstAt(at time.Time) lister {
	return func(admin *kadm.Client, ctx context.Context, topics ...string) (kadm.ListedOffsets, error) {
		return admin.ListOffsetsAfterMilli(ctx, at.UnixMilli(), topics...)
	}
}

// offsetsOf asks for an offset of each partition of a topic.
func offsetsOf(ctx context.Context, cfg *Config, topic string, log *slog.Logger, list lister) (map[int32]int64, error) {
	admin, err := cfg.reader(log)
	if err != nil {
		return nil, err
	}
	defer admin.Close()
	return listed(ctx, admin, topic, list)
}

func listed(ctx context.Context, admin *kadm.Client, topic string, list lister) (map[int32]int64, error) {
	offsets, err := listing(ctx, admin, topic, list)
	if err != nil {
		return nil, err
	}
	out := map[int32]int64{}
	offsets.Each(func(o kadm.ListedOffset) { out[o.Partition] = o.Offset })
	return out, nil
}

func listing(ctx context.Context, admin *kadm.Client, topic string, list lister) (kadm.ListedOffsets, error) {
	offsets, err := list(admin, ctx, topic)
	if err == nil {
		err = offsets.Error()
	}
	switch {
	case errors.Is(err, kerr.UnknownTopicOrPartition):
		return nil, fmt.Errorf("topic %s does not exist: the services make it when they start: %w", topic, err)
	case err != nil:
		return nil, fmt.Errorf("list offsets of %s: %w", topic, explain(err))
	}
	return offsets, nil
}

// readRange calls fn for the committed records from ≤ offset < to of the partitions in to, by partition in order. to
// must be readable: at most the last stable offset. What retention deletes meanwhile is skipped.
func readRange(ctx context.Context, cfg *Config, topic string, from, to map[int32]int64, log *slog.Logger,
	fn func(id [16]byte, r *kgo.Record) error) error {
	return readRangeInto(ctx, cfg, topic, from, to, unpacking{}, log, fn)
}

// unpacking is how batches are unpacked; the zero value is the client's way.
type unpacking struct {
	memory *memory // into which, again and again: records are valid during fn only
	most   int     // bytes of a batch
	asker  *kgo.Client
	// refused is called in the place of a batch of a partition that was refused; only where most refuses any.
	refused func(partition int32, batch refusedBatch) error
}

// readRangeInto is readRange with batches unpacked in another way.
func readRangeInto(ctx context.Context, cfg *Config, topic string, from, to map[int32]int64, how unpacking, log *slog.Logger,
	fn func(id [16]byte, r *kgo.Record) error) error {
	left := map[int32]int64{} // partition → end still to be reached
	begin, next := map[int32]kgo.Offset{}, maps.Clone(from)
	for partition, end := range to {
		if from[partition] < end {
			left[partition], begin[partition] = end, kgo.NewOffset().At(from[partition])
		}
	}
	if len(left) == 0 {
		return nil
	}
	client, err := how.client(cfg, topic, begin, log)
	if err != nil {
		return err
	}
	defer closeReader(client, topic, slices.Collect(maps.Keys(begin))...)
	for len(left) > 0 {
		fetches, err := pollAny(ctx, client, 2*time.Second)
		if err != nil {
			return err
		}
		refused := takeRefused(fetches)
		if err := fetchErrors(fetches, log); err != nil {
			return err
		}
		if fetches.NumRecords() == 0 {
			if err := skipExpired(ctx, cfg, topic, left, log); err != nil {
				return err
			}
		}
		err = each(fetches, next, left, fn)
		if how.memory != nil {
			recycle(fetches)
		}
		if err == nil {
			err = how.goOn(ctx, client, refused, next, left)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// client returns a client that reads partitions of a topic from where they begin. The caller closes it.
func (u *unpacking) client(cfg *Config, topic string, begin map[int32]kgo.Offset, log *slog.Logger) (*kgo.Client, error) {
	options, err := cfg.options("reader", log)
	if err != nil {
		return nil, err
	}
	if u.memory != nil {
		unpack, err := u.memory.options(u.most)
		if err != nil {
			return nil, err
		}
		options = append(options, unpack...)
	}
	client, err := kgo.NewClient(append(options,
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: begin}),
		kgo.KeepControlRecords(), // the last offset may be a marker's
		kgo.FetchMaxWait(500*time.Millisecond),
	)...)
	if err != nil {
		return nil, fmt.Errorf("kafka client: %w", err)
	}
	return client, nil
}

// goOn has the client go on behind batches that were refused.
func (u *unpacking) goOn(ctx context.Context, client *kgo.Client, refused []refusal, next, left map[int32]int64) error {
	for _, at := range refused {
		end, wanted := left[at.Partition.Partition]
		if !wanted {
			client.PauseFetchPartitions(map[string][]int32{at.Topic: {at.Partition.Partition}})
			continue
		}
		batch, err := standIn(ctx, u.asker, at.Partition, max(next[at.Partition.Partition], at.logStart), u.most)
		if err != nil {
			return err
		}
		if batch.next.Offset <= end {
			if err := u.refused(at.Partition.Partition, batch); err != nil {
				return err
			}
		}
		if batch.next.Offset >= end {
			delete(left, at.Partition.Partition)
		}
		next[at.Partition.Partition] = batch.next.Offset
		client.SetOffsets(map[string]map[int32]kgo.EpochOffset{at.Topic: {at.Partition.Partition: batch.next}})
	}
	return nil
}

// pollFor polls for at most so long; only ctx's own end is an error.
func pollFor(ctx context.Context, client *kgo.Client, wait time.Duration, log *slog.Logger) (kgo.Fetches, error) {
	fetches, err := pollAny(ctx, client, wait)
	if err != nil {
		return nil, err
	}
	return fetches, fetchErrors(fetches, log)
}

// pollAny is pollFor with errors of partitions left in what it returns.
func pollAny(ctx context.Context, client *kgo.Client, wait time.Duration) (kgo.Fetches, error) {
	polling, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	fetches := client.PollFetches(polling)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return fetches, nil
}

// skipExpired gives up what retention deleted while it was being read.
func skipExpired(ctx context.Context, cfg *Config, topic string, left map[int32]int64, log *slog.Logger) error {
	starts, err := offsetsOf(ctx, cfg, topic, log, listStarts)
	if err != nil {
		return err
	}
	for partition, end := range left {
		if starts[partition] >= end {
			delete(left, partition)
		}
	}
	return nil
}

// each calls fn for the records that are left to be read, and notes up to where they have been.
func each(fetches kgo.Fetches, next, left map[int32]int64, fn func(id [16]byte, r *kgo.Record) error) error {
	for _, fetch := range fetches {
		for _, topic := range fetch.Topics {
			for _, partition := range topic.Partitions {
				for _, record := range partition.Records {
					end, wanted := left[record.Partition]
					if !wanted {
						break
					}
					if record.Offset < end && !record.Attrs.IsControl() {
						if err := fn(topic.TopicID, record); err != nil {
							return err
						}
					}
					if next[record.Partition] = record.Offset + 1; record.Offset+1 >= end {
						delete(left, record.Partition)
					}
				}
			}
		}
	}
	return nil
}
