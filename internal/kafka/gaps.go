package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/vigie-io/vigie/internal/pipeline"
)

// ErrSkipped says that records came which do not follow those before, while what lies between can be read: the client
// lost its place. A new session goes on at the committed offsets.
var ErrSkipped = errors.New("the client skipped records: a new session is needed")

// gapPatience bounds the look into a gap.
const gapPatience = 10 * time.Second

// places are where the next records of each partition begin: behind the last that were polled or, after an assignment
// or an abort, at the committed offset.
//
// The epoch commits the offset behind what was polled last. Should the client's place ever be beyond the committed
// offset after an abort, the records in between would be in no epoch, and nobody would miss them.
type places map[pipeline.Partition]int64

// place is where the next records of a partition begin, or -1.
func (s *Session) place(partition pipeline.Partition) int64 {
	if at, known := s.places[partition]; known {
		return at
	}
	if at, rewound := s.rewound[partition]; rewound {
		return at
	}
	if committed, ok := s.group.Client().CommittedOffsets()[partition.Topic][partition.Partition]; ok {
		return committed.Offset
	}
	return -1
}

// checkGap returns ErrSkipped when there are records between where the next had to begin and the first that came.
func (s *Session) checkGap(ctx context.Context, partition pipeline.Partition, want, first int64) error {
	if _, rewound := s.rewound[partition]; rewound || first <= want {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), gapPatience)
	defer cancel()
	at, err := s.between(ctx, partition, want, first)
	switch {
	case err != nil:
		return fmt.Errorf("look at what is between offsets %d and %d of %s/%d: %w", want, first,
			partition.Topic, partition.Partition, err)
	case at >= 0:
		return fmt.Errorf("fetch %s/%d: want offset %d, got %d: %w", partition.Topic, partition.Partition, at, first, ErrSkipped)
	}
	return nil // aborted, compacted or deleted
}

// between is the offset of the first committed record from from on and before to, or -1.
func (s *Session) between(ctx context.Context, partition pipeline.Partition, from, to int64) (int64, error) {
	r := restore{s: s, topic: partition.Topic, source: s.states[partition.Topic], partition: partition.Partition, next: from}
	if err := r.locate(ctx); err != nil {
		return -1, err
	}
	unpacker, err := newUnpacker(newMemory(0), int(s.cfg.MaxUnpacked))
	if err != nil {
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
		part, next := kgo.ProcessFetchPartition(options, answer, unpacker, nil)
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
