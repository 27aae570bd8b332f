package kafka

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/pkg/events"
)

var _ pipeline.Session = (*Session)(nil)

// Session is the transactional consumer and producer of one worker slot. One goroutine uses it; Restore and Release
// may run beside it.
// After an error from Poll or Commit only Close may follow: a producer that failed cannot be used again
// (Apache Kafka answers INVALID_RECORD to the next transaction), so the worker makes a new session.
type Session struct {
	cfg   Config
	group *kgo.GroupTransactSession
	// restorer reads state. A connection is served one request after the other, so fetches that wait for events must
	// not stand before those for state.
	restorer *kgo.Client
	asked    *asked // through restorer
	log      *slog.Logger
	metrics  *Metrics
	signals  map[string]events.Signal // by topic
	states   map[string]string        // state topic by source topic
	result   int32

	assignment *assignment
	losses     atomic.Uint64 // times that partitions were taken away
	settled    uint64        // of them, those that came before the last commit began, or that an abort has answered
	over       atomic.Bool   // they were, and the protocol does not tell which
	pending    bool          // something was polled since the last Commit
	reach      *reach
	appetite   appetite
	read       readPartitions
	places     places
	rewound    map[pipeline.Partition]int64 // whose log lost its end: where the client goes on, until the next records
	refused    refusals
	moves      moves
	marks      marks
	stop       context.CancelFunc
	observer   sync.WaitGroup
	end        context.CancelFunc // of all that the group's client does

	polled polled           // by the last Poll, released by the next
	chunks []pipeline.Chunk // reused by Poll
}

// NewSession fences the slot's predecessor, which aborts its open transaction, and joins the group. It returns an
// error when Kafka cannot be reached before ctx ends, or the results topic does not exist. metrics may be nil.
func NewSession(ctx context.Context, cfg Config, slot int, metrics *Metrics, log *slog.Logger) (*Session, error) {
	instance, err := cfg.instance()
	if err != nil {
		return nil, err
	}
	log = log.With("slot", slot)
	s := &Session{
		cfg: cfg, appetite: newAppetite(int64(cfg.FetchBuffer)), log: log, metrics: metrics, assignment: newAssignment(),
		reach: newReach(), read: readPartitions{}, places: places{}, rewound: map[pipeline.Partition]int64{}, refused: refusals{},
		signals: map[string]events.Signal{
			cfg.Topics.Metrics.Name: events.Metrics,
			cfg.Topics.Spans.Name:   events.Spans,
			cfg.Topics.Logs.Name:    events.Logs,
		},
		states: map[string]string{
			cfg.Topics.Metrics.Name: cfg.Topics.StateMetrics.Name,
			cfg.Topics.Spans.Name:   cfg.Topics.StateSpans.Name,
			cfg.Topics.Logs.Name:    cfg.Topics.StateLogs.Name,
		},
	}
	options, err := s.options(instance, slot)
	if err != nil {
		return nil, err
	}
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	s.end = end
	if s.group, err = kgo.NewGroupTransactSession(append(options, kgo.WithContext(life))...); err != nil {
		end()
		return nil, fmt.Errorf("kafka client: %w", err)
	}
	client := s.group.Client()
	s.assignment.hold = func(topics map[string][]int32) { client.PauseFetchPartitions(topics) }
	s.assignment.resume = client.ResumeFetchPartitions
	if err := s.open(ctx, instance, slot); err != nil {
		s.leave()
		return nil, metrics.end(err)
	}
	return s, nil
}

func (s *Session) options(instance string, slot int) ([]kgo.Opt, error) {
	options, err := s.cfg.options("stream", s.log)
	if err != nil {
		return nil, err
	}
	options = append(options, s.protocol()...)
	fetch, partition := s.appetite.limits()
	// Two fetches of a broker are under way: one is processed while the next is made.
	if s.polled.bundles, err = newBundler(4*int64(s.cfg.FetchBuffer), int(s.cfg.MaxUnpacked)); err != nil {
		return nil, err
	}
	options = append(options, s.polled.bundles.options()...)
	// No topics yet: the client joins the group only when it has some.
	return append(options,
		kgo.TransactionalID(fmt.Sprintf("%s-%s-%d", s.cfg.TransactionalIDPrefix, instance, slot)),
		kgo.TransactionTimeout(s.cfg.TransactionTimeout),
		kgo.ConsumerGroup(s.cfg.Group),
		kgo.InstanceID(memberID(instance, slot)),
		kgo.SessionTimeout(s.cfg.SessionTimeout),
		kgo.HeartbeatInterval(s.cfg.heartbeat()),
		kgo.OnPartitionsRevoked(func(_ context.Context, _ *kgo.Client, revoked map[string][]int32) {
			if len(revoked) > 0 {
				s.revoked()
			}
		}),
		kgo.OnPartitionsLost(func(context.Context, *kgo.Client, map[string][]int32) {
			s.assignment.lose()
			s.revoked()
		}),
		// Markers of transactions are returned, so that a partition whose log ends with one has an end that can be
		// reached.
		kgo.KeepControlRecords(),
		kgo.FetchMaxBytes(fetch),
		kgo.FetchMaxPartitionBytes(partition),
		// A partition whose state has been read is not fetched from before the fetch under way of others ends.
		kgo.FetchMaxWait(250*time.Millisecond),
		kgo.RecordPartitioner(newPartitioner()),
		s.cfg.Topics.batchLimit(),
	), nil
}

// open connects what reads state, and starts.
func (s *Session) open(ctx context.Context, instance string, slot int) error {
	options, err := s.cfg.options("restore", s.log)
	if err != nil {
		return err
	}
	if s.restorer, err = kgo.NewClient(options...); err != nil {
		return fmt.Errorf("kafka client: %w", err)
	}
	s.asked = newAsked(ctx, s.restorer, s.cfg.Group)
	if err := s.start(ctx, instance, slot); err != nil {
		s.restorer.Close()
		return err
	}
	return nil
}

// start initialises the producer id before joining: offsets can be read only when the predecessor's transaction
// has ended, which otherwise takes until it times out.
func (s *Session) start(ctx context.Context, instance string, slot int) error {
	client := s.group.Client()
	if _, _, err := client.ProducerID(ctx); err != nil {
		return fmt.Errorf("initialise the transactional id of slot %d: %w", slot, explain(err))
	}
	if err := s.takeOver(ctx, instance, slot); err != nil {
		return err
	}
	partitions, err := partitionCount(ctx, client, s.cfg.Topics.Results.Name)
	if err != nil {
		return err
	}
	// Slots of one process follow each other; processes start at different places.
	h := fnv.New32a()
	h.Write([]byte(instance))
	s.result = int32((uint64(h.Sum32()) + uint64(slot)) % uint64(partitions))

	client.AddConsumeTopics(s.cfg.Topics.Metrics.Name, s.cfg.Topics.Spans.Name, s.cfg.Topics.Logs.Name)
	observing, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	s.observer.Go(func() { s.observe(observing) })
	return nil
}

// Close ends the session at once; an open transaction is left to the successor, which aborts it. The group keeps
// the slot's partitions for it until the session timeout.
func (s *Session) Close() {
	s.stop()
	s.observer.Wait()
	s.restorer.Close()
	s.leave()
}

// leaveTimeout bounds how long a closing session waits for the answer to its join. The group answers when all members
// have joined: others that have closed as well are waited for until their session timeout.
const leaveTimeout = time.Second

func (s *Session) leave() {
	patience := time.AfterFunc(leaveTimeout, s.end)
	s.group.Close()
	patience.Stop()
	s.end()
}

// ResultPartition is the results partition of this slot.
func (s *Session) ResultPartition() int32 { return s.result }

// Poll implements pipeline.Session. Its errors may wrap ErrFenced or ErrTopicRecreated.
func (s *Session) Poll(ctx context.Context) (pipeline.Fetch, error) {
	clear(s.chunks)
	s.chunks = s.chunks[:0]
	s.polled.release()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.assignment.wakes(cancel)
	fetches := s.group.PollFetches(ctx)
	s.polled.fetches = fetches
	refused := takeRefused(fetches)
	if fetches.IsClientClosed() {
		return pipeline.Fetch{}, fmt.Errorf("poll events: %w", kgo.ErrClientClosed)
	}
	if err := errors.Join(s.moves.over(), s.read.lost(fetches), fetchErrors(fetches, s.log)); err != nil {
		return pipeline.Fetch{}, s.metrics.end(fmt.Errorf("poll events: %w", err))
	}
	s.read.rewound(fetches, s.rewound)
	var lost error
	unpacked, largest := int64(0), int64(0)
	take := func(p kgo.FetchTopicPartition) {
		if len(p.Records) == 0 {
			return
		}
		s.pending = true
		partition := pipeline.Partition{Topic: p.Topic, Partition: p.Partition}
		s.read[partition] = true
		if !s.assignment.released(partition) {
			// It is just being taken away. Its records come again to whoever has it then, if this epoch aborts.
			s.losses.Add(1)
			return
		}
		place := s.place(partition)
		from := max(place, p.LogStartOffset)
		records, bytes := s.polled.unread(p.Records, from)
		unpacked += bytes
		first, next := p.Records[0].Offset, p.Records[len(p.Records)-1].Offset+1
		if records.Len > 0 {
			first = min(first, records.First)
		}
		if place >= 0 {
			lost = errors.Join(lost, s.checkGap(ctx, partition, from, first))
		}
		s.places[partition] = next
		s.reach.polled(partition, next, p.LastStableOffset)
		if records.Len > 0 {
			_, rewound := s.rewound[partition]
			s.chunks = append(s.chunks, pipeline.Chunk{
				Partition: partition, Signal: s.signals[p.Topic], Unread: records, LogStart: p.LogStartOffset, Rewound: rewound,
			})
			delete(s.rewound, partition)
		}
	}
	for i := range fetches {
		unpacked = 0
		fetches[i : i+1].EachPartition(take)
		largest = max(largest, unpacked)
	}
	s.eat(largest)
	for _, at := range refused {
		lost = errors.Join(lost, s.refuse(ctx, at))
	}
	if lost != nil {
		return pipeline.Fetch{}, fmt.Errorf("poll events: %w", lost)
	}
	return pipeline.Fetch{Chunks: s.chunks, Assigned: s.assigned()}, nil
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

// Commit implements pipeline.Session. Messages of a partition keep their order. ctx should end only to give up
// the session.
func (s *Session) Commit(ctx context.Context, messages []pipeline.Message) (bool, error) {
	losses := s.losses.Load()
	if !s.pending && len(messages) == 0 && losses == s.settled {
		return true, nil
	}
	start := time.Now()
	committed, err := s.commit(ctx, messages, losses > s.settled)
	s.metrics.transaction(committed, err, time.Since(start))
	if err != nil {
		return false, s.metrics.end(fmt.Errorf("commit epoch: %w", explain(err)))
	}
	s.pending = false
	if !s.refused.settle(s.group.Client(), committed) {
		s.moves.moved.Store(true)
	}
	// What was taken away while the transaction ended is the next commit's: the client forgets it when it is called
	// back just then.
	s.settled = losses
	if s.over.Load() {
		return false, ErrRevoked
	}
	if !committed {
		s.settled = s.losses.Load()
		s.assignment.settle()
		s.reach.rewind()
		clear(s.places)
	}
	return committed, nil
}

func (s *Session) commit(ctx context.Context, messages []pipeline.Message, rebalanced bool) (bool, error) {
	if err := s.group.Begin(); err != nil {
		return false, err
	}
	// The client's session aborts by itself once it has been called back about a partition. Before that, but after the
	// balancer knows, Poll may have left records out whose offsets End would commit.
	if rebalanced {
		return s.group.End(ctx, kgo.TryAbort)
	}
	if err := s.produce(ctx, messages); err != nil {
		_, abort := s.group.End(ctx, kgo.TryAbort)
		return false, errors.Join(err, abort)
	}
	return s.group.End(s.withOffsets(ctx), kgo.TryCommit)
}

func (s *Session) produce(ctx context.Context, messages []pipeline.Message) error {
	t, err := newTransaction(ctx, s.group.Client())
	if err != nil {
		return err
	}
	headers := 0
	for i := range messages {
		headers += len(messages[i].Headers)
	}
	// One piece of memory for all, not two for each: the epoch of a flood of bad events has tens of thousands.
	records, all := make([]kgo.Record, len(messages)), make([]kgo.RecordHeader, 0, headers)
	for i := range messages {
		m, from := &messages[i], len(all)
		for _, h := range m.Headers {
			all = append(all, kgo.RecordHeader{Key: h.Key, Value: h.Value})
		}
		records[i] = kgo.Record{Topic: m.Topic, Partition: m.Partition, Key: m.Key, Value: m.Value,
			Headers: all[from:len(all):len(all)]}
		t.produce(ctx, &records[i])
	}
	return t.flush(ctx)
}
