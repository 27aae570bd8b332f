package kafka

import (
	"context"
	"errors"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/vigie-io/vigie/internal/pause"
	"github.com/vigie-io/vigie/internal/pipeline"
)

// settling is what the last transaction wrote, while its markers may not be there.
//
// The coordinator says that a transaction has ended when it has decided, and writes the markers then. One that is lost
// on the way (see hangings) has the next transaction of the producer in that partition end both: to abort it would take
// back what was committed, to commit it would bring back what was aborted. So a session begins none before the markers
// of its last one have been seen.
type settling struct {
	records ends       // the last offset in each partition
	offsets []sourceID // of the group: one of those committed
}

// wrote notes the records of a transaction, which are acknowledged.
func (s *settling) wrote(records []kgo.Record) {
	for i := range records {
		r := &records[i]
		p := pipeline.Partition{Topic: r.Topic, Partition: r.Partition}
		if last, ok := s.records[p]; !ok || last < r.Offset {
			if s.records == nil {
				s.records = ends{}
			}
			s.records[p] = r.Offset
		}
	}
}

// unknown has the next transaction wait until none of the producer is open in a partition, whatever was written before.
func (s *settling) unknown(p pipeline.Partition) { s.records = ends{p: math.MaxInt64} }

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
	// settlePatience is how long markers may take before it is asked whether they hang. Until then a session that has
	// lost its coordinator, or a leader, waits for it.
	settlePatience = time.Second
)

// settle waits until the last transaction has ended in all that it wrote to, and ends what hangs of it.
func (s *Session) settle(ctx context.Context) error {
	asked, late := time.Now(), false
	for wait := settleWait; ; wait = min(2*wait, settleWaitMost) {
		if s.findMarkers(ctx, late); s.unsettled.done() {
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
func (s *Session) findMarkers(ctx context.Context, late bool) {
	client, left := s.group.Client(), &s.unsettled
	var both sync.WaitGroup
	if len(left.offsets) > 0 {
		both.Go(func() {
			if response, err := stableOffsets(ctx, client, s.cfg.Group, left.offsets); err == nil && stable(response) {
				left.offsets = left.offsets[:0]
			}
		})
	}
	if len(left.records) > 0 {
		partitions := slices.SortedFunc(maps.Keys(left.records), pipeline.Partition.Compare)
		for p, at := range askLeaders(ctx, client, partitions, offsetLatest, readCommitted) {
			if at > left.records[p] {
				delete(left.records, p)
			}
		}
	}
	if len(left.records) > 0 {
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

// notMine takes out partitions in which the session's producer has no transaction open. That of a topic which is gone has
// none, nor is one waited for where the brokers refuse to tell; a leader that has just started knows no topic at first.
func (s *Session) notMine(ctx context.Context, late bool) {
	id, _, err := s.group.Client().ProducerID(ctx)
	if err != nil {
		return
	}
	for p := range s.unsettled.records { // each by itself: not all may be described
		transactions, err := s.hangings.of(ctx, kadm.TopicsSet{p.Topic: setOf([]int32{p.Partition})})
		mine := slices.ContainsFunc(transactions, func(o openTransaction) bool { return o.producer == id })
		gone := late && errors.Is(err, kerr.UnknownTopicOrPartition)
		if err == nil && !mine || gone || errors.Is(err, kerr.TopicAuthorizationFailed) {
			delete(s.unsettled.records, p)
		}
	}
}

// endOwn ends what hangs of the slot's own transactions. Their coordinator has ended them all: the session is between
// two.
func (s *Session) endOwn(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, hangingInterval)
	defer cancel()
	id, _, err := s.group.Client().ProducerID(ctx)
	if err != nil {
		return
	}
	own := slices.DeleteFunc(s.hangings.all(ctx), func(o openTransaction) bool { return o.producer != id })
	if err := s.hangings.end(ctx, own); err != nil && ctx.Err() == nil {
		s.log.Warn("the last transaction has not ended in all partitions; the next waits for it", "err", err)
	}
}
