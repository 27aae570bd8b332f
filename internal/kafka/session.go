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

// Session is the transactional consumer and producer of one worker slot. One goroutine uses it; Restore and Release may
// run beside it.
//
// After an error from Poll or Commit only Close may follow: a producer that failed cannot be used again (Apache Kafka
// answers INVALID_RECORD to the next transaction), so the worker makes a new session.
type Session struct {
	cfg   Config
	group *kgo.GroupTransactSession
	// restorer reads state. A connection is served one request after the other, so fetches that wait for events must
	// not stand before those for state.
	restorer *kgo.Client
	lookups  *lookups // through restorer
	log      *slog.Logger
	metrics  *Metrics
	signals  map[string]events.Signal // by topic
	states   map[string]string        // state topic by source topic
	result   int32

	assignment *assignment
	revoked    atomic.Uint64 // times that partitions were taken away
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
	unsettled  *settling
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
				s.noteRevoked()
			}
		}),
		kgo.OnPartitionsLost(func(context.Context, *kgo.Client, map[string][]int32) {
			s.assignment.lose()
			s.noteRevoked()
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
	s.lookups = newLookups(ctx, s.restorer, s.cfg.Group)
	s.unsettled = &settling{hangings: &hangings{client: s.group.Client(), cfg: &s.cfg, metrics: s.metrics, log: s.log,
		topics: s.cfg.Topics.transactional(), group: s.cfg.Group}}
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
	s.unsettled.endOwn(ctx)
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
	written, err := partitionsOf(ctx, client, s.cfg.Topics.DLQ.Name, s.cfg.Topics.Alerts.Name)
	if err != nil {
		return err
	}
	s.unsettled.unknown(ctx, append(written, pipeline.Partition{Topic: s.cfg.Topics.Results.Name, Partition: s.result}))

	client.AddConsumeTopics(s.cfg.Topics.Metrics.Name, s.cfg.Topics.Spans.Name, s.cfg.Topics.Logs.Name)
	observing, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	s.observer.Go(func() { every(observing, s.cfg.ReachInterval, s.look) })
	s.observer.Go(func() { every(observing, hangingInterval, s.unsettled.hangings.look) })
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

// Commit implements pipeline.Session. Messages of a partition keep their order. ctx should end only to give up
// the session.
func (s *Session) Commit(ctx context.Context, messages []pipeline.Message) (bool, error) {
	revoked := s.revoked.Load()
	if !s.pending && len(messages) == 0 && revoked == s.settled {
		return true, nil
	}
	start := time.Now()
	committed, err := s.commit(ctx, messages, revoked > s.settled)
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
	s.settled = revoked
	if s.over.Load() {
		return false, ErrRevoked
	}
	if !committed {
		s.settled = s.revoked.Load()
		s.assignment.settle()
		s.reach.rewind()
		clear(s.places)
	}
	return committed, nil
}

func (s *Session) commit(ctx context.Context, messages []pipeline.Message, rebalanced bool) (bool, error) {
	if err := s.unsettled.wait(ctx); err != nil {
		return false, err
	}
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
	if err := t.flush(ctx); err != nil {
		return err
	}
	s.unsettled.wrote(records)
	return nil
}
