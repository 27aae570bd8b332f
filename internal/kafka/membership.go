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
			if at, offset, found := s.standing(); found {
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
		return nil
	})
}

// standing is an offset that the session has committed or begun with, if there is one: of a topic whose mark is known,
// if there is one.
func (s *Session) standing() (at pipeline.Partition, offset kgo.EpochOffset, found bool) {
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
