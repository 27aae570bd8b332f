package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/vigie-io/vigie/internal/pipeline"
)

// ErrPassedOver says that records came which do not follow those before, while what lies between can be read: the client
// lost its place. A new session goes on at the committed offsets.
var ErrPassedOver = errors.New("the client passed records over: a new session is needed")

// gapPatience bounds the look into a gap.
const gapPatience = 10 * time.Second

// places are where the next records of each partition begin: behind the last that were polled or, after an assignment
// or an abort, at the committed offset.
//
// The epoch commits the offset behind what was polled last. Should the client's place ever be beyond the committed
// offset after an abort, the records in between would be in no epoch, and nobody would miss them.
type places map[pipeline.Partition]int64

// passedOver returns ErrPassedOver when p begins behind where it has to and there are records in between.
func (s *Session) passedOver(ctx context.Context, partition pipeline.Partition, p *kgo.FetchTopicPartition) error {
	first, last := p.Records[0].Offset, p.Records[len(p.Records)-1].Offset
	want, known := s.places[partition]
	if !known {
		want = -1
		if committed, ok := s.group.Client().CommittedOffsets()[partition.Topic][partition.Partition]; ok {
			want = committed.Offset
		}
	}
	s.places[partition] = last + 1
	if want < 0 || first <= want || s.rewound[partition] {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), gapPatience)
	defer cancel()
	at, err := s.between(ctx, partition, max(want, p.LogStartOffset), first)
	switch {
	case err != nil:
		return fmt.Errorf("look at what is between offsets %d and %d of %s/%d: %w", want, first, partition.Topic, partition.Partition, err)
	case at >= 0:
		return fmt.Errorf("fetch %s/%d: want offset %d, got %d: %w", partition.Topic, partition.Partition, at, first, ErrPassedOver)
	}
	return nil // aborted, compacted or deleted
}

// between is the offset of the first committed record from from on and before to, or -1.
func (s *Session) between(ctx context.Context, partition pipeline.Partition, from, to int64) (int64, error) {
	r := restore{s: s, topic: partition.Topic, source: s.states[partition.Topic], partition: partition.Partition, next: from}
	if err := r.locate(ctx); err != nil {
		return -1, err
	}
	for r.next < to {
		answer, err := r.request(ctx)
		if err != nil {
			return -1, err
		}
		options := kgo.ProcessFetchPartitionOpts{
			Offset: r.next, IsolationLevel: kgo.ReadCommitted(), Topic: r.topic, Partition: r.partition,
		}
		part, next := kgo.ProcessFetchPartition(options, answer, kgo.DefaultDecompressor(), nil)
		if part.Err != nil {
			return -1, explain(part.Err)
		}
		if len(part.Records) > 0 && part.Records[0].Offset < to {
			return part.Records[0].Offset, nil
		}
		if len(part.Records) > 0 || next <= r.next {
			break
		}
		r.next = next
	}
	return -1, nil
}
