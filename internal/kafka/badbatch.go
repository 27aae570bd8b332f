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

// Brokers look only whether a batch unpacks to whole records. So whoever may write to a topic may write a batch that
// unpacks to gigabytes, and one that a broker's disk has damaged may unpack to nothing. An unpacker refuses both, and a
// record stands in their place.

// errRefused is the client's error of a partition that is at a batch which the unpacker refused: each fetch brings it
// again until the client is told to go on behind the batch. It must not be kgo.ErrMaxDecompress, after which the client
// fetches no more of the partition: it says so in a poll, which never comes when partitions are given out anew
// meanwhile.
var errRefused = errors.New("a batch was refused")

// refusal is a partition in which a batch was refused.
type refusal struct {
	pipeline.Partition
	logStart int64 // as in pipeline.Chunk
}

// takeRefused takes the errors of batches that the unpacker refused out of fetches.
func takeRefused(fetches kgo.Fetches) (refused []refusal) {
	for i := range fetches {
		for _, topic := range fetches[i].Topics {
			for k := range topic.Partitions {
				if p := &topic.Partitions[k]; errors.Is(p.Err, errRefused) {
					at := pipeline.Partition{Topic: topic.Topic, Partition: p.Partition}
					refused, p.Err = append(refused, refusal{at, p.LogStartOffset}), nil
				}
			}
		}
	}
	return refused
}

// refusedBatch is one, with the record that stands in its place.
type refusedBatch struct {
	pipeline.Record
	first int64           // offset
	next  kgo.EpochOffset // behind it
}

// standIn reads the log of a partition through client, from an offset on, to the first batch that unpacks to more than
// so many bytes, or not at all.
func standIn(ctx context.Context, client *kgo.Client, at pipeline.Partition, from int64, most int) (refusedBatch, error) {
	u, err := newUnpacker(newMemory(0), most)
	if err != nil {
		return refusedBatch{}, err
	}
	for {
		batch, err := fetchBatch(ctx, client, at, from)
		if err != nil {
			return refusedBatch{}, fmt.Errorf("read the batch at offset %d of %s/%d: %w", from, at.Topic, at.Partition, err)
		}
		next := batch.FirstOffset + int64(batch.LastOffsetDelta) + 1
		codec := kgo.CompressionCodecType(batch.Attributes & 7)
		if codec == kgo.CodecNone {
			from = next
			continue
		}
		plain, why := u.unpack(batch.Records, codec)
		if why == nil { // of a transaction that was aborted
			u.memory.PutDecompressBytes(plain)
			from = next
			continue
		}
		return refusedBatch{
			first: batch.FirstOffset, next: kgo.EpochOffset{Epoch: batch.PartitionLeaderEpoch, Offset: next},
			Record: pipeline.Record{
				Offset: next - 1, Timestamp: nanoseconds(time.Unix(0, batch.MaxTimestamp*int64(time.Millisecond))),
				BadBatch: &pipeline.BadBatch{
					Why: fmt.Sprintf("batch of %d records at offsets %d to %d, %s of %s: %v",
						batch.NumRecords, batch.FirstOffset, next-1, units.Bytes(len(batch.Records)), codecName(codec), why),
					Size: int64(len(batch.Records)),
				},
			},
		}, nil
	}
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

// fetchBatch fetches the batch that an offset is in, or the next, as it is in the log.
func fetchBatch(ctx context.Context, client *kgo.Client, at pipeline.Partition, offset int64) (*kmsg.RecordBatch, error) {
	id, leader, err := leaderOf(ctx, client, at.Topic, at.Partition)
	if err != nil {
		return nil, err
	}
	partition := kmsg.NewFetchRequestTopicPartition()
	partition.Partition, partition.FetchOffset, partition.PartitionMaxBytes = at.Partition, offset, 1 // a whole batch, however
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
	return batch, batch.ReadFrom(part.RecordBatches)
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

// refuse makes the record of the batch that was refused the partition's next.
func (s *Session) refuse(ctx context.Context, at refusal) error {
	partition := at.Partition
	if !s.takes(partition) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), gapPatience)
	defer cancel()
	place := s.place(partition)
	from := max(place, at.logStart)
	batch, err := standIn(ctx, s.restorer, partition, from, int(s.cfg.MaxUnpacked))
	if err != nil {
		return err
	}
	if place >= 0 {
		if err := s.checkGap(ctx, partition, from, batch.first); err != nil {
			return err
		}
	}
	s.log.Warn("records refused", "topic", partition.Topic, "partition", partition.Partition,
		"offset", batch.first, "why", batch.BadBatch.Why)
	s.refused[partition] = batch.next
	s.places[partition] = batch.next.Offset
	s.reach.polled(partition, batch.next.Offset, batch.next.Offset) // what can be read is stable
	s.addChunk(pipeline.Chunk{Partition: partition, Records: []pipeline.Record{batch.Record}, LogStart: at.logStart})
	return nil
}

// refusals are where partitions go on in which batches were refused in the epoch. The client knows nothing of it: it
// committed and would commit the offset before the batch.
type refusals map[pipeline.Partition]kgo.EpochOffset

// commit has a transaction commit these offsets, too.
func (u refusals) commit(request *kmsg.TxnOffsetCommitRequest) {
	for partition, behind := range u {
		setOffset(request, partition, behind)
	}
}

// settle has the client go on behind the batches if the epoch has committed, and otherwise come to them once more. It
// says no when only a new session can go on: the client moves in no partition of which it has neither an offset nor a
// record.
func (u refusals) settle(client *kgo.Client, committed bool) (ok bool) {
	defer clear(u)
	if !committed || len(u) == 0 {
		return true
	}
	ok = true
	behind, known := map[string]map[int32]kgo.EpochOffset{}, client.CommittedOffsets()
	for at, next := range u {
		if behind[at.Topic] == nil {
			behind[at.Topic] = map[int32]kgo.EpochOffset{}
		}
		behind[at.Topic][at.Partition] = next
		_, moves := known[at.Topic][at.Partition]
		ok = ok && moves
	}
	client.SetOffsets(behind)
	return ok
}
