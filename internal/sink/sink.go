package sink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// ErrRefused classes an insert error: the server understood the request and refuses the block for what it
// holds, so the same bytes would be refused again. Inserters wrap it. Every other error is tried again.
var ErrRefused = errors.New("block refused")

// Fetch is what one Poll returned.
type Fetch struct {
	// Lost are partitions that are no longer this process's. It applies before Records: a partition in both was
	// lost and came back, and its records begin at the committed offset.
	Lost []int32
	// Records are new records; those of one partition are in offset order.
	Records []Record
	// Ends are the ends of the readable log of the partitions that were fetched, for the lag.
	Ends map[int32]int64
}

// Source is the results topic as this process's share of a consumer group. Poll and Commit are called by one
// goroutine; Hold by any.
type Source interface {
	// Poll waits for records until ctx ends; an empty Fetch at the deadline is no error. An error ends the sink.
	// The records belong to the caller.
	Poll(ctx context.Context) (Fetch, error)
	// Hold stops fetching a partition, or goes on with it. What has been fetched and not returned is fetched again.
	Hold(partition int32, held bool)
	// Commit stores the next offset of each partition. After an error (a rebalance is under way) it is called
	// again later; what ends the membership for good shows in Poll.
	Commit(ctx context.Context, next map[int32]int64) error
}

// Inserter writes one block. It is called concurrently.
type Inserter interface {
	// Insert returns nil once the rows are stored, or were stored before under the same token. It does not
	// retain block. Errors that wrap ErrRefused are final for this block; any other is worth trying again, also
	// when it is unknown whether the rows were stored.
	Insert(ctx context.Context, table, token string, rows int, block []byte) error
}

// Parker puts a record aside that cannot be inserted, durably: nil means that it is stored.
// The same record may be parked twice (a crash before its offset was committed); its token tells.
type Parker interface {
	Park(ctx context.Context, record Record, token string, cause error) error
}

// Sink relays result records. Run may be called once at a time.
type Sink struct {
	topic    string
	cfg      Config
	source   Source
	inserter Inserter
	parker   Parker
	log      *slog.Logger
	metrics  *Metrics

	slots   chan struct{} // one per running insert
	refused atomic.Int64  // refused blocks since the last success
	lanes   map[int32]*lane

	topology atomic.Pointer[[]LaneTopology]
	doubt    func()
	resume   func(ctx context.Context, topic string, partition int32, next int64) (virgin bool, err error)
	wg       sync.WaitGroup
}

// New returns a sink of a topic, by its name in metrics; cfg is valid.
func New(topic string, cfg Config, source Source, inserter Inserter, parker Parker, metrics *Metrics, log *slog.Logger) *Sink {
	metrics.refusing(topic, false)
	return &Sink{
		topic: topic, cfg: cfg, source: source, inserter: inserter, parker: parker, log: log,
		metrics: metrics,
		slots:   make(chan struct{}, cfg.Parallel),
		doubt:   func() {},
	}
}

// OnDoubt has f called when it is not certain what became of an insert: it did not succeed, or it may have been
// another's, as its partition is new here and somebody may have inserted of it. f is called by any goroutine, before
// Topology shows a record behind the one in doubt, and should not block. It is called before Run.
func (s *Sink) OnDoubt(f func()) { s.doubt = f }

// BeforeResuming has f called before the first record of a partition is inserted, next being its offset and topic the
// topic's id as in tokens. The partition waits, and f is called again, until it returns no error. It says that a
// partition is virgin when nobody has ever inserted of it. It is called before Run.
func (s *Sink) BeforeResuming(f func(ctx context.Context, topic string, partition int32, next int64) (virgin bool, err error)) {
	s.resume = f
}

// Run relays until ctx ends, then lets go: inserts under way may still succeed for some seconds (records of those that do
// not come again), and what was inserted is committed. It returns nil when ctx ended and the source's error otherwise.
func (s *Sink) Run(ctx context.Context) error {
	s.lanes = make(map[int32]*lane)
	running, stop := context.WithCancel(ctx)
	err := s.relay(running)
	stop()
	s.wg.Wait()
	s.commitAtEnd(ctx)
	s.metrics.reset(s.topic)
	s.topology.Store(nil)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// commitAtEnd outlives ctx, which has ended at an orderly shutdown, by a moment.
func (s *Sink) commitAtEnd(ctx context.Context) {
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	s.commit(last)
}

func (s *Sink) relay(ctx context.Context) error {
	committed := time.Now()
	for ctx.Err() == nil {
		fetch, err := s.poll(ctx)
		if err != nil {
			return fmt.Errorf("poll results: %w", err)
		}
		for _, partition := range fetch.Lost {
			s.drop(partition)
		}
		s.distribute(ctx, fetch.Records)
		s.watchLag(fetch.Ends)
		if time.Since(committed) >= s.cfg.CommitInterval {
			s.commit(ctx)
			committed = time.Now()
		}
	}
	return ctx.Err()
}

// poll comes back in time for the next commit.
func (s *Sink) poll(ctx context.Context) (Fetch, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.CommitInterval)
	defer cancel()
	return s.source.Poll(ctx)
}

// distribute queues each record with its partition's lane.
func (s *Sink) distribute(ctx context.Context, records []Record) {
	for start := 0; start < len(records); {
		end := start + 1
		for end < len(records) && records[end].Partition == records[start].Partition {
			end++
		}
		s.lane(ctx, &records[start]).push(records[start:end])
		start = end
	}
}

// lane returns the lane of a partition; a new one begins at first.
func (s *Sink) lane(ctx context.Context, first *Record) *lane {
	partition := first.Partition
	if l := s.lanes[partition]; l != nil {
		return l
	}
	l := newLane(s, first)
	s.lanes[partition] = l
	s.share()
	ctx, l.stop = context.WithCancel(ctx)
	s.wg.Go(func() { l.run(ctx) })
	return l
}

// share gives every lane its part of the buffer.
func (s *Sink) share() {
	for _, l := range s.lanes {
		l.limit.Store(int64(s.cfg.Buffer) / int64(len(s.lanes)))
	}
}

// drop forgets a lost partition. Its goroutine may still be inserting: the same record under the same token
// comes again wherever the partition went, and the offset of a dropped lane is never committed.
func (s *Sink) drop(partition int32) {
	l := s.lanes[partition]
	if l == nil {
		return
	}
	l.stop()
	delete(s.lanes, partition)
	s.share()
	s.metrics.forget(s.topic, partition)
}

// commit stores how far each lane has come since the last time.
func (s *Sink) commit(ctx context.Context) {
	next := make(map[int32]int64, len(s.lanes))
	for partition, l := range s.lanes {
		if done := l.done.Load(); done > l.committed {
			next[partition] = done
		}
	}
	if len(next) == 0 {
		return
	}
	err := s.source.Commit(ctx, next)
	switch {
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		return // the end of Run commits once more
	case err != nil:
		s.log.Warn("offsets of stored results not committed: trying again", "err", err)
		return
	}
	for partition, done := range next {
		s.lanes[partition].committed = done
	}
}

func (s *Sink) watchLag(ends map[int32]int64) {
	for partition, end := range ends {
		if l := s.lanes[partition]; l != nil {
			l.end = end
		}
	}
	for partition, l := range s.lanes {
		s.metrics.setLag(s.topic, partition, l.lag())
	}
	s.publish()
}
