package kafka

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/vigie-io/vigie/internal/sink"
)

var _ sink.Source = (*Results)(nil)

// maxResultPoll bounds the records one Poll returns, so that the sink's buffer is exceeded by little.
const maxResultPoll = 64

// resultsMemory is what is kept at most to unpack results into, in bytes: a few blocks.
const resultsMemory = 32 << 20

// unbounded is what a batch of our own may unpack to: as much as the client lets it.
const unbounded = 1 << 30

// Results reads the results topic, or what is merged of it, as a member of its sink's consumer group: committed
// transactions only.
type Results struct {
	topic   string
	client  *kgo.Client
	log     *slog.Logger
	revoked *revocations
}

// NewResults joins the sink's group. member tells the sinks of one process apart.
func NewResults(cfg Config, member int, log *slog.Logger) (*Results, error) {
	return newResults(cfg, &cfg.Topics.Results, sinkRole, member, log)
}

// NewCoarseResults is NewResults for the sink of what is merged.
func NewCoarseResults(cfg Config, member int, log *slog.Logger) (*Results, error) {
	return newResults(cfg, &cfg.Topics.Coarse, sinkCoarseRole, member, log)
}

// newResults joins the group of a role: kafka.group with "-" and its name.
func newResults(cfg Config, topic *Topic, role string, member int, log *slog.Logger) (*Results, error) {
	instance, err := cfg.instance()
	if err != nil {
		return nil, err
	}
	options, err := cfg.options(role, log)
	if err != nil {
		return nil, err
	}
	unpacking, err := newMemory(resultsMemory).options(unbounded)
	if err != nil {
		return nil, err
	}
	options = append(options, unpacking...)
	r := &Results{topic: topic.Name, log: log, revoked: newRevocations(topic.Name)}
	r.client, err = kgo.NewClient(append(append(options, r.revoked.options()...),
		kgo.ConsumeTopics(r.topic),
		kgo.ConsumerGroup(cfg.groupOf(role)),
		kgo.InstanceID(fmt.Sprintf("%s-%s-%d", instance, role, member)),
		kgo.SessionTimeout(cfg.SessionTimeout),
		kgo.HeartbeatInterval(cfg.heartbeat()),
		kgo.Balancers(kgo.CooperativeStickyBalancer()),
		kgo.DisableAutoCommit(),
		kgo.FetchMaxBytes(int32(max(cfg.FetchBuffer, topic.MaxMessage))),
		kgo.FetchMaxPartitionBytes(int32(topic.MaxMessage)),
		kgo.FetchMaxWait(time.Second),
		// Markers of transactions are returned: the offsets say of a partition that all before its end is stored.
		kgo.KeepControlRecords(),
	)...)
	if err != nil {
		return nil, fmt.Errorf("kafka client: %w", err)
	}
	return r, nil
}

// Close leaves the partitions to this member's successor until the session timeout.
func (r *Results) Close() { r.client.CloseAllowingRebalance() }

// Poll implements sink.Source. Its error may wrap ErrFenced or ErrTopicRecreated.
func (r *Results) Poll(ctx context.Context) (sink.Fetch, error) {
	fetches := r.client.PollRecords(ctx, maxResultPoll)
	out := sink.Fetch{Lost: r.revoked.take(), Ends: map[int32]int64{}}
	r.client.AllowRebalance()
	if fetches.IsClientClosed() {
		return sink.Fetch{}, kgo.ErrClientClosed
	}
	if err := fetchErrors(fetches, r.log); err != nil {
		return sink.Fetch{}, err
	}
	fetches.EachTopic(func(topic kgo.FetchTopic) {
		for _, partition := range topic.Partitions {
			out.Ends[partition.Partition] = partition.LastStableOffset
			for _, record := range partition.Records {
				out.Records = append(out.Records, resultRecord(topic.TopicID, record))
			}
		}
	})
	return out, nil
}

func resultRecord(id [16]byte, r *kgo.Record) sink.Record {
	out := sink.Record{
		Topic: r.Topic, TopicID: id, Partition: r.Partition, Offset: r.Offset, Time: r.Timestamp, Key: r.Key, Value: r.Value,
		Headers: make([]sink.Header, len(r.Headers)), Marker: r.Attrs.IsControl(), Free: r.Recycle,
	}
	for i, h := range r.Headers {
		out.Headers[i] = sink.Header{Key: h.Key, Value: h.Value}
	}
	return out
}

// Hold implements sink.Source.
func (r *Results) Hold(partition int32, held bool) {
	one := map[string][]int32{r.topic: {partition}}
	if held {
		r.client.PauseFetchPartitions(one)
	} else {
		r.client.ResumeFetchPartitions(one)
	}
}

// Commit implements sink.Source.
func (r *Results) Commit(ctx context.Context, next map[int32]int64) error {
	offsets := map[int32]kgo.EpochOffset{}
	for partition, offset := range next {
		offsets[partition] = kgo.EpochOffset{Epoch: -1, Offset: offset}
	}
	var failed error
	r.client.CommitOffsetsSync(ctx, map[string]map[int32]kgo.EpochOffset{r.topic: offsets},
		func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, response *kmsg.OffsetCommitResponse, err error) {
			failed = err
			if err == nil {
				failed = commitError(response)
			}
		})
	return explain(failed)
}

func commitError(response *kmsg.OffsetCommitResponse) error {
	for _, topic := range response.Topics {
		for _, partition := range topic.Partitions {
			if err := kerr.ErrorForCode(partition.ErrorCode); err != nil {
				return fmt.Errorf("%s/%d: %w", topic.Topic, partition.Partition, err)
			}
		}
	}
	return nil
}
