package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/vigie-io/vigie/internal/pipeline"
)

// Poll implements pipeline.Session. Its errors may wrap ErrFenced or ErrTopicRecreated.
func (s *Session) Poll(ctx context.Context) (pipeline.Fetch, error) {
	clear(s.chunks)
	s.chunks = s.chunks[:0]
	s.polled.release()
	refused, err := s.fetch(ctx)
	if err != nil {
		return pipeline.Fetch{}, s.metrics.end(fmt.Errorf("poll events: %w", err))
	}
	err = s.takeFetches(ctx)
	for _, at := range refused {
		err = errors.Join(err, s.refuse(ctx, at))
	}
	if err != nil {
		return pipeline.Fetch{}, fmt.Errorf("poll events: %w", err)
	}
	return pipeline.Fetch{Chunks: s.chunks, Assigned: s.assigned()}, nil
}

// fetch waits until something comes, the assignment changes, or ctx ends. It returns where batches were refused.
func (s *Session) fetch(ctx context.Context) ([]refusal, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.assignment.wakes(cancel)
	fetches := s.group.PollFetches(ctx)
	s.polled.fetches = fetches
	refused := takeRefused(fetches)
	if fetches.IsClientClosed() {
		return nil, kgo.ErrClientClosed
	}
	if err := errors.Join(s.moves.over(), s.read.lost(fetches), fetchErrors(fetches, s.log)); err != nil {
		return nil, err
	}
	s.read.rewound(fetches, s.rewound)
	return refused, nil
}

// takeFetches makes chunks of what was fetched, and adapts the size of fetches to the largest.
func (s *Session) takeFetches(ctx context.Context) (err error) {
	largest := int64(0)
	for i := range s.polled.fetches {
		unpacked := int64(0)
		s.polled.fetches[i : i+1].EachPartition(func(p kgo.FetchTopicPartition) {
			bytes, failed := s.takePartition(ctx, p)
			unpacked, err = unpacked+bytes, errors.Join(err, failed)
		})
		largest = max(largest, unpacked)
	}
	s.adaptFetches(largest)
	return err
}

// takePartition makes a chunk of the records of a partition, and says about how many bytes they take in memory. Its
// error may be ErrSkipped.
func (s *Session) takePartition(ctx context.Context, p kgo.FetchTopicPartition) (bytes int64, err error) {
	if len(p.Records) == 0 {
		return 0, nil
	}
	partition := pipeline.Partition{Topic: p.Topic, Partition: p.Partition}
	if !s.takes(partition) {
		return 0, nil
	}
	place := s.place(partition)
	from := max(place, p.LogStartOffset)
	records, bytes := s.polled.unread(p.Records, from)
	first, next := p.Records[0].Offset, p.Records[len(p.Records)-1].Offset+1
	if records.Len > 0 {
		first = min(first, records.First)
	}
	if place >= 0 {
		err = s.checkGap(ctx, partition, from, first)
	}
	s.places[partition] = next
	s.reach.polled(partition, next, p.LastStableOffset)
	if records.Len > 0 {
		s.addChunk(pipeline.Chunk{Partition: partition, Unread: records, LogStart: p.LogStartOffset})
	}
	return bytes, err
}

// takes notes that something of a partition was polled. It is false of one that is just being taken away: its records
// come again, to whoever has it then, when this epoch has aborted.
func (s *Session) takes(partition pipeline.Partition) bool {
	s.pending, s.read[partition] = true, true
	if s.assignment.released(partition) {
		return true
	}
	s.revoked.Add(1)
	return false
}

// addChunk adds a chunk to what Poll returns.
func (s *Session) addChunk(c pipeline.Chunk) {
	c.Signal = s.signals[c.Partition.Topic]
	_, c.Rewound = s.rewound[c.Partition]
	delete(s.rewound, c.Partition)
	s.chunks = append(s.chunks, c)
}

// assigned lists the session's partitions. Within an epoch the list only grows: a partition that is taken away
// makes the next Commit abort, and until then its task has to stay, or else the epoch could commit offsets of
// records whose results were dropped with the task.
func (s *Session) assigned() []pipeline.Reach {
	partitions := s.assignment.grow(func(partition pipeline.Partition) {
		s.reach.forget(partition)
		delete(s.places, partition)
	})
	out := make([]pipeline.Reach, 0, len(partitions))
	for _, p := range partitions {
		lag, through, next := s.reach.of(p.Partition)
		out = append(out, pipeline.Reach{
			Partition: p.Partition, Signal: s.signals[p.Topic], Lag: lag, Through: through, Next: next, Assignment: p.number,
		})
	}
	return out
}

// Release implements pipeline.Session.
func (s *Session) Release(reaches ...pipeline.Reach) {
	list := make([]owned, len(reaches))
	for i, r := range reaches {
		list[i] = owned{r.Partition, r.Assignment}
	}
	s.assignment.release(list)
}
