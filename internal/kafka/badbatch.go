package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/units"
)

// Brokers look only whether a batch unpacks to whole records. So whoever may write to a topic may write a batch that unpacks to gigabytes,
// and one that a broker's disk has damaged may unpack to nothing. An unpacker refuses both, and a record stands in their place.

// refusedBatch is where a batch is that the unpacker refused.
type refusedBatch struct {
	*kgo.ErrDecompressTooLarge
	logStart int64 // as in pipeline.Chunk
}

// takeRefused takes the errors of batches that the unpacker refused out of fetches. The client stopped there, and goes on where SetOffsets
// says.
func takeRefused(fetches kgo.Fetches) (refused []refusedBatch) {
	for i := range fetches {
		for _, topic := range fetches[i].Topics {
			for k := range topic.Partitions {
				if p := &topic.Partitions[k]; errors.Is(p.Err, kgo.ErrMaxDecompress) {
					var at *kgo.ErrDecompressTooLarge
					if errors.As(p.Err, &at) {
						refused, p.Err = append(refused, refusedBatch{at, p.LogStartOffset}), nil
					}
				}
			}
		}
	}
	return refused
}

// standIn asks client, which is not the one that stopped, for the batch, and returns the record that stands in its place.
func standIn(ctx context.Context, client *kgo.Client, at refusedBatch, most int) (pipeline.Record, error) {
	batch, err := fetchBatch(ctx, client, at)
	if err != nil {
		return pipeline.Record{}, fmt.Errorf("read the batch at offset %d of %s/%d: %w", at.Offset, at.Topic, at.Partition, err)
	}
	u, err := newUnpacker(newMemory(0), most)
	if err != nil {
		return pipeline.Record{}, err
	}
	codec := kgo.CompressionCodecType(batch.Attributes & 7)
	_, why := u.unpack(batch.Records, codec)
	return pipeline.Record{
		Offset: at.NextOffset - 1, Timestamp: nanoseconds(time.Unix(0, batch.MaxTimestamp*int64(time.Millisecond))),
		BadBatch: &pipeline.BadBatch{
			Why: fmt.Sprintf("batch of %d records at offsets %d to %d, %s of %s: %v",
				batch.NumRecords, at.Offset, at.NextOffset-1, units.Bytes(len(batch.Records)), codecName(codec), why),
			Size: int64(len(batch.Records)),
		},
	}, nil
}

func codecName(codec kgo.CompressionCodecType) string {
	switch codec {
	case kgo.CodecGzip:
		return "gzip"
	case kgo.CodecSnappy:
		return "snappy"
	case kgo.CodecLz4:
		return "lz4"
	case kgo.CodecZstd:
		return "zstd"
	}
	return fmt.Sprintf("codec %d", codec)
}

// fetchBatch fetches the batch at an offset, as it is in the log.
func fetchBatch(ctx context.Context, client *kgo.Client, at refusedBatch) (*kmsg.RecordBatch, error) {
	id, leader, err := leaderOf(ctx, client, at.Topic, at.Partition)
	if err != nil {
		return nil, err
	}
	partition := kmsg.NewFetchRequestTopicPartition()
	partition.Partition, partition.FetchOffset, partition.PartitionMaxBytes = at.Partition, at.Offset, 1 // a whole batch, however
	request := kmsg.NewPtrFetchRequest()
	request.MinBytes, request.MaxBytes = 1, 1
	part, err := askLeader(ctx, client, leader, request, at.Topic, id, partition)
	if err != nil {
		return nil, err
	}
	if err := kerr.ErrorForCode(part.ErrorCode); err != nil {
		return nil, err
	}
	batch := new(kmsg.RecordBatch)
	if err := batch.ReadFrom(part.RecordBatches); err != nil {
		return nil, err
	}
	if batch.FirstOffset != at.Offset {
		return nil, fmt.Errorf("the broker's answer begins at offset %d", batch.FirstOffset)
	}
	return batch, nil
}

// leaderOf asks for the id of a topic and the leader of one of its partitions.
func leaderOf(ctx context.Context, client *kgo.Client, name string, partition int32) (id [16]byte, leader int32, err error) {
	response, err := describeTopics(ctx, client, name)
	if err != nil {
		return id, -1, err
	}
	for _, topic := range response.Topics {
		for _, p := range topic.Partitions {
			if p.Partition == partition && p.Leader >= 0 {
				return topic.TopicID, p.Leader, nil
			}
		}
	}
	return id, -1, errLeaderless
}

// refuse makes the batch's record the partition's next.
func (s *Session) refuse(ctx context.Context, batch refusedBatch) error {
	partition := pipeline.Partition{Topic: batch.Topic, Partition: batch.Partition}
	s.pending, s.read[partition] = true, true
	if !s.assignment.released(partition) {
		s.losses.Add(1) // as for records, in Poll
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), gapPatience)
	defer cancel()
	record, err := standIn(ctx, s.restorer, batch, int(s.cfg.MaxUnpacked))
	if err != nil {
		return err
	}
	if place := s.place(partition); place >= 0 {
		if err := s.checkGap(ctx, partition, max(place, batch.logStart), batch.Offset); err != nil {
			return err
		}
	}
	s.log.Warn("records refused", "topic", batch.Topic, "partition", batch.Partition, "offset", batch.Offset, "why", record.BadBatch.Why)
	s.refused[partition] = kgo.EpochOffset{Epoch: batch.Epoch, Offset: batch.NextOffset}
	s.places[partition] = batch.NextOffset
	s.reach.polled(partition, batch.NextOffset, batch.NextOffset) // what can be read is stable
	_, rewound := s.rewound[partition]
	s.chunks = append(s.chunks, pipeline.Chunk{
		Partition: partition, Signal: s.signals[batch.Topic], Records: []pipeline.Record{record}, LogStart: batch.logStart, Rewound: rewound,
	})
	delete(s.rewound, partition)
	return nil
}

// refusals are where partitions go on in which batches were refused in the epoch. The client knows nothing of it: it committed and would commit
// the offset before the batch.
type refusals map[pipeline.Partition]kgo.EpochOffset

// commit has a transaction commit these offsets, too.
func (u refusals) commit(request *kmsg.TxnOffsetCommitRequest) {
	for partition, behind := range u {
		setOffset(request, partition, behind)
	}
}

// setOffset has a member commit an offset.
func setOffset(request *kmsg.TxnOffsetCommitRequest, at pipeline.Partition, to kgo.EpochOffset) {
	p := offsetIn(request, at)
	p.Offset, p.LeaderEpoch, p.Metadata = to.Offset, to.Epoch, &request.MemberID
}

// offsetIn finds or adds the offset of a partition.
func offsetIn(request *kmsg.TxnOffsetCommitRequest, at pipeline.Partition) *kmsg.TxnOffsetCommitRequestTopicPartition {
	var topic *kmsg.TxnOffsetCommitRequestTopic
	for i := range request.Topics {
		if request.Topics[i].Topic == at.Topic {
			topic = &request.Topics[i]
		}
	}
	if topic == nil {
		added := kmsg.NewTxnOffsetCommitRequestTopic()
		added.Topic = at.Topic
		request.Topics = append(request.Topics, added)
		topic = &request.Topics[len(request.Topics)-1]
	}
	for i := range topic.Partitions {
		if topic.Partitions[i].Partition == at.Partition {
			return &topic.Partitions[i]
		}
	}
	added := kmsg.NewTxnOffsetCommitRequestTopicPartition()
	added.Partition = at.Partition
	topic.Partitions = append(topic.Partitions, added)
	return &topic.Partitions[len(topic.Partitions)-1]
}

// settle has the client go on behind the batches, or at what was committed before when the epoch was aborted: not without going there and
// back, for where nothing was polled before the batch it stands at that offset already, and stays where it stopped. It says no when
// only a new session can go on: the client moves in no partition of which it has neither an offset nor a record.
func (u refusals) settle(client *kgo.Client, committed bool) (ok bool) {
	if len(u) == 0 {
		return true
	}
	ok = true
	behind, before, now := map[string]map[int32]kgo.EpochOffset{}, map[string]map[int32]kgo.EpochOffset{}, client.CommittedOffsets()
	for at, next := range u {
		if behind[at.Topic] == nil {
			behind[at.Topic], before[at.Topic] = map[int32]kgo.EpochOffset{}, map[int32]kgo.EpochOffset{}
		}
		behind[at.Topic][at.Partition] = next
		offset, known := now[at.Topic][at.Partition]
		if ok = ok && known; known {
			before[at.Topic][at.Partition] = offset
		}
	}
	client.SetOffsets(behind)
	if !committed {
		client.SetOffsets(before)
	}
	clear(u)
	return ok
}
