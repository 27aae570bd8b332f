package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// asMember has a transaction commit only if its session is still in the group.
//
// Brokers check that when a transaction commits offsets, and an epoch in which nothing was polled has none. But it may have results and state of
// what time alone has brought. A worker that was stopped for longer than the group waits, and wakes, would write these behind what the new
// owner of its partitions has written since. So an offset that stands is committed once more. It follows the acknowledgement of the
// results and of the state: if the broker takes it, the partitions are still the session's, and who restores them later finds both.
//
// A group without any offset has nothing to commit again; nothing of its partitions has been read then, and there is no state.
func (s *Session) asMember(ctx context.Context) context.Context {
	return kgo.PreTxnCommitFnContext(ctx, func(request *kmsg.TxnOffsetCommitRequest) error {
		if len(request.Topics) == 0 {
			request.Topics = s.standing(&request.MemberID)
		}
		return nil
	})
}

// standing is one of the offsets that the session has committed or begun with, none when there is none.
func (s *Session) standing(member *string) []kmsg.TxnOffsetCommitRequestTopic {
	for name, partitions := range s.group.Client().CommittedOffsets() {
		for number, at := range partitions {
			if at.Offset < 0 {
				continue
			}
			partition := kmsg.NewTxnOffsetCommitRequestTopicPartition()
			partition.Partition, partition.Offset, partition.LeaderEpoch, partition.Metadata = number, at.Offset, at.Epoch, member
			topic := kmsg.NewTxnOffsetCommitRequestTopic()
			topic.Topic, topic.Partitions = name, []kmsg.TxnOffsetCommitRequestTopicPartition{partition}
			return []kmsg.TxnOffsetCommitRequestTopic{topic}
		}
	}
	return nil
}
