package pipeline

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/vigie-io/vigie/internal/pause"
)

// minPoll is what a poll may wait at least, so that an epoch that is overdue still takes what is there.
const minPoll = time.Millisecond

// run is one session of a worker, from Open to Close.
type run struct {
	w       *Worker
	cfg     *Config
	session Session
	watch   stopwatch

	tasks    map[Partition]*Task // those that run
	order    []*Task             // of tasks, sorted: what an epoch holds does not depend on the order of a map
	leaving  []Partition         // taken away, with tasks that stay until the epoch ends
	restores *restores
	fences   *fences

	pace      pace
	epoch     underway
	published time.Time // when progress was last published
	committed uint64    // epochs
	aborted   uint64    // epochs
	last      pastEpoch

	outputs  *Outputs
	tallies  []Tally // beside order
	progress ProgressRows
	outbox   outbox
}

// pastEpoch is the last one that was committed, for topology. All but at is of the last with records.
type pastEpoch struct {
	at     time.Time // of the commit
	length time.Duration
	cost   time.Duration // to drain, encode and commit it
	rows   int
}

func newRun(w *Worker, s Session) *run {
	cfg := &w.cfg.Config
	r := &run{
		w: w, cfg: cfg, session: s, watch: stopwatch{now: w.cfg.Now},
		tasks: make(map[Partition]*Task), restores: newRestores(w, s), fences: newFences(w, s),
		pace: newPace(cfg.Epoch), published: w.cfg.Now(), outputs: NewOutputs(cfg),
		outbox: outbox{cfg: cfg, encoder: w.cfg.Encoder, partition: s.ResultPartition()},
	}
	r.outputs.full = func(b *Rollups) {
		r.watch.lap(stageDrain)
		r.outbox.addRollups(b)
		r.watch.lap(stageEncode)
	}
	r.outputs.fullSeries = func(b *SeriesRows) {
		r.watch.lap(stageDrain)
		r.outbox.addSeries(b)
		r.watch.lap(stageEncode)
	}
	return r
}

// loop returns nil when ctx has ended and the epoch under way is committed.
func (r *run) loop(ctx context.Context) error {
	ending, end := pause.Outliving(ctx, r.cfg.CloseTimeout) // a commit that has begun by then is not given up
	defer end()
	ctx, stop := context.WithCancel(ctx)
	defer r.fences.waits.Wait()
	defer stop()
	defer r.restores.close()
	for ctx.Err() == nil {
		if err := r.poll(ctx); err != nil {
			return err // only Close may follow
		}
		if r.epoch.ending = r.due(); r.epoch.ending != "" {
			if err := r.commit(ending); err != nil {
				return err
			}
		}
	}
	if r.epoch.began.IsZero() {
		return nil
	}
	r.epoch.ending = endStop
	return r.commit(ending)
}

// poll waits for records until the epoch is due, and steps the tasks with what came.
func (r *run) poll(ctx context.Context) error {
	fetch, now, err := r.fetch(ctx)
	if err != nil {
		return err
	}
	r.restores.take(r.begin)
	r.assign(ctx, &fetch)
	first := len(fetch.Chunks) > 0 && r.epoch.began.IsZero()
	if first {
		r.epoch.begin(now)
	}
	if err := r.step(fetch.Chunks, now); err != nil {
		return err
	}
	r.setReach(fetch.Assigned)
	if first {
		for _, t := range r.order {
			t.there = t.reach.Next + t.reach.Lag
		}
	}
	r.judge(len(fetch.Chunks) > 0, now)
	return nil
}

// fetch waits for records, and says when they came.
func (r *run) fetch(ctx context.Context) (fetch Fetch, now time.Time, err error) {
	start := r.w.cfg.Now()
	ctx, cancel := context.WithTimeout(ctx, max(r.patience(start), minPoll))
	fetch, err = r.session.Poll(ctx)
	cancel()
	now = r.w.cfg.Now()
	r.watch.waited(stagePoll, now.Sub(start))
	r.epoch.waited += now.Sub(start)
	return fetch, now, err
}

// step gives records to their tasks.
func (r *run) step(chunks []Chunk, now time.Time) error {
	r.watch.start()
	defer r.watch.stop()
	for i := range chunks {
		c := &chunks[i]
		t := r.tasks[c.Partition]
		if t == nil {
			return fmt.Errorf("BUG: records of %s/%d came before its state was restored",
				c.Partition.Topic, c.Partition.Partition)
		}
		if err := t.follows(c); err != nil {
			return err
		}
		t.Step(c, now.UnixMilli())
		r.epoch.cut = r.epoch.cut || c.ends()
	}
	return nil
}

// setReach tells the tasks, and those that are still to run, how far their partitions have been polled.
func (r *run) setReach(assigned []Reach) {
	for _, reach := range assigned {
		if t := r.tasks[reach.Partition]; t != nil {
			t.SetReach(reach)
		} else {
			r.restores.waiting[reach.Partition].lag = reach.Lag
		}
	}
}

// commit ends the epoch: everything drained, encoded and committed, or everything forgotten. After an error only the
// session's end may follow.
func (r *run) commit(ctx context.Context) error {
	if err := r.tryCommit(ctx); err != nil {
		r.w.cfg.Metrics.epochs.WithLabelValues("failed").Inc()
		return err
	}
	return nil
}

func (r *run) tryCommit(ctx context.Context) error {
	start := r.w.cfg.Now()
	withProgress := !start.Before(r.published.Add(r.cfg.ProgressEvery))
	r.drain(start, withProgress)
	if err := r.encode(); err != nil {
		return err
	}
	before := r.w.cfg.Now()
	committed, err := r.session.Commit(ctx, r.outbox.messages)
	end := r.w.cfg.Now()
	r.watch.waited(stageCommit, end.Sub(before))
	if err != nil {
		return err
	}
	if committed {
		r.settle(start, end, withProgress)
	} else {
		r.rollback()
	}
	r.watch.flush(r.w.cfg.Metrics)
	r.leave()
	r.epoch.over()
	if withProgress {
		r.published = start
	}
	r.publish(end)
	return nil
}

// drain empties all tasks into the outputs.
func (r *run) drain(now time.Time, withProgress bool) {
	r.watch.start()
	defer r.watch.stop()
	r.outputs.Reset()
	r.progress.reset()
	r.outbox.reset(r.epoch.rollups())
	for i, t := range r.order {
		r.outputs.Tally = Tally{}
		t.Drain(r.outputs, now.UnixMilli())
		r.tallies[i] = r.outputs.Tally
		if t.held = r.fences.holds(t); withProgress && !t.held {
			t.AppendProgress(&r.progress, now.UnixMilli())
		}
	}
	r.watch.lap(stageDrain)
}

// encode makes the messages of the epoch.
func (r *run) encode() error {
	r.watch.start()
	defer r.watch.stop()
	defer r.watch.lap(stageEncode)
	newest := int64(0)
	for i := range r.tallies {
		newest = max(newest, r.tallies[i].Newest)
	}
	return r.outbox.fill(r.outputs, &r.progress, newest)
}

// settle follows a commit that held. The epoch's end took from start to end.
func (r *run) settle(start, end time.Time, withProgress bool) {
	m := r.w.cfg.Metrics
	records := uint64(0)
	for i, t := range r.order {
		records += r.tallies[i].Records
		m.count(t.cfg.Signal, &r.tallies[i])
		t.note(&r.tallies[i])
		r.mourn(t, &r.tallies[i])
		t.Committed(withProgress && !t.held)
	}
	r.committed++
	m.epochs.WithLabelValues("committed").Inc()
	rows := r.outbox.count(m, r.outputs, &r.progress)
	r.last.at = end
	if records == 0 {
		return // it only published progress: that says nothing about the load
	}
	r.last.length, r.last.cost, r.last.rows = end.Sub(r.epoch.began), end.Sub(start), rows
	r.pace.ended(r.last.cost, r.epoch.busy(start), rows)
	if r.epoch.longer {
		m.longer.Inc()
	}
	m.endings.WithLabelValues(string(r.epoch.ending)).Inc()
	m.epochSeconds.Observe(r.last.length.Seconds())
	m.epochRows.Observe(float64(rows))
	r.w.cfg.Log.Debug("epoch committed", "slot", r.w.cfg.Slot, "length", r.last.length, "cost", r.last.cost,
		"records", records, "rows", rows, "ended", r.epoch.ending)
}

// mourn reports offsets that were never read.
func (r *run) mourn(t *Task, tally *Tally) {
	if tally.Skipped+tally.Deleted > 0 {
		r.w.cfg.Log.Error("records were not read: the broker deleted them first, or the group's offset was set beyond them",
			"topic", t.cfg.Partition.Topic, "partition", t.cfg.Partition.Partition,
			"deleted", tally.Deleted, "skipped", tally.Skipped)
	}
}

// rollback follows a commit that was aborted.
func (r *run) rollback() {
	r.aborted++
	r.pace.aborted()
	r.w.cfg.Metrics.epochs.WithLabelValues("aborted").Inc()
	r.w.cfg.Log.Debug("epoch aborted, for its partitions were being given out anew: its records will be processed again",
		"slot", r.w.cfg.Slot)
	for _, t := range r.order {
		t.Forget()
	}
	r.outbox.letGo()
}

// publish shows the worker as it is now, at most once in progress_every unless partitions came or went.
func (r *run) publish(now time.Time) {
	old, restoring := r.w.topology.Load(), len(r.restores.waiting)
	same := old.restoring == restoring && len(old.Tasks) == len(r.order)+restoring
	if same && old.Committed.Add(r.cfg.ProgressEvery).After(now) {
		return
	}
	t := Topology{
		Slot: r.w.cfg.Slot, State: "running", Since: old.Since, Failures: old.Failures, Epoch: r.committed, Aborted: r.aborted,
		EpochTarget: r.pace.length, EpochLength: r.last.length, EpochRows: r.last.rows, EpochCost: r.last.cost,
		Committed: r.last.at, Tasks: make([]TaskTopology, len(r.order)), restoring: restoring,
	}
	for i, task := range r.order {
		t.Tasks[i] = task.topology(now.UnixMilli())
	}
	for _, w := range r.restores.waiting {
		t.Tasks = append(t.Tasks, w.topology())
	}
	slices.SortFunc(t.Tasks, compareTasks)
	r.w.topology.Store(&t)
}
