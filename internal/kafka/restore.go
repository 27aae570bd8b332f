package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/vigie-io/vigie/internal/pause"
	"github.com/vigie-io/vigie/internal/pipeline"
)

const (
	restoreFetch = 1 << 20                // bytes of a fetch, compressed
	restoreWait  = 100 * time.Millisecond // between attempts, and for a transaction to end
	restorePatch = time.Second            // of waiting before asking whom for
	// restoreMemory is what a restore keeps to unpack fetches into, again and again: new memory for each would be as
	// much as all state.
	restoreMemory = 16 * restoreFetch
)

// Restore implements pipeline.Session. It reads the state partition from its start to the high watermark as that is
// when it begins, which is after the assignment.
//
// The last stable offset of that moment would not do. A transaction of the partition's last owner ends in two steps:
// the coordinator decides, and then writes a marker to each partition of the transaction, in any order. When the
// marker has reached the group's offsets but not yet the state partition, the group says to go on behind records whose
// state a reader up to the last stable offset does not see. The high watermark is beyond all of it: the last owner
// had every change of state acknowledged (by all in-sync replicas, so below the high watermark; a new leader whose
// high watermark lags says OFFSET_NOT_AVAILABLE, KIP-207) before it added its offsets to the transaction, and since
// the assignment the group refuses offsets of an older generation. So each transaction that can still move the
// offsets has its state below the high watermark, and once the last stable offset has reached that, each is decided.
//
// It waits for that as long as a transaction may be open: transaction_timeout and the up to 10 s until the
// broker looks. A transaction of a worker that is no longer in the group is aborted instead, after a second.
func (s *Session) Restore(ctx context.Context, source pipeline.Partition,
	apply func(*pipeline.Record) error) (pipeline.Origin, error) {
	s.moves.restoring.Add(1)
	defer s.moves.restoring.Add(-1)
	m := newMemory(restoreMemory)
	r := restore{s: s, topic: s.states[source.Topic], partition: source.Partition, source: source.Topic, memory: m,
		repeats: newRepeats(), unpacker: unpacker{m, kgo.DefaultDecompressor(m), unbounded}}
	origin, err := r.run(ctx, apply)
	if err != nil {
		return origin, fmt.Errorf("restore %s/%d: %w", r.topic, r.partition, err)
	}
	return origin, nil
}

// restore is one reading of a state partition.
type restore struct {
	s             *Session
	topic, source string
	partition     int32
	id, sourceID  [16]byte
	cluster       string
	leader        int32

	memory    *memory
	repeats   repeats
	unpacker  unpacker
	record    pipeline.Record // given to apply, one after the other
	next, end int64
	progress  time.Time // or when it last told whom it waits for
}

func (r *restore) run(ctx context.Context, apply func(*pipeline.Record) error) (pipeline.Origin, error) {
	if err := r.bounds(ctx); err != nil {
		return pipeline.Origin{}, err
	}
	unwritten := r.end == 0
	for r.next < r.end {
		if err := r.fetch(ctx, apply); err != nil {
			return pipeline.Origin{}, err
		}
	}
	origin, err := r.origin(ctx)
	if err == nil && unwritten && origin.Committed > 0 {
		r.s.log.Warn("state partition has never been written and its source has been processed: state begins empty "+
			"(new here, or the topic was deleted)", "topic", r.topic, "partition", r.partition, "source_offset", origin.Committed)
	}
	return origin, err
}

// bounds finds the leader, the start and the high watermark.
func (r *restore) bounds(ctx context.Context) error {
	at := pipeline.Partition{Topic: r.topic, Partition: r.partition}
	for {
		if err := r.locate(ctx); err != nil {
			return err
		}
		if log, err := r.s.lookups.logs.get(ctx, at); err == nil && log.holds(at) {
			r.next, r.end, r.progress = log.first[at], log.behind[at], time.Now()
			return nil
		}
		if err := pause.For(ctx, restoreWait); err != nil {
			return fmt.Errorf("look up its end: %w", err)
		}
	}
}

// locate asks for the ids of the topic and its source and for the partition's leader, and waits until there is one.
func (r *restore) locate(ctx context.Context) error {
	for {
		response, err := r.s.lookups.topics.get(ctx, r.topic, r.source)
		if err != nil {
			return fmt.Errorf("look it up: %w", err)
		}
		if err := r.found(response); !errors.Is(err, errLeaderless) {
			return err
		}
		if err := pause.For(ctx, restoreWait); err != nil {
			return fmt.Errorf("wait for its leader: %w", err)
		}
	}
}

var errLeaderless = errors.New("no leader")

func (r *restore) found(response *kmsg.MetadataResponse) error {
	topic, source := topicOf(response, r.topic), topicOf(response, r.source)
	if topic == nil || source == nil {
		return errors.New("the broker's answer does not hold both topics")
	}
	switch err := kerr.ErrorForCode(topic.ErrorCode); {
	case errors.Is(err, kerr.UnknownTopicOrPartition):
		return fmt.Errorf("the topic does not exist: start a process to have it created and begin without state: %w", err)
	case kerr.IsRetriable(err):
		return errLeaderless
	case err != nil:
		return err
	case kerr.IsRetriable(kerr.ErrorForCode(source.ErrorCode)):
		return errLeaderless
	case source.ErrorCode != 0:
		return fmt.Errorf("look up %s: %w", r.source, kerr.ErrorForCode(source.ErrorCode))
	case r.id != [16]byte{} && r.id != topic.TopicID:
		return ErrTopicRecreated
	}
	r.id, r.sourceID = topic.TopicID, source.TopicID
	if response.ClusterID != nil {
		r.cluster = *response.ClusterID
	}
	r.s.marks.set(r.source, mark{r.cluster, r.sourceID})
	for _, partition := range topic.Partitions {
		if partition.Partition == r.partition {
			if r.leader = partition.Leader; r.leader < 0 {
				return errLeaderless
			}
			return nil
		}
	}
	return fmt.Errorf("the topic has %d partitions, none for partition %d of its source %s, which has grown: "+
		"add partitions to it (kafka-topics.sh --alter --topic %s --partitions %d or more)",
		len(topic.Partitions), r.partition, r.source, r.topic, r.partition+1)
}

// fetch moves next on by what one request brings, which may be nothing.
func (r *restore) fetch(ctx context.Context, apply func(*pipeline.Record) error) error {
	answer, err := r.request(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		r.s.log.Warn("state cannot be read, trying again", "topic", r.topic, "partition", r.partition, "err", err)
		return r.again(ctx)
	}
	options := kgo.ProcessFetchPartitionOpts{
		Offset: r.next, IsolationLevel: kgo.ReadCommitted(), Topic: r.topic, Partition: r.partition,
		Pools: []kgo.Pool{r.memory},
	}
	part, next := kgo.ProcessFetchPartition(options, answer, &r.unpacker, r.memory.grown)
	switch {
	case errors.Is(part.Err, kerr.OffsetOutOfRange) && r.next < answer.LogStartOffset:
		r.s.log.Warn("records were deleted from a state topic", "topic", r.topic, "partition", r.partition, "from", r.next,
			"to", answer.LogStartOffset)
		r.next = answer.LogStartOffset
		return nil
	case kerr.IsRetriable(part.Err):
		return r.again(ctx)
	case part.Err != nil:
		return fmt.Errorf("at offset %d: %w", next, explain(part.Err))
	}
	if err := r.apply(part.Records, apply); err != nil {
		return err
	}
	if next > r.next {
		r.next, r.progress = next, time.Now()
	} else if time.Since(r.progress) >= restorePatch {
		r.blocked(ctx, part.LastStableOffset)
		r.progress = time.Now()
	}
	return nil
}

// apply gives the records before the end to fn, and their memory back. Of several of a key only the last counts, and to
// take in what a key was worth costs much more than to see that another follows: a log that has not been compacted yet
// holds each key many times.
func (r *restore) apply(records []*kgo.Record, fn func(*pipeline.Record) error) (err error) {
	stale := r.repeats.find(records, r.end)
	for i, record := range records {
		if err == nil && record.Offset < r.end && !stale[i] {
			r.record = pipeline.Record{Offset: record.Offset, Timestamp: record.Timestamp.UnixNano(),
				Key: record.Key, Value: record.Value}
			err = fn(&r.record)
		}
		record.Recycle()
	}
	return err
}

// again waits and looks for the leader anew.
func (r *restore) again(ctx context.Context) error {
	if err := pause.For(ctx, restoreWait); err != nil {
		return err
	}
	return r.locate(ctx)
}

// request fetches from next. At the last stable offset the broker answers when that moves, or after a moment: it
// serves the requests of a connection one by one, and other restores share it.
func (r *restore) request(ctx context.Context) (*kmsg.FetchResponseTopicPartition, error) {
	partition := kmsg.NewFetchRequestTopicPartition()
	partition.Partition, partition.FetchOffset, partition.PartitionMaxBytes = r.partition, r.next, restoreFetch
	request := kmsg.NewPtrFetchRequest()
	request.MaxWaitMillis, request.MinBytes, request.MaxBytes = int32(restoreWait.Milliseconds()), 1, restoreFetch
	request.IsolationLevel = readCommitted
	return askLeader(ctx, r.s.restorer, r.leader, request, r.topic, r.id, partition)
}

// blocked says in the log which transactions the restore waits for, and aborts those of workers that are gone: after
// a kill nobody else would before they time out. One that is in the group ends its own transaction; should it have
// left just now, or be about to join under the same name, it is fenced and starts anew.
func (r *restore) blocked(ctx context.Context, stable int64) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	log := r.s.log.With("topic", r.topic, "partition", r.partition)
	admin := kadm.NewClient(r.s.restorer)
	open, err := r.open(ctx, admin)
	if err != nil {
		log.Warn("restore waits for an open transaction, and cannot ask whose",
			"stable_offset", stable, "end", r.end, "err", err)
		return
	}
	members, err := r.members(ctx, admin)
	for _, id := range open {
		member, ours := strings.CutPrefix(id, r.s.cfg.TransactionalIDPrefix+"-")
		if err != nil || !ours || slices.Contains(members, member) {
			log.Info("restore waits for an open transaction", "transactional_id", id,
				"stable_offset", stable, "end", r.end, "at_most", r.s.cfg.TransactionTimeout+10*time.Second)
			continue
		}
		log.Info("aborting the transaction of a worker that is gone", "transactional_id", id, "err", r.abort(ctx, id))
	}
}

// open lists the ids of the transactions open on the partition.
func (r *restore) open(ctx context.Context, admin *kadm.Client) (ids []string, err error) {
	var topics kadm.TopicsSet
	topics.Add(r.topic, r.partition)
	described, err := admin.DescribeProducers(ctx, topics)
	if err != nil {
		return nil, err
	}
	var producers []int64
	described.EachProducer(func(p kadm.DescribedProducer) {
		if p.CurrentTxnStartOffset >= 0 {
			producers = append(producers, p.ProducerID)
		}
	})
	if len(producers) == 0 {
		return nil, nil
	}
	listed, err := admin.ListTransactions(ctx, producers, nil)
	return listed.TransactionalIDs(), err
}

// members lists the instance ids in the workers' group.
func (r *restore) members(ctx context.Context, admin *kadm.Client) (ids []string, err error) {
	if r.s.cfg.GroupProtocol == protocolConsumer {
		members, err := consumerMembers(ctx, admin, r.s.cfg.Group)
		for _, member := range members {
			if member.InstanceID != nil && member.MemberEpoch >= 0 {
				ids = append(ids, *member.InstanceID)
			}
		}
		return ids, err
	}
	groups, err := admin.DescribeGroups(ctx, r.s.cfg.Group)
	if err != nil {
		return nil, err
	}
	group := groups[r.s.cfg.Group]
	for _, member := range group.Members {
		if member.InstanceID != nil {
			ids = append(ids, *member.InstanceID)
		}
	}
	return ids, group.Err
}

// abort ends the transaction of id by taking the id over.
func (r *restore) abort(ctx context.Context, id string) error {
	request := kmsg.NewPtrInitProducerIDRequest()
	request.TransactionalID = kmsg.StringPtr(id)
	request.TransactionTimeoutMillis = int32(r.s.cfg.TransactionTimeout.Milliseconds())
	response, err := request.RequestWith(ctx, r.s.restorer)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(response.ErrorCode)
}
