package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
	"unicode/utf16"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/vigie-io/vigie/internal/pipeline"
)

const (
	offsetsTopic   = "__consumer_offsets"
	decisionsTopic = "__transaction_state"

	hangingInterval = 5 * time.Second // between looks, each of which takes at most as long
)

// hangings finds transactions of Vigie that hang, and ends them as their coordinator has decided.
//
// A transaction hangs in a partition when its coordinator has ended it there and no marker came. Apache Kafka 4.3.0
// and 4.3.1 do that to a partition that has no leader at the moment of the end (KAFKA-20734): they take it for deleted.
// Readers of committed records then wait for ever; no timeout and no restart ends it. Worse, the next
// transaction of the producer in that partition ends both, in its own way.
type hangings struct {
	client  *kgo.Client
	cfg     *Config
	metrics *Metrics
	log     *slog.Logger
	seen    map[openTransaction]bool // of the last look
}

// openTransaction is one that is open in a partition.
type openTransaction struct {
	pipeline.Partition
	producer    int64
	epoch       int16 // of the last batch
	coordinator int32 // epoch of the one that wrote the last marker of the producer there, -1 for none
	start       int64
}

// look ends what hangs of what was open at the last look already.
func (h *hangings) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, hangingInterval)
	defer cancel()
	last := h.seen
	h.seen = map[openTransaction]bool{}
	var old []openTransaction
	for _, o := range h.all(ctx) {
		h.seen[o] = true
		if last[o] {
			old = append(old, o)
		}
	}
	if err := h.end(ctx, old); err != nil && ctx.Err() == nil {
		h.log.Warn("transactions have been open for some time, and whether they hang cannot be told", "err", err)
	}
}

// all are the transactions that are open in Vigie's topics and among the offsets of its group. Where the brokers do not
// answer, or refuse to, it finds none.
func (h *hangings) all(ctx context.Context) (out []openTransaction) {
	var names []string
	h.cfg.Topics.each(func(_ string, topic *Topic) { names = append(names, topic.Name) })
	response, err := describeTopics(ctx, h.client, append(names, offsetsTopic)...)
	if err != nil {
		return nil
	}
	var partitions []pipeline.Partition
	offsets := pipeline.Partition{Topic: offsetsTopic, Partition: -1}
	for _, topic := range response.Topics {
		switch {
		case topic.Topic == nil || topic.ErrorCode != 0:
		case *topic.Topic == offsetsTopic:
			offsets.Partition = partitionOf(h.cfg.Group, len(topic.Partitions))
		default:
			for _, p := range topic.Partitions {
				partitions = append(partitions, pipeline.Partition{Topic: *topic.Topic, Partition: p.Partition})
			}
		}
	}
	held := map[string][]int32{}
	behind, stable := bothIsolations(ctx, h.client, partitions)
	for p, end := range behind {
		if at, ok := stable[p]; ok && at < end {
			held[p.Topic] = append(held[p.Topic], p.Partition)
		}
	}
	if offsets.Partition >= 0 {
		held[offsetsTopic] = []int32{offsets.Partition}
	}
	for topic, list := range held { // each by itself: not all may be described
		found, err := h.of(ctx, kadm.TopicsSet{topic: setOf(list)})
		if err == nil {
			out = append(out, found...)
		}
	}
	return out
}

func bothIsolations(ctx context.Context, client *kgo.Client, partitions []pipeline.Partition) (behind, stable ends) {
	partitions = distinct(partitions, pipeline.Partition.Compare)
	return listOffsets(ctx, client, partitions, offsetLatest, readUncommitted),
		listOffsets(ctx, client, partitions, offsetLatest, readCommitted)
}

func setOf(list []int32) map[int32]struct{} {
	set := map[int32]struct{}{}
	for _, p := range list {
		set[p] = struct{}{}
	}
	return set
}

// of are the transactions that are open in partitions.
func (h *hangings) of(ctx context.Context, partitions kadm.TopicsSet) (out []openTransaction, err error) {
	described, err := kadm.NewClient(h.client).DescribeProducers(ctx, partitions)
	if err != nil {
		return nil, fmt.Errorf("describe producers: %w", err)
	}
	described.EachPartition(func(p kadm.DescribedProducersPartition) {
		if p.Err != nil && err == nil {
			err = fmt.Errorf("describe producers of %s/%d: %w", p.Topic, p.Partition, p.Err)
		}
	})
	described.EachProducer(func(p kadm.DescribedProducer) {
		if p.CurrentTxnStartOffset >= 0 {
			out = append(out, openTransaction{pipeline.Partition{Topic: p.Topic, Partition: p.Partition},
				p.ProducerID, p.ProducerEpoch, p.CoordinatorEpoch, p.CurrentTxnStartOffset})
		}
	})
	return out, err
}

// end ends those of the transactions that hang.
func (h *hangings) end(ctx context.Context, transactions []openTransaction) error {
	if len(transactions) == 0 {
		return nil
	}
	ids, err := h.left(ctx, transactions)
	if err != nil || len(ids) == 0 {
		return err
	}
	// Each was open before its coordinator was asked. If it still is, no marker was under way.
	set := kadm.TopicsSet{}
	for o := range ids {
		set.Add(o.Topic, o.Partition.Partition)
	}
	still, err := h.of(ctx, set)
	for _, o := range still {
		if id, hangs := ids[o]; hangs {
			err = errors.Join(err, h.finish(ctx, id, o))
		}
	}
	return err
}

// left are the ids of those transactions, of Vigie's own, that their coordinators do not know any more. Two things have
// to be true. The coordinator does not hold the partition as part of the id's transaction: brokers add a partition
// before they append, and take it out when they have the answer to the marker. And it has gone on to a later epoch of
// the producer: whoever wrote the open one can neither add to it nor end it.
func (h *hangings) left(ctx context.Context, transactions []openTransaction) (map[openTransaction]string, error) {
	var producers []int64
	for _, o := range transactions {
		producers = append(producers, o.producer)
	}
	admin := kadm.NewClient(h.client)
	listed, err := admin.ListTransactions(ctx, producers, nil)
	if err != nil {
		return nil, fmt.Errorf("list transactions: %w", err)
	}
	var ids []string
	for _, id := range listed.TransactionalIDs() {
		if strings.HasPrefix(id, h.cfg.TransactionalIDPrefix+"-") {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	described, err := admin.DescribeTransactions(ctx, ids...)
	if err != nil {
		return nil, fmt.Errorf("describe transactions: %w", err)
	}
	out := map[openTransaction]string{}
	for _, o := range transactions {
		for _, t := range described {
			if t.Err == nil && t.ProducerID == o.producer && t.ProducerEpoch > o.epoch &&
				!t.Topics.Lookup(o.Topic, o.Partition.Partition) {
				out[o] = t.TxnID
			}
		}
	}
	return out, nil
}

// finish writes the marker that is missing. It carries the epoch of the open transaction: should the producer have
// begun another in the partition, under a later epoch, the leader refuses it.
func (h *hangings) finish(ctx context.Context, id string, o openTransaction) error {
	commit, err := h.decided(ctx, id, o)
	if err == nil {
		err = h.mark(ctx, o, commit)
	}
	h.metrics.hanging(commit, err)
	log := h.log.With("topic", o.Topic, "partition", o.Partition.Partition, "start_offset", o.start, "producer", o.producer,
		"producer_epoch", o.epoch, "transactional_id", id)
	if err != nil {
		log.Error("a transaction hangs in kafka and could not be ended; its partition stands still until somebody does "+
			"(docs/runbooks/VigieTransactionHangs.md)", "err", err)
		return fmt.Errorf("end the transaction that hangs in %s/%d: %w", o.Topic, o.Partition.Partition, err)
	}
	log.Warn("ended a transaction that hung in kafka, as its coordinator had decided", "committed", commit)
	return nil
}

func (h *hangings) mark(ctx context.Context, o openTransaction, commit bool) error {
	topics := kadm.TopicsSet{}
	topics.Add(o.Topic, o.Partition.Partition)
	answers, err := kadm.NewClient(h.client).WriteTxnMarkers(ctx, kadm.TxnMarkers{ProducerID: o.producer, ProducerEpoch: o.epoch,
		Commit: commit, CoordinatorEpoch: max(o.coordinator, 0), Topics: topics})
	answered := false
	answers.EachPartition(func(p kadm.TxnMarkersPartitionResponse) {
		answered, err = true, errors.Join(err, p.Err)
	})
	if err == nil && !answered {
		err = errors.New("the broker's answer does not hold the partition")
	}
	if err != nil {
		return fmt.Errorf("write its marker (needs ALTER or CLUSTER_ACTION on the cluster): %w", err)
	}
	return nil
}

// decided reads from the coordinators' log whether a transaction was committed.
func (h *hangings) decided(ctx context.Context, id string, o openTransaction) (commit bool, err error) {
	decision, err := h.decision(ctx, id, o)
	switch {
	case err != nil:
		return false, fmt.Errorf("read what its coordinator decided (needs READ on %s): %w", decisionsTopic, err)
	case decision == nil:
		return false, fmt.Errorf("what its coordinator decided is not in %s any more", decisionsTopic)
	}
	return decision.State == kmsg.TransactionStatePrepareCommit, nil
}

// decision is the last of the id's that is of the transaction, or nil.
func (h *hangings) decision(ctx context.Context, id string, o openTransaction) (last *kmsg.TxnMetadataValue, err error) {
	count, err := partitionCount(ctx, h.client, decisionsTopic)
	if err != nil {
		return nil, err
	}
	at := pipeline.Partition{Topic: decisionsTopic, Partition: partitionOf(id, count)}
	end, ok := listOffsets(ctx, h.client, []pipeline.Partition{at}, offsetLatest, readUncommitted)[at]
	if !ok {
		return nil, kerr.LeaderNotAvailable
	}
	options, err := h.cfg.options("decisions", h.log)
	if err != nil {
		return nil, err
	}
	client, err := kgo.NewClient(append(options, kgo.FetchIsolationLevel(kgo.ReadUncommitted()),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{at.Topic: {at.Partition: kgo.NewOffset().AtStart()}}))...)
	if err != nil {
		return nil, err
	}
	defer closeReader(client, at.Topic, at.Partition)
	for next := int64(0); next < end; {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return nil, err
		}
		fetches.EachRecord(func(r *kgo.Record) {
			next = r.Offset + 1
			if value := decisionOf(r, id); value != nil && decides(value, o) {
				last = value
			}
		})
	}
	return last, nil
}

// decisionOf is what a record of the coordinators' log says of id, or nil.
func decisionOf(r *kgo.Record, id string) *kmsg.TxnMetadataValue {
	var key kmsg.TxnMetadataKey
	value := new(kmsg.TxnMetadataValue)
	if key.ReadFrom(r.Key) != nil || key.TransactionalID != id || value.ReadFrom(r.Value) != nil {
		return nil
	}
	return value
}

// decides says whether a decision may be that of the transaction; the last that may is. Since transactions of version 2
// the decision bumps the epoch, so each transaction has its own. Before, transactions of one epoch followed each other,
// and any in the same partition after this one had ended it, too; a decision for a producer that was fenced is of the
// next epoch.
func decides(value *kmsg.TxnMetadataValue, o openTransaction) bool {
	prepared := value.State == kmsg.TransactionStatePrepareCommit || value.State == kmsg.TransactionStatePrepareAbort
	bumped := value.ProducerEpoch == o.epoch+1
	plain := value.ProducerEpoch == o.epoch && value.ClientTransactionVersion < 2
	if !prepared || value.ProducerID != o.producer || !bumped && !plain {
		return false
	}
	for _, topic := range value.Topics {
		for _, partition := range topic.Partitions {
			if topic.Topic == o.Topic && partition == o.Partition.Partition {
				return true
			}
		}
	}
	return false
}

// partitionOf is the partition of an internal topic in which brokers keep what they know of a name.
func partitionOf(name string, count int) int32 {
	var hash int32
	for _, unit := range utf16.Encode([]rune(name)) {
		hash = 31*hash + int32(unit)
	}
	if hash < 0 {
		hash = -hash
	}
	return max(hash, 0) % int32(count) // the smallest has no positive
}
