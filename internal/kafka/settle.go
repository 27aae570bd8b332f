package kafka

import (
	"context"
	"errors"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/vigie-io/vigie/internal/pause"
	"github.com/vigie-io/vigie/internal/pipeline"
)

// settling is what the last transaction of a producer wrote, while its markers may not be there.
//
// The coordinator says that a transaction has ended when it has decided, and writes the markers then. One that is lost
// on the way (see hangings) has the next transaction of the producer in that partition end both: to abort it would take
// back what was committed, to commit it would bring back what was aborted. So a producer begins none before the markers
// of its last one have been seen. One goroutine uses it.
type settling struct {
	hangings *hangings  // in what the producer writes to; its client is the producer's
	records  ends       // the last offset in each partition
	offsets  []sourceID // of the group: one of those committed
}

// wrote notes the records of a transaction, which are acknowledged.
func (s *settling) wrote(records []kgo.Record) {
	for i := range records {
		r := &records[i]
		s.last(pipeline.Partition{Topic: r.Topic, Partition: r.Partition}, r.Offset)
	}
}

func (s *settling) last(p pipeline.Partition, offset int64) {
	if last, ok := s.records[p]; !ok || last < offset {
		if s.records == nil {
			s.records = ends{}
		}
		s.records[p] = offset
	}
}

// unknown has the next transaction wait for what earlier ones of the producer may have left in partitions: until all
// that is there now has ended, or nothing of the producer is open.
func (s *settling) unknown(ctx context.Context, partitions []pipeline.Partition) {
	high, stable := bothIsolations(ctx, s.hangings.client, partitions)
	for _, p := range partitions {
		end, known := high[p]
		at, ok := stable[p]
		switch {
		case known && ok && at >= end:
		case known:
			s.last(p, end-1)
		default:
			s.last(p, math.MaxInt64)
		}
	}
}

// committing notes the offsets that a transaction is about to commit. One of them speaks for all: they are in one
// partition of the brokers'.
func (s *settling) committing(request *kmsg.TxnOffsetCommitRequest, marks *marks) {
	for _, topic := range request.Topics {
		id := topic.TopicID
		if id == [16]byte{} {
			id = marks.get(topic.Topic).topic
		}
		for _, p := range topic.Partitions {
			s.offsets = []sourceID{{pipeline.Partition{Topic: topic.Topic, Partition: p.Partition}, id}}
			return
		}
	}
}

func (s *settling) done() bool { return len(s.records) == 0 && len(s.offsets) == 0 }

const (
	settleWait     = 2 * time.Millisecond // at first
	settleWaitMost = 100 * time.Millisecond
	// settlePatience is how long markers may take before it is asked whether they hang. Until then a producer that has
	// lost its coordinator, or a leader, waits for it.
	settlePatience = time.Second
)

// wait returns when the last transaction has ended in all that it wrote to. It ends what hangs of it.
func (s *settling) wait(ctx context.Context) error {
	asked, late := time.Now(), false
	for wait := settleWait; ; wait = min(2*wait, settleWaitMost) {
		if s.findMarkers(ctx, late); s.done() {
			return nil
		}
		if err := pause.For(ctx, wait); err != nil {
			return err
		}
		if time.Since(asked) >= settlePatience {
			s.endOwn(ctx)
			asked, late = time.Now(), true
		}
	}
}

// findMarkers takes out what has ended. It asks for the last stable offset, which is cheap; where that is held back,
// perhaps by another producer, it asks whose transactions are open.
func (s *settling) findMarkers(ctx context.Context, late bool) {
	client := s.hangings.client
	var both sync.WaitGroup
	if len(s.offsets) > 0 {
		both.Go(func() {
			if response, err := stableOffsets(ctx, client, s.hangings.group, s.offsets); err == nil && stable(response) {
				s.offsets = s.offsets[:0]
			}
		})
	}
	if len(s.records) > 0 {
		partitions := slices.SortedFunc(maps.Keys(s.records), pipeline.Partition.Compare)
		for p, at := range askLeaders(ctx, client, partitions, offsetLatest, readCommitted) {
			if at > s.records[p] {
				delete(s.records, p)
			}
		}
	}
	if len(s.records) > 0 {
		s.notMine(ctx, late)
	}
	both.Wait()
}

// stable says that no offset of the answer is about to be changed by an open transaction.
func stable(response *kmsg.OffsetFetchResponse) bool {
	for _, g := range response.Groups {
		if kerr.IsRetriable(kerr.ErrorForCode(g.ErrorCode)) {
			return false
		}
		for _, t := range g.Topics {
			for _, p := range t.Partitions {
				if p.ErrorCode == kerr.UnstableOffsetCommit.Code {
					return false
				}
			}
		}
	}
	return true
}

// notMine takes out partitions in which the producer has no transaction open. That of a topic which is gone has none; a
// leader that has just started knows no topic at first. Where the brokers refuse to tell, the last stable offset alone
// is waited for, and not for long: what another producer has open holds it back, too.
func (s *settling) notMine(ctx context.Context, late bool) {
	id, _, err := s.hangings.client.ProducerID(ctx)
	if err != nil {
		return
	}
	open, failed := s.hangings.of(ctx, slices.SortedFunc(maps.Keys(s.records), pipeline.Partition.Compare))
	mine := map[pipeline.Partition]bool{}
	for _, o := range open {
		mine[o.Partition] = mine[o.Partition] || o.producer == id
	}
	for p := range s.records {
		switch err := failed[p]; {
		case err == nil && !mine[p], late && errors.Is(err, kerr.UnknownTopicOrPartition):
			delete(s.records, p)
		case late && errors.Is(err, kerr.TopicAuthorizationFailed):
			s.hangings.blind(p.Topic)
			delete(s.records, p)
		}
	}
}

// endOwn ends what hangs of the producer's own transactions. Their coordinator has ended them all: the producer is
// between two.
func (s *settling) endOwn(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, hangingInterval)
	defer cancel()
	id, _, err := s.hangings.client.ProducerID(ctx)
	if err != nil {
		return
	}
	own := slices.DeleteFunc(s.hangings.all(ctx), func(o openTransaction) bool { return o.producer != id })
	if err := s.hangings.end(ctx, own); err != nil && ctx.Err() == nil {
		s.hangings.warn("the last transaction has not ended in all partitions; the next waits for it", err)
	}
}
