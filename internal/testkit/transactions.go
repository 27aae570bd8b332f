package testkit

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// OpenTransactions lists what readers of committed records wait for, a line for each open transaction of a partition of
// topics: where it begins, who writes it, and what its coordinator says of it. None is open when the list is empty.
func OpenTransactions(ctx context.Context, client *kgo.Client, topics ...string) ([]string, error) {
	admin := kadm.NewClient(client)
	ends, err := admin.ListEndOffsets(ctx, topics...)
	if err != nil {
		return nil, fmt.Errorf("list ends: %w", err)
	}
	stable, err := admin.ListCommittedOffsets(ctx, topics...)
	if err != nil {
		return nil, fmt.Errorf("list last stable offsets: %w", err)
	}
	var set kadm.TopicsSet
	ends.Each(func(o kadm.ListedOffset) { set.Add(o.Topic, o.Partition) })
	described, err := admin.DescribeProducers(ctx, set)
	if err != nil {
		return nil, fmt.Errorf("describe producers: %w", err)
	}
	transactions, err := admin.DescribeTransactions(ctx)
	if err != nil {
		return nil, fmt.Errorf("describe transactions: %w", err)
	}
	var lines []string
	for _, end := range sortedOffsets(ends) {
		at, _ := stable.Lookup(end.Topic, end.Partition)
		where := fmt.Sprintf("%s/%d: last stable offset %d of %d", end.Topic, end.Partition, at.Offset, end.Offset)
		part := described[end.Topic].Partitions[end.Partition]
		open := false
		for _, p := range part.ActiveProducers.Sorted() {
			if p.CurrentTxnStartOffset >= 0 {
				open = true
				lines = append(lines, fmt.Sprintf("%s, producer %d epoch %d (coordinator's epoch %d) open from %d, last wrote %s; %s",
					where, p.ProducerID, p.ProducerEpoch, p.CoordinatorEpoch, p.CurrentTxnStartOffset,
					time.UnixMilli(p.LastTimestamp).UTC().Format(time.RFC3339Nano), coordinated(transactions, p)))
			}
		}
		if !open && at.Offset < end.Offset || part.Err != nil {
			lines = append(lines, fmt.Sprintf("%s, no producer has an open transaction (%v; %d producers known)", where, part.Err,
				len(part.ActiveProducers)))
		}
	}
	return lines, nil
}

func sortedOffsets(listed kadm.ListedOffsets) (out []kadm.ListedOffset) {
	listed.Each(func(o kadm.ListedOffset) { out = append(out, o) })
	slices.SortFunc(out, func(a, b kadm.ListedOffset) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return out
}

// coordinated is what the coordinator says of a producer.
func coordinated(transactions kadm.DescribedTransactions, p kadm.DescribedProducer) string {
	for _, t := range transactions.Sorted() {
		if t.ProducerID == p.ProducerID || t.Err != nil {
			return fmt.Sprintf("its coordinator: %s, producer %d epoch %d, %s since %s, partitions %v, %v", t.TxnID, t.ProducerID,
				t.ProducerEpoch, t.State, time.UnixMilli(t.StartTimestamp).UTC().Format(time.RFC3339Nano), t.Topics, t.Err)
		}
	}
	return fmt.Sprintf("no coordinator knows the producer, of %d transactional ids", len(transactions))
}

// transactionLog is where coordinators keep what they decide.
const transactionLog = "__transaction_state"

// WriteTransactionLog prints all that coordinators have decided, as far as it is not compacted, a line for each record.
func WriteTransactionLog(ctx context.Context, brokers []string, to io.Writer) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(transactionLog),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return err
	}
	defer client.Close()
	for {
		polling, cancel := context.WithTimeout(ctx, 3*time.Second)
		fetches := client.PollFetches(polling)
		cancel()
		if fetches.NumRecords() == 0 {
			return ctx.Err()
		}
		for _, r := range fetches.Records() {
			if _, err := fmt.Fprintf(to, "%s %s/%d@%d %s\n", r.Timestamp.UTC().Format(time.RFC3339Nano), r.Topic, r.Partition, r.Offset,
				decision(r)); err != nil {
				return err
			}
		}
	}
}

func decision(r *kgo.Record) string {
	var key kmsg.TxnMetadataKey
	var value kmsg.TxnMetadataValue
	if err := key.ReadFrom(r.Key); err != nil {
		return fmt.Sprintf("a key that cannot be read: %v", err)
	}
	if r.Value == nil {
		return key.TransactionalID + " is forgotten"
	}
	if err := value.ReadFrom(r.Value); err != nil {
		return fmt.Sprintf("%s: a value that cannot be read: %v", key.TransactionalID, err)
	}
	return fmt.Sprintf("%s: producer %d epoch %d %s %v", key.TransactionalID, value.ProducerID, value.ProducerEpoch, value.State,
		value.Topics)
}
