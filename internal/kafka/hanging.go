package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
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
	hangingAgain    = time.Minute     // between lines of the log that say the same
	rightsAgain     = time.Hour       // likewise, of rights that are missing
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
	topics  []string                 // in which to look
	group   string                   // among whose offsets to look, or none
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
		h.warn("transactions have been open for some time, and whether they hang cannot be told", err)
	}
}

// all are the transactions that are open in the topics and among the offsets of the group. Where the brokers do not
// answer, or refuse to, it finds none.
func (h *hangings) all(ctx context.Context) []openTransaction {
	names := h.topics
	if h.group != "" {
		names = append(names[:len(names):len(names)], offsetsTopic)
	}
	response, err := describeTopics(ctx, h.client, names...)
	if err != nil {
		return nil
	}
	var partitions, held []pipeline.Partition
	for _, topic := range response.Topics {
		switch {
		case topic.Topic == nil:
		case errors.Is(kerr.ErrorForCode(topic.ErrorCode), kerr.TopicAuthorizationFailed):
			h.blind(*topic.Topic)
		case topic.ErrorCode != 0:
		case *topic.Topic == offsetsTopic:
			held = append(held, pipeline.Partition{Topic: offsetsTopic, Partition: partitionOf(h.group, len(topic.Partitions))})
		default:
			for _, p := range topic.Partitions {
				partitions = append(partitions, pipeline.Partition{Topic: *topic.Topic, Partition: p.Partition})
			}
		}
	}
	behind, stable := bothIsolations(ctx, h.client, partitions)
	for p, end := range behind {
		if at, ok := stable[p]; ok && at < end {
			held = append(held, p)
		}
	}
	open, failed := h.of(ctx, held)
	for p, err := range failed {
		if errors.Is(err, kerr.TopicAuthorizationFailed) {
			h.blind(p.Topic)
		}
	}
	return open
}

// blind says that the brokers do not let this process see who has transactions open in a topic.
func (h *hangings) blind(topic string) {
	if _, tell := told.again("blind "+topic, rightsAgain); tell {
		h.log.Warn("this process may not see transactions that hang in a topic, as some do in kafka 4.3.0 and 4.3.1: "+
			"it needs READ on it (docs/operating.md, Rights on Kafka)", "topic", topic)
	}
}

// warn says what is tried again and again, once in a while.
func (h *hangings) warn(message string, err error) {
	if _, tell := told.again(fmt.Sprint(message, err), hangingAgain); tell {
		h.log.Warn(message, "err", err)
	}
}

func bothIsolations(ctx context.Context, client *kgo.Client, partitions []pipeline.Partition) (behind, stable ends) {
	partitions = distinct(slices.Clone(partitions), pipeline.Partition.Compare)
	return listOffsets(ctx, client, partitions, offsetLatest, readUncommitted),
		listOffsets(ctx, client, partitions, offsetLatest, readCommitted)
}

// of are the transactions that are open in partitions, but for those whose leaders failed to tell.
func (h *hangings) of(ctx context.Context, partitions []pipeline.Partition) (open []openTransaction,
	failed map[pipeline.Partition]error) {
	failed = map[pipeline.Partition]error{}
	request := kmsg.NewPtrDescribeProducersRequest()
	for i, p := range distinct(slices.Clone(partitions), pipeline.Partition.Compare) {
		if i == 0 || p.Topic != request.Topics[len(request.Topics)-1].Topic {
			topic := kmsg.NewDescribeProducersRequestTopic()
			topic.Topic = p.Topic
			request.Topics = append(request.Topics, topic)
		}
		topic := &request.Topics[len(request.Topics)-1]
		topic.Partitions = append(topic.Partitions, p.Partition)
		failed[p] = errSilent
	}
	if len(failed) == 0 {
		return nil, nil
	}
	for _, shard := range h.client.RequestSharded(ctx, request) {
		answer, ok := shard.Resp.(*kmsg.DescribeProducersResponse)
		if shard.Err != nil || !ok {
			unanswered(failed, shard)
			continue
		}
		for _, topic := range answer.Topics {
			for _, described := range topic.Partitions {
				p := pipeline.Partition{Topic: topic.Topic, Partition: described.Partition}
				if failed[p] = kerr.ErrorForCode(described.ErrorCode); failed[p] == nil {
					delete(failed, p)
				}
				open = appendOpen(open, p, described.ActiveProducers)
			}
		}
	}
	return open, failed
}

// unanswered notes why there is no answer for the partitions of a part of a request: of a topic that is gone there is
// nobody to ask.
func unanswered(failed map[pipeline.Partition]error, part kgo.ResponseShard) {
	request, ok := part.Req.(*kmsg.DescribeProducersRequest)
	if !ok || part.Err == nil {
		return
	}
	for _, topic := range request.Topics {
		for _, p := range topic.Partitions {
			failed[pipeline.Partition{Topic: topic.Topic, Partition: p}] = part.Err
		}
	}
}

var errSilent = errors.New("the partition's leader did not answer")

func appendOpen(open []openTransaction, at pipeline.Partition,
	producers []kmsg.DescribeProducersResponseTopicPartitionActiveProducer) []openTransaction {
	for _, p := range producers {
		if p.CurrentTxnStartOffset >= 0 {
			open = append(open, openTransaction{at, p.ProducerID, int16(p.ProducerEpoch), p.CoordinatorEpoch, p.CurrentTxnStartOffset})
		}
	}
	return open
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
	var partitions []pipeline.Partition
	for o := range ids {
		partitions = append(partitions, o.Partition)
	}
	still, failed := h.of(ctx, partitions)
	for p, unknown := range failed {
		err = errors.Join(err, fmt.Errorf("describe producers of %s/%d: %w", p.Topic, p.Partition, unknown))
	}
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
	if _, tell := told.again(fmt.Sprint("hangs ", o, err), hangingAgain); err != nil && tell {
		log.Error("a transaction hangs in kafka and could not be ended; its partition stands still until somebody does "+
			"(docs/runbooks/VigieTransactionHangs.md)", "err", err)
	}
	if err != nil {
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
