package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/vigie-io/vigie/internal/pause"
	"github.com/vigie-io/vigie/internal/pipeline"
)

// moves remembers that the group's offsets are not those with which the session began to read.
type moves struct {
	restoring atomic.Int32 // Restore and Seek under way
	moved     atomic.Bool
}

// over is the error of Poll once offsets have been moved and nobody is about to move another.
func (m *moves) over() error {
	if m.moved.Load() && m.restoring.Load() == 0 {
		return pipeline.ErrMoved
	}
	return nil
}

// Seek implements pipeline.Session.
func (s *Session) Seek(ctx context.Context, source pipeline.Partition, to pipeline.Move) error {
	s.moves.restoring.Add(1)
	defer s.moves.restoring.Add(-1)
	offsets := map[string]map[int32]kgo.EpochOffset{source.Topic: {source.Partition: {Epoch: -1, Offset: to.Offset}}}
	ctx = kgo.PreCommitFnContext(ctx, func(request *kmsg.OffsetCommitRequest) error {
		for i := range request.Topics {
			topic := &request.Topics[i]
			noted := s.marks.beside(topic.Topic, request.MemberID)
			for j := range topic.Partitions {
				topic.Partitions[j].Metadata = noted
			}
		}
		return nil
	})
	var failed error
	s.group.Client().CommitOffsetsSync(ctx, offsets,
		func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, response *kmsg.OffsetCommitResponse, err error) {
			if failed = err; err == nil {
				failed = commitError(response)
			}
		})
	if failed != nil {
		return fmt.Errorf("set the offset of group %s in %s/%d to %d: %w", s.cfg.Group, source.Topic, source.Partition,
			to.Offset, explain(failed))
	}
	s.log.Warn("the group's offset has been set: "+to.Why, "topic", source.Topic,
		"partition", source.Partition, "offset", to.Offset)
	s.moves.moved.Store(true)
	return pipeline.ErrMoved
}

// origin says where Poll begins in the source. What has been read of the state by now is that of the group's offset:
// each transaction of an earlier owner is decided, and what it decided of the offset is waited for.
func (r *restore) origin(ctx context.Context) (pipeline.Origin, error) {
	at := pipeline.Partition{Topic: r.source, Partition: r.partition}
	o := pipeline.Origin{TopicID: r.sourceID, Group: r.s.cfg.Group}
	for {
		committed, noted, err := r.committed(ctx)
		log, _ := r.s.lookups.logs.get(ctx, at)
		if err == nil && log.holds(at) {
			o.Committed, o.Own, o.Start, o.End = committed, noted != "", log.first[at], log.behind[at]
			if by := readMark(noted); by.cluster == r.cluster {
				o.Of = by.topic
			}
			break
		}
		if err != nil && !kerr.IsRetriable(err) {
			return o, fmt.Errorf("look up the offset of group %s: %w", r.s.cfg.Group, err)
		}
		if err := pause.For(ctx, restoreWait); err != nil {
			return o, fmt.Errorf("look up the offset of group %s: %w", r.s.cfg.Group, err)
		}
	}
	if began, ok := r.s.group.Client().CommittedOffsets()[r.source][r.partition]; ok && began.Offset != o.Committed {
		r.s.log.Warn("the group's offset was changed from outside", "topic", r.source, "partition", r.partition,
			"from", began.Offset, "to", o.Committed)
		r.s.moves.moved.Store(true)
		return o, pipeline.ErrMoved
	}
	return o, nil
}

// committed is the group's offset of the source, -1 when it has none, and what a member noted beside it: its id at
// least. Tools note nothing.
func (r *restore) committed(ctx context.Context) (offset int64, noted string, err error) {
	of := sourceID{pipeline.Partition{Topic: r.source, Partition: r.partition}, r.sourceID}
	response, err := r.s.lookups.offsets.get(ctx, of)
	if err != nil {
		return -1, "", err
	}
	for _, g := range response.Groups {
		switch err := kerr.ErrorForCode(g.ErrorCode); {
		case errors.Is(err, kerr.GroupIDNotFound):
			return -1, "", nil // it has never had a member or an offset
		case err != nil:
			return -1, "", err
		}
		for i := range g.Topics {
			t := &g.Topics[i]
			if t.TopicID != r.sourceID && (t.TopicID != [16]byte{} || t.Topic != r.source) {
				continue
			}
			for _, p := range t.Partitions {
				if p.Partition != r.partition {
					continue
				}
				if p.Metadata != nil {
					noted = *p.Metadata
				}
				return p.Offset, noted, kerr.ErrorForCode(p.ErrorCode)
			}
		}
	}
	return -1, "", errors.New("the broker's answer does not hold the partition")
}
