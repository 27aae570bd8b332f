package pipeline

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"
)

// maxLetterBytes of dead letters end an epoch early.
const maxLetterBytes = 16 << 20

// minPoll is what a poll may wait at least, so that an epoch that is overdue still takes what is there.
const minPoll = time.Millisecond

// run is one session of a worker, from Open to Close.
type run struct {
	w       *Worker
	cfg     *Config
	session Session
	watch   stopwatch
	pace    pace

	tasks     map[Partition]*Task // those that run
	restores  *restores
	fences    *fences
	order     []*Task // of tasks, sorted: what an epoch holds does not depend on the order of a map
	leaving   []Partition
	committed uint64
	began     time.Time     // first records of the epoch; zero while there are none
	waited    time.Duration // for records since then
	late      bool          // results of the epoch are late, whatever its length
	longer    bool          // it goes on for that
	caughtUp  time.Time     // when the first of its partitions was read to where its log ended when the epoch began
	cut       bool          // it is to end: a partition gives nothing more until then
	starved   bool          // the last poll brought nothing
	pressed   time.Duration // what the epoch may last, as results wait
	stretched bool          // it goes on for that
	ending    ending        // of the epoch
	published time.Time     // when progress was last published
	aborted   uint64
	length    time.Duration // of the last epoch with records, as are costs and rows
	costs     time.Duration
	rows      int
	last      time.Time

	outputs  *Outputs
	tallies  []Tally // beside order
	progress ProgressRows
	messages []Message
	series   []encodedBlock // of the epoch
	rollups  []encodedBlock // the same
	failed   error          // why one could not be encoded
	buffers  [][]byte       // of encoded blocks, used again
	used     int            // of buffers
}

// encodedBlock is a block of series or rollups as it is sent.
type encodedBlock struct {
	value []byte
	rows  int
	count uint64 // of rollups
}

func newRun(w *Worker, s Session) *run {
	r := &run{
		w: w, cfg: &w.cfg.Config, session: s, watch: stopwatch{now: w.cfg.Now}, pace: newPace(w.cfg.Config.Epoch),
		tasks: make(map[Partition]*Task), restores: newRestores(w, s), fences: newFences(w, s), published: w.cfg.Now(), outputs: NewOutputs(&w.cfg.Config),
	}
	r.outputs.full = func(b *Rollups) {
		r.watch.lap(stageDrain)
		r.encodeRollups(b)
		r.watch.lap(stageEncode)
	}
	r.outputs.fullSeries = func(b *SeriesRows) {
		r.watch.lap(stageDrain)
		r.encodeSeries(b)
		r.watch.lap(stageEncode)
	}
	return r
}

// loop returns nil when ctx has ended and the epoch under way is committed.
func (r *run) loop(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer r.fences.waits.Wait()
	defer stop()
	defer r.restores.close()
	for ctx.Err() == nil {
		if err := r.poll(ctx); err != nil {
			return err // only Close may follow
		}
		if r.ending = r.due(); r.ending != "" {
			if err := r.commit(ctx); err != nil {
				r.w.cfg.Metrics.epochs.WithLabelValues("failed").Inc()
				return err
			}
		}
	}
	return r.finish(ctx)
}

// finish commits what has been polled, after ctx has ended.
func (r *run) finish(ctx context.Context) error {
	if r.began.IsZero() {
		return nil
	}
	r.ending = endStop
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.cfg.CloseTimeout)
	defer cancel()
	if err := r.commit(ctx); err != nil {
		r.w.cfg.Metrics.epochs.WithLabelValues("failed").Inc()
		return err
	}
	return nil
}

// poll waits for records until the epoch is due, and steps the tasks with what came.
func (r *run) poll(ctx context.Context) error {
	start := r.w.cfg.Now()
	until, cancel := context.WithTimeout(ctx, max(r.patience(start), minPoll))
	fetch, err := r.session.Poll(until)
	cancel()
	now := r.w.cfg.Now()
	r.watch.waited(stagePoll, now.Sub(start))
	r.waited += now.Sub(start)
	if err != nil {
		return err
	}
	r.restores.take(r.begin)
	r.assign(ctx, &fetch)
	first := len(fetch.Chunks) > 0 && r.began.IsZero()
	if first {
		r.began, r.waited, r.longer, r.stretched, r.caughtUp = now, 0, false, false, time.Time{}
	}
	r.watch.start()
	for i := range fetch.Chunks {
		c := &fetch.Chunks[i]
		t := r.tasks[c.Partition]
		if t == nil {
			return fmt.Errorf("BUG: records of %s/%d came before its state was restored", c.Partition.Topic, c.Partition.Partition)
		}
		if err := t.follows(c); err != nil {
			return err
		}
		t.Step(c, now.UnixMilli())
		r.cut = r.cut || c.ends()
	}
	r.watch.stop()
	for _, reach := range fetch.Assigned {
		if t := r.tasks[reach.Partition]; t != nil {
			t.SetReach(reach)
		} else {
			r.restores.waiting[reach.Partition].lag = reach.Lag
		}
	}
	if first {
		for _, t := range r.order {
			t.there = t.reach.Next + t.reach.Lag
		}
	}
	r.starved = len(fetch.Chunks) == 0
	r.late = !r.starved && r.behind(now)
	r.pressed = r.pace.pressed(r.w.cfg.Waiting())
	return nil
}

// behind says whether results of the epoch are late anyway: all its records were in the log before it began, and more
// follow in each of their partitions, or have done so for half of its time. Who waits for results of such an epoch has
// waited, or waited for its record to be read, for half as long as it lasts at least.
func (r *run) behind(now time.Time) bool {
	for _, t := range r.order {
		switch {
		case t.tally.Records == 0 || t.reach.Next < t.there:
		case t.reach.Next > t.there:
			return false
		case r.caughtUp.IsZero():
			r.caughtUp = now
		}
	}
	return r.caughtUp.IsZero() || now.Sub(r.began) < 2*r.caughtUp.Sub(r.began)
}

// assign makes tasks for new partitions, which have to restore their state first, and drops those of partitions that
// were taken away. Only a task that the epoch has records of stays until that ends: Commit commits the offsets of
// everything polled, and results must be beside them. Any other must not be drained once more: what it says without
// records, such as up to where its partition has been read, would come behind what the new owner has written meanwhile.
func (r *run) assign(ctx context.Context, fetch *Fetch) {
	owned := make(map[Partition]bool, len(fetch.Assigned))
	var fresh []Reach
	for _, reach := range fetch.Assigned {
		owned[reach.Partition] = true
		if !r.has(reach) {
			r.drop(reach.Partition) // it was away and came back: others may have changed its state
			r.restores.start(ctx, r.newTask(reach), reach)
			fresh = append(fresh, reach)
		}
	}
	r.fences.raise(ctx, fresh)
	for p := range r.restores.waiting {
		if !owned[p] {
			r.restores.drop(p)
		}
	}
	r.restores.tend(ctx, r.newTask)
	for i := range fetch.Chunks {
		owned[fetch.Chunks[i].Partition] = true
	}
	r.leaving = r.leaving[:0]
	for _, t := range r.order {
		switch p := t.cfg.Partition; {
		case owned[p]:
		case t.tally.Records == 0:
			r.drop(p)
		default:
			r.leaving = append(r.leaving, p)
		}
	}
}

// has says whether the partition has a task of the same assignment, running or not.
func (r *run) has(reach Reach) bool {
	if t := r.tasks[reach.Partition]; t != nil {
		return t.assignment == reach.Assignment
	}
	w := r.restores.waiting[reach.Partition]
	return w != nil && w.reach.Assignment == reach.Assignment
}

// begin lets a task run that has its state.
func (r *run) begin(t *Task) {
	r.tasks[t.cfg.Partition] = t
	r.sort()
}

func (r *run) drop(p Partition) {
	if r.tasks[p] != nil {
		delete(r.tasks, p)
		r.sort()
	}
}

func (r *run) newTask(reach Reach) *Task {
	t := NewTask(TaskConfig{
		Partition: reach.Partition, Signal: reach.Signal, Config: *r.cfg,
		Limits: r.w.cfg.Limits, Scratch: r.w.scratch, watch: &r.watch,
	})
	t.assignment = reach.Assignment
	return t
}

func (r *run) sort() {
	r.order = slices.SortedFunc(maps.Values(r.tasks), func(a, b *Task) int { return comparePartitions(a.cfg.Partition, b.cfg.Partition) })
	r.tallies = make([]Tally, len(r.order))
}

// deadline is when the epoch ends: its length after the first records, which is another while results are late or have
// to wait, or when it is time to publish progress.
func (r *run) deadline() time.Time {
	progress := r.published.Add(r.cfg.ProgressEvery)
	if r.began.IsZero() {
		return progress
	}
	if r.late {
		return r.began.Add(max(r.pressed, r.pace.late))
	}
	return r.began.Add(r.pressed)
}

// patience is how long a poll may wait. A backlog comes at once, or the epoch does not wait for it.
func (r *run) patience(now time.Time) time.Duration {
	left := r.deadline().Sub(now)
	if r.late {
		left = min(left, r.cfg.Epoch.Min)
	}
	return left
}

// due says why the epoch is to end now, if it is.
func (r *run) due() ending {
	now := r.w.cfg.Now()
	switch {
	case len(r.leaving) > 0:
		return endRevoked
	case r.cut:
		return endCut
	case now.Before(r.deadline()):
	case r.longer && !now.Before(r.began.Add(r.pace.late)):
		return endBacklog
	case r.longer && r.starved:
		return endStarved
	case r.longer:
		return endCaughtUp
	case r.stretched:
		return endPressed
	default:
		return endLength
	}
	if !r.began.IsZero() && !now.Before(r.began.Add(r.pace.length)) {
		r.longer, r.stretched = r.longer || r.late, r.stretched || !r.late
	}
	bytes, letters := int64(0), int64(0)
	for _, t := range r.order {
		b, l := t.Pending()
		bytes, letters = bytes+b, letters+l
	}
	switch {
	case bytes >= int64(r.cfg.Epoch.MaxBytes):
		return endBytes
	case letters >= maxLetterBytes:
		return endLetters
	}
	return ""
}

// commit ends the epoch: everything drained, encoded and committed, or everything forgotten.
func (r *run) commit(ctx context.Context) error {
	start := r.w.cfg.Now()
	withProgress := !start.Before(r.published.Add(r.cfg.ProgressEvery))
	r.drain(start, withProgress)
	if err := r.encode(); err != nil {
		return err
	}
	before := r.w.cfg.Now()
	committed, err := r.session.Commit(ctx, r.messages)
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
	for _, p := range r.leaving {
		delete(r.tasks, p)
	}
	if len(r.leaving) > 0 {
		r.leaving = r.leaving[:0]
		r.sort()
	}
	r.began, r.late, r.cut = time.Time{}, false, false
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
	r.series, r.rollups, r.failed = r.series[:0], r.rollups[:0], nil
	r.reuse()
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

// encode makes the messages of the epoch, in the order in which readers have to see them: series before their rows,
// progress after what it speaks of.
func (r *run) encode() error {
	r.watch.start()
	defer r.watch.stop()
	defer r.watch.lap(stageEncode)
	r.messages = append(append(append(r.messages[:0], r.outputs.Letters...), r.outputs.State...), r.outputs.Alerts...)
	add := func(table string, rows int, encode func(dst []byte) ([]byte, error)) error {
		value, err := r.block(table, rows, encode)
		if err == nil {
			r.send(table, rows, value)
		}
		return err
	}
	encoder := r.w.cfg.Encoder
	for _, b := range r.outputs.Series {
		r.encodeSeries(b)
	}
	newest := int64(0)
	for i := range r.tallies {
		newest = max(newest, r.tallies[i].Newest)
	}
	for _, b := range r.outputs.Rollups {
		r.encodeRollups(b)
	}
	if r.failed != nil {
		return r.failed
	}
	for i := range r.series {
		r.send(TableSeries, r.series[i].rows, r.series[i].value)
	}
	for i := range r.rollups {
		b := &r.rollups[i]
		count := Header{HeaderCount, strconv.AppendUint(nil, b.count, 10)}
		at := Header{HeaderNewest, strconv.AppendInt(nil, newest/int64(time.Millisecond), 10)}
		r.send(TableRollups, b.rows, b.value, count, at)
	}
	for _, b := range r.outputs.Windows.Blocks {
		if err := add(TableWindows, len(b.Tenant), func(dst []byte) ([]byte, error) { return encoder.EncodeWindows(dst, b) }); err != nil {
			return err
		}
	}
	err := r.outputs.Limits.blocks(r.cfg, func(b *LimitRows) error {
		return add(TableLimits, len(b.Tenant), func(dst []byte) ([]byte, error) { return encoder.EncodeLimits(dst, b) })
	})
	if err != nil {
		return err
	}
	letters := r.outputs.LetterRows
	err = parts(r.cfg, len(letters), letterRowBytes(r.cfg), func(from, to int) error {
		return add(TableLetters, to-from, func(dst []byte) ([]byte, error) { return encoder.EncodeLetters(dst, letters[from:to]) })
	})
	if err != nil {
		return err
	}
	return r.progress.blocks(r.cfg, func(b *ProgressRows) error {
		return add(TableProgress, len(b.Topic), func(dst []byte) ([]byte, error) { return encoder.EncodeProgress(dst, b) })
	})
}

// encodeRollups encodes a block of the epoch. It is called while tasks drain, too; messages are made of it when they
// have.
func (r *run) encodeRollups(b *Rollups) {
	rows := len(b.Grain)
	value, err := r.block(TableRollups, rows, func(dst []byte) ([]byte, error) { return r.w.cfg.Encoder.EncodeRollups(dst, b) })
	if r.failed == nil {
		r.failed = err
	}
	r.rollups = append(r.rollups, encodedBlock{value, rows, b.count()})
}

// encodeSeries is that of announcements, which readers see before rows of their series.
func (r *run) encodeSeries(b *SeriesRows) {
	rows := len(b.Tenant)
	value, err := r.block(TableSeries, rows, func(dst []byte) ([]byte, error) { return r.w.cfg.Encoder.EncodeSeries(dst, b) })
	if r.failed == nil {
		r.failed = err
	}
	r.series = append(r.series, encodedBlock{value: value, rows: rows})
}

// reuse takes the buffers of the last epoch for the next. Of many more than it used, some go to the collector.
func (r *run) reuse() {
	keep := max(r.used, len(r.buffers)/2)
	clear(r.buffers[keep:])
	r.buffers, r.used = r.buffers[:keep], 0
}

// block encodes into the next buffer.
func (r *run) block(table string, rows int, encode func(dst []byte) ([]byte, error)) ([]byte, error) {
	if r.used == len(r.buffers) {
		r.buffers = append(r.buffers, nil)
	}
	value, err := encode(r.buffers[r.used][:0])
	if err != nil {
		return nil, fmt.Errorf("encode block of %d rows for %s: %w", rows, table, err)
	}
	r.buffers[r.used] = value
	r.used++
	return value, nil
}

// send adds the message of a block.
func (r *run) send(table string, rows int, value []byte, extra ...Header) {
	headers := append([]Header{
		{HeaderTable, []byte(table)}, {HeaderFormat, []byte(FormatNative)}, {HeaderRows, strconv.AppendInt(nil, int64(rows), 10)},
	}, extra...)
	r.messages = append(r.messages, Message{
		Topic: r.cfg.ResultsTopic, Partition: r.session.ResultPartition(), Value: value, Headers: headers,
	})
}

// count is the sum of Count over series rows.
func (r *Rollups) count() (sum uint64) {
	for i, grain := range r.Grain {
		if grain == GrainSeries {
			sum += r.Count[i]
		}
	}
	return sum
}

// settle follows a commit that held.
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
	rows := r.outputs.windowRows()
	for i := range r.series {
		m.block(TableSeries, r.series[i].rows)
		rows += r.series[i].rows
	}
	for i := range r.rollups {
		m.block(TableRollups, r.rollups[i].rows)
		rows += r.rollups[i].rows
	}
	for _, b := range r.outputs.Windows.Blocks {
		m.block(TableWindows, len(b.Tenant))
	}
	if n := len(r.outputs.Limits.Tenant); n > 0 {
		m.block(TableLimits, n)
	}
	if n := len(r.outputs.LetterRows); n > 0 {
		m.block(TableLetters, n)
	}
	if n := len(r.progress.Topic); n > 0 {
		m.block(TableProgress, n)
	}
	r.last = end
	if records == 0 {
		return // it only published progress: that says nothing about the load
	}
	r.length, r.costs, r.rows = end.Sub(r.began), end.Sub(start), rows
	r.pace.ended(r.costs, r.busy(start), r.rows)
	if r.longer {
		m.longer.Inc()
	}
	m.endings.WithLabelValues(string(r.ending)).Inc()
	r.w.cfg.Log.Debug("epoch committed", "slot", r.w.cfg.Slot, "length", r.length, "cost", r.costs, "records", records, "rows", r.rows, "ended", r.ending)
	m.epochSeconds.Observe(r.length.Seconds())
	m.epochRows.Observe(float64(r.rows))
}

// busy is the share of the epoch that ends at end in which the worker had something to do.
func (r *run) busy(end time.Time) float64 {
	length := end.Sub(r.began)
	return float64(length-r.waited) / float64(max(length, 1))
}

// mourn reports offsets that were never read.
func (r *run) mourn(t *Task, tally *Tally) {
	if tally.Skipped+tally.Deleted > 0 {
		r.w.cfg.Log.Error("records were not read: the broker deleted them first, or the group's offset was set beyond them",
			"topic", t.cfg.Partition.Topic, "partition", t.cfg.Partition.Partition, "deleted", tally.Deleted, "skipped", tally.Skipped)
	}
}

// rollback follows a commit that was aborted.
func (r *run) rollback() {
	r.aborted++
	r.pace.aborted()
	r.w.cfg.Metrics.epochs.WithLabelValues("aborted").Inc()
	r.w.cfg.Log.Info("epoch aborted, for its partitions were being given out anew: its records will be processed again", "slot", r.w.cfg.Slot)
	for _, t := range r.order {
		t.Forget()
	}
	// The client may still hold what it did not send.
	r.buffers, r.used = nil, 0
}

// publish shows the worker as it is now, at most once in progress_every unless partitions came or went.
func (r *run) publish(now time.Time) {
	old := r.w.topology.Load()
	if old.restoring == len(r.restores.waiting) && len(old.Tasks) == len(r.order)+old.restoring && old.Committed.Add(r.cfg.ProgressEvery).After(now) {
		return
	}
	t := Topology{
		Slot: r.w.cfg.Slot, State: "running", Since: old.Since, Failures: old.Failures, Epoch: r.committed, Aborted: r.aborted,
		EpochTarget: r.pace.length, EpochLength: r.length, EpochRows: r.rows, EpochCost: r.costs, Committed: r.last, Tasks: make([]TaskTopology, len(r.order)), restoring: len(r.restores.waiting),
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
