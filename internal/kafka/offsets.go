package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/vigie-io/vigie/internal/pipeline"
)

// withOffsets has a transaction commit the offsets of what was polled, of batches that were refused, and if there is
// none of these one that stands.
//
// Brokers check that a session is still in the group when a transaction commits offsets, and an epoch in which nothing
// was polled has none. But it may have results and state of what time alone has brought. A worker that was stopped for
// longer than the group waits, and wakes, would write these behind what the new owner of its partitions has written
// since. So an offset that stands is committed once more. It follows the acknowledgement of the results and of the
// state: if the broker takes it, the partitions are still the session's, and who restores them later finds both.
//
// A group without any offset has nothing to commit again; nothing of its partitions has been read then, and there is no
// state.
func (s *Session) withOffsets(ctx context.Context) context.Context {
	return kgo.PreTxnCommitFnContext(ctx, func(request *kmsg.TxnOffsetCommitRequest) error {
		s.refused.commit(request)
		if len(request.Topics) == 0 {
			if at, offset, found := s.lastCommitted(); found {
				setOffset(request, at, offset)
			}
		}
		for i := range request.Topics {
			topic := &request.Topics[i]
			noted := s.marks.beside(topic.Topic, request.MemberID)
			for j := range topic.Partitions {
				topic.Partitions[j].Metadata = noted
			}
		}
		s.unsettled.committing(request, &s.marks)
		return nil
	})
}

// lastCommitted is an offset that the session has committed or begun with, if there is one: of a topic whose mark is
// known, if there is such a topic.
func (s *Session) lastCommitted() (at pipeline.Partition, offset kgo.EpochOffset, found bool) {
	for topic, partitions := range s.group.Client().CommittedOffsets() {
		marked := s.marks.get(topic) != (mark{})
		for partition, committed := range partitions {
			if committed.Offset < 0 {
				continue
			}
			at, offset, found = pipeline.Partition{Topic: topic, Partition: partition}, committed, true
			if marked {
				return at, offset, found
			}
		}
	}
	return at, offset, found
}

// setOffset has a transaction commit an offset.
func setOffset(request *kmsg.TxnOffsetCommitRequest, at pipeline.Partition, to kgo.EpochOffset) {
	p := offsetIn(request, at)
	p.Offset, p.LeaderEpoch = to.Offset, to.Epoch
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
