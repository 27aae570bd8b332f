package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxRestores are read by one worker at a time. Each holds about a fetch in memory.
	maxRestores = 16
	// Waits of a stopped task before its state is read again: a repair is taken up without a restart.
	minStopped = 5 * time.Second
	maxStopped = 5 * time.Minute
	// restoreLogged is how often a restore that takes long says how far it is.
	restoreLogged = 5 * time.Second
)

// restore is a task that reads its state, or one that has stopped because it cannot. Until it has it, its partition is
// held back, and the worker goes on with the others.
type restore struct {
	task   *Task
	reach  Reach
	began  time.Time
	logged time.Time
	lag    int64 // of the partition, when last polled
	stop   context.CancelFunc

	records, bytes atomic.Int64

	err   error // why it has stopped, nil while it reads
	wait  time.Duration
	retry time.Time
}

// restores are the tasks of a run that do not run yet. The run's goroutine uses it, but for done.
type restores struct {
	session Session
	log     *slog.Logger
	metrics *Metrics
	now     func() time.Time

	waiting map[Partition]*restore
	slots   chan struct{} // one for each that is being read; more wait
	readers sync.WaitGroup

	mu      sync.Mutex
	reading int
	done    []*restore // ended, not yet taken
	ready   []Reach    // of done, not yet released
}

func newRestores(w *Worker, s Session) *restores {
	return &restores{
		session: s, log: w.cfg.Log.With("slot", w.cfg.Slot), metrics: w.cfg.Metrics, now: w.cfg.Now,
		waiting: make(map[Partition]*restore), slots: make(chan struct{}, maxRestores),
	}
}

// close ends all reading and waits for it.
func (rs *restores) close() {
	for p := range rs.waiting {
		rs.drop(p)
	}
	rs.readers.Wait()
}

// drop forgets a task that has been taken away.
func (rs *restores) drop(p Partition) {
	if r := rs.waiting[p]; r != nil {
		r.stop()
		delete(rs.waiting, p)
	}
}

// start reads the state of a new, empty task.
func (rs *restores) start(ctx context.Context, task *Task, reach Reach) *restore {
	rs.drop(reach.Partition)
	ctx, cancel := context.WithCancel(ctx)
	r := &restore{task: task, reach: reach, began: rs.now(), logged: rs.now(), stop: cancel, wait: minStopped}
	rs.waiting[reach.Partition] = r
	rs.mu.Lock()
	rs.reading++
	rs.mu.Unlock()
	rs.readers.Go(func() {
		select {
		case rs.slots <- struct{}{}:
			r.err = r.read(ctx, rs.session)
			<-rs.slots
		case <-ctx.Done():
			r.err = ctx.Err()
		}
		rs.end(r)
	})
	return r
}

// read applies the log. A damaged record does not matter when a later one of the same key, a tombstone perhaps, takes
// its place.
func (r *restore) read(ctx context.Context, s Session) error {
	type damage struct {
		offset int64
		err    error
	}
	damaged := map[string]damage{}
	origin, err := s.Restore(ctx, r.reach.Partition, func(record *Record) error {
		r.records.Add(1)
		r.bytes.Add(int64(len(record.Key) + len(record.Value)))
		if err := r.task.Restore(record.Key, record.Value); err != nil {
			damaged[string(record.Key)] = damage{record.Offset, err}
		} else if len(damaged) > 0 {
			delete(damaged, string(record.Key))
		}
		return nil
	})
	if err != nil {
		return err
	}
	if len(damaged) == 0 {
		return r.place(ctx, s, origin)
	}
	first := damage{offset: -1}
	for _, d := range damaged {
		if first.offset < 0 || d.offset < first.offset {
			first = d
		}
	}
	topic := r.task.cfg.Config.StateTopics[r.task.cfg.Signal]
	return fmt.Errorf("restore %s/%d@%d (%d such keys): %w; "+
		"to give the key up, write a tombstone for it, or to begin without any state, delete the topic",
		topic, r.reach.Partition.Partition, first.offset, len(damaged), first.err)
}

// place lets the task begin at origin, or moves the group's offset to where it has to begin.
func (r *restore) place(ctx context.Context, s Session, origin Origin) error {
	move, err := r.task.Begin(origin)
	if err != nil || move == nil {
		return err
	}
	return s.Seek(ctx, r.reach.Partition, *move)
}

// end hands a task over. Its partition is released when no other is being read, so that all of a start are released at
// once, or else by the next take.
func (rs *restores) end(r *restore) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	rs.reading--
	rs.done = append(rs.done, r)
	if r.err == nil {
		rs.ready = append(rs.ready, r.reach)
	}
	// In done before it is released: whoever polls its first record finds the task.
	if rs.reading == 0 {
		rs.release()
	}
}

func (rs *restores) release() {
	if len(rs.ready) > 0 {
		rs.session.Release(rs.ready...)
		rs.ready = rs.ready[:0]
	}
}

// take calls ready for each task that has its state, and notes those that have stopped.
func (rs *restores) take(ready func(*Task)) {
	var all restored
	for _, r := range rs.ended() {
		switch {
		case rs.waiting[r.reach.Partition] != r || errors.Is(r.err, context.Canceled) || errors.Is(r.err, ErrMoved):
			// dropped, or to begin in the next session
		case r.err != nil:
			rs.stopped(r)
		default:
			delete(rs.waiting, r.reach.Partition)
			all.add(rs.finished(r))
			ready(r.task)
		}
	}
	if all.records > 0 { // a new installation has nothing to say
		rs.log.Info("state restored", "partitions", all.partitions, "records", all.records, "bytes", all.bytes,
			"keys", all.keys, "took", all.took)
	}
}

// ended are the tasks that have ended since it was last called, all released.
func (rs *restores) ended() []*restore {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	rs.release()
	done := rs.done
	rs.done = nil
	return done
}

// stopped notes that a task cannot read its state, and when to try again.
func (rs *restores) stopped(r *restore) {
	p := r.reach.Partition
	r.retry = rs.now().Add(r.wait)
	rs.metrics.restored("stopped", r, rs.now().Sub(r.began))
	rs.log.Error("task has stopped: its state cannot be restored; its partition waits, others go on", "topic", p.Topic,
		"partition", p.Partition, "again", r.wait, "err", r.err)
}

// finished notes that a task has its state.
func (rs *restores) finished(r *restore) restored {
	p, one := r.reach.Partition, restored{1, r.task.stateKeys(), r.records.Load(), r.bytes.Load(), rs.now().Sub(r.began)}
	rs.metrics.restored("restored", r, one.took)
	if r.task.reading.replaced {
		rs.metrics.replaced.WithLabelValues(string(r.reach.Signal)).Inc()
		rs.log.Error("the source topic has been deleted and created again: "+
			"its task begins at the start of the new one; what was unread of the one before is lost",
			"topic", p.Topic, "partition", p.Partition, "offset", r.task.reading.next)
	}
	rs.log.Debug("state of a partition restored", "topic", p.Topic, "partition", p.Partition, "records", one.records,
		"bytes", one.bytes, "keys", one.keys, "took", one.took)
	return one
}

// restored is what was read.
type restored struct {
	partitions, keys int
	records, bytes   int64
	took             time.Duration // of the longest
}

func (a *restored) add(b restored) {
	a.partitions, a.keys = a.partitions+b.partitions, a.keys+b.keys
	a.records, a.bytes, a.took = a.records+b.records, a.bytes+b.bytes, max(a.took, b.took)
}

// tend starts stopped tasks again when it is time, from a task that renew makes, and says how far long restores are.
func (rs *restores) tend(ctx context.Context, renew func(Reach) *Task) {
	now := rs.now()
	for p, r := range rs.waiting {
		switch {
		case !r.retry.IsZero() && !now.Before(r.retry):
			again := rs.start(ctx, renew(r.reach), r.reach)
			again.wait = min(2*r.wait, maxStopped)
		case r.retry.IsZero() && now.Sub(r.logged) >= restoreLogged:
			r.logged = now
			rs.log.Info("restoring state", "topic", p.Topic, "partition", p.Partition,
				"records", r.records.Load(), "bytes", r.bytes.Load(), "for", now.Sub(r.began))
		}
	}
}

// topology describes a task that does not run.
func (r *restore) topology() TaskTopology {
	t := TaskTopology{
		Topic: r.reach.Partition.Topic, Partition: r.reach.Partition.Partition, Signal: string(r.reach.Signal),
		State: TaskRestoring, Restored: r.records.Load(), Lag: r.lag, Lagging: []TenantTopology{}, Top: []TenantTopology{},
	}
	if !r.retry.IsZero() {
		t.State, t.Error = TaskStopped, r.err.Error()
	}
	return t
}
