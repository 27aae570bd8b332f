package sink

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vigie-io/vigie/internal/pause"
)

// lane is the queue of one partition and the goroutine that inserts from it, in order.
type lane struct {
	sink      *Sink
	topic     string // its id, as in tokens
	partition int32
	stop      context.CancelFunc
	committed int64         // next offset as committed; the sink's goroutine
	end       int64         // end of the readable log when last fetched; the sink's goroutine
	done      atomic.Int64  // next offset: every record before it is inserted or parked
	resumed   atomic.Bool   // it may insert
	limit     atomic.Int64  // bytes above which the partition is held
	wake      chan struct{} // capacity 1, a signal that is already there is enough

	spent time.Duration // on storing the results of the epoch at hand; the lane's goroutine

	mu    sync.Mutex
	queue []queued
	bytes int64
	held  bool
	since time.Time // when the record at work came; zero when there was none

	progress progress
}

// queued is a record and when it came.
type queued struct {
	record Record
	at     time.Time
}

func newLane(s *Sink, first *Record) *lane {
	l := &lane{sink: s, topic: first.topic(), partition: first.Partition, committed: first.Offset, wake: make(chan struct{}, 1)}
	l.done.Store(first.Offset)
	return l
}

// lag is how many records are readable and not yet stored. The sink's goroutine asks.
func (l *lane) lag() int64 { return max(0, l.end-l.done.Load()) }

func (l *lane) push(records []Record) {
	l.mu.Lock()
	now := time.Now()
	for i := range records {
		l.queue = append(l.queue, queued{records[i], now})
		l.bytes += int64(len(records[i].Value))
		l.sink.metrics.buffered.Add(float64(len(records[i].Value)))
	}
	if l.bytes > l.limit.Load() {
		l.held = true
		// Also when held already: the goroutine of an earlier lane of this partition may just have released it.
		l.sink.source.Hold(l.partition, true)
	}
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// release is called with mu locked, so that the last word to the source is the lane's last state.
func (l *lane) release() {
	if l.held {
		l.held = false
		l.sink.source.Hold(l.partition, false)
	}
}

// pop takes the first record. The partition flows again once half of its share is free.
func (l *lane) pop() (Record, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) == 0 {
		l.queue, l.since = nil, time.Time{}
		return Record{}, false
	}
	record := l.queue[0].record
	l.since = l.queue[0].at
	l.queue[0] = queued{} // its bytes are free before the rest of the queue is
	l.queue = l.queue[1:]
	l.bytes -= int64(len(record.Value))
	l.sink.metrics.buffered.Sub(float64(len(record.Value)))
	if l.bytes <= l.limit.Load()/2 {
		l.release()
	}
	return record, true
}

// waiting is for how long the oldest record has been here. It is called with mu locked.
func (l *lane) waiting() time.Duration {
	switch {
	case !l.since.IsZero():
		return time.Since(l.since)
	case len(l.queue) > 0:
		return time.Since(l.queue[0].at)
	}
	return 0
}

// run ends with ctx: the partition was lost, or the sink ends.
func (l *lane) run(ctx context.Context) {
	defer l.abandon()
	if !l.begin(ctx) {
		return
	}
	l.resumed.Store(true)
	for ctx.Err() == nil {
		record, ok := l.pop()
		if !ok {
			select {
			case <-ctx.Done():
			case <-l.wake:
			}
			continue
		}
		if !l.relay(ctx, &record) {
			return
		}
		l.done.Store(record.Offset + 1)
		if record.Free != nil {
			record.Free()
		}
	}
}

// begin waits until the lane may insert, and tells of the doubt about what others inserted before. It returns false
// when ctx ended.
func (l *lane) begin(ctx context.Context) bool {
	virgin := false
	if resume := l.sink.resume; resume != nil {
		may := l.retry(ctx, "resume", func() (err error) {
			virgin, err = resume(ctx, l.topic, l.partition, l.done.Load())
			return err
		})
		if !may {
			return false
		}
	}
	if !virgin {
		l.sink.doubt()
	}
	return true
}

// abandon gives back what the lane held: a partition that comes again must not come paused.
func (l *lane) abandon() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sink.metrics.buffered.Sub(float64(l.bytes))
	l.queue, l.bytes, l.since = nil, 0, time.Time{}
	l.release()
}

// relay stores one record, however long it takes. It returns false only when ctx ended before.
func (l *lane) relay(ctx context.Context, record *Record) bool {
	if record.Marker {
		l.endEpoch()
		return true
	}
	s := l.sink
	b, err := record.parse()
	if err != nil {
		return l.retry(ctx, "park", func() error { return l.park(ctx, record, record.Token(""), err) })
	}
	if b.rows == 0 {
		return true
	}
	var refusal error
	return l.retry(ctx, "insert", func() error {
		if refusal == nil {
			err := l.insert(ctx, record, &b)
			if !errors.Is(err, ErrRefused) || s.serverAtFault() {
				return err
			}
			refusal = err
		}
		return l.park(ctx, record, b.token, refusal)
	})
}

// serverAtFault counts a refused block. Blocks are made by one program: when all are refused, it is the server
// that is not as it should be, and parking would only move every result out of the way of that repair.
func (s *Sink) serverAtFault() bool {
	if s.refused.Add(1) <= int64(s.cfg.ParkLimit) {
		return false
	}
	s.metrics.refusing(s.topic, true)
	return true
}

// finishWait is how long an insert that is under way when its lane ends may take to succeed. Of an insert that is given
// up nobody knows whether it is stored: it has to be made again by whoever goes on, and ClickHouse drops it by its token,
// if nobody has changed the views behind its table meanwhile, since tokens are remembered by view.
const finishWait = 5 * time.Second

func (l *lane) insert(ctx context.Context, record *Record, b *block) error {
	s, came := l.sink, time.Now()
	select {
	case s.slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-s.slots }()
	start := time.Now()
	later, cancel := pause.Outliving(ctx, finishWait)
	defer cancel()
	err := s.inserter.Insert(later, b.table, b.token, b.rows, record.Value)
	if err != nil {
		s.doubt()
		s.metrics.failure(b.table, errors.Is(err, ErrRefused))
		return err
	}
	s.refused.Store(0)
	s.metrics.refusing(s.topic, false)
	end := time.Now()
	l.spent += end.Sub(came)
	s.metrics.inserted(record, b, start, end)
	l.note(func(p *progress) { p.blocks, p.inserted, p.table = p.blocks+1, end, b.table })
	return nil
}

func (l *lane) park(ctx context.Context, record *Record, token string, cause error) error {
	s := l.sink
	if err := s.parker.Park(ctx, *record, token, cause); err != nil {
		return err
	}
	s.metrics.park(time.Now())
	l.note(func(p *progress) { p.parked++ })
	s.log.Error("result record parked: its rows are missing until it is repaired",
		"topic", record.Topic, "partition", record.Partition, "offset", record.Offset, "token", token, "err", cause)
	return nil
}

// retry calls try until it succeeds. It reports false when ctx ended first.
func (l *lane) retry(ctx context.Context, what string, try func() error) bool {
	s := l.sink
	wait, stalled := s.cfg.RetryMin, false
	defer func() {
		if stalled {
			s.metrics.stalled.Dec()
			l.note(func(p *progress) { p.waits = nil })
		}
	}()
	for {
		err := try()
		if err == nil {
			if stalled {
				s.log.Info("results flow again", "partition", l.partition)
			}
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		l.note(func(p *progress) { p.tried, p.waits = p.tried+1, err })
		if !stalled {
			stalled = true
			s.metrics.stalled.Inc()
		}
		s.log.Warn("results wait: trying again", "what", what, "partition", l.partition, "wait", wait, "err", err)
		if pause.For(ctx, jitter(wait)) != nil {
			return false
		}
		wait = min(2*wait, s.cfg.RetryMax)
	}
}

// jitter spreads the lanes' tries, so that a server that comes back is not met by all at once.
func jitter(d time.Duration) time.Duration {
	return d/2 + rand.N(d/2+1)
}
