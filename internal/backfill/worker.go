package backfill

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/pipeline/windowed"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
)

// Encoder turns rows into blocks.
type Encoder interface {
	EncodeRollups(dst []byte, rows *pipeline.Rollups) ([]byte, error)
	EncodeSeries(dst []byte, rows *pipeline.SeriesRows) ([]byte, error)
	EncodeWindows(dst []byte, rows *windowed.Rows) ([]byte, error)
}

// A chunk that was begun and not finished may be inserted again only while every table remembers its tokens: the last
// 100,000 parts (migrations, {{dedup}}) and seven days. Half of that leaves room for what is added while it is loaded.
const (
	doubtParts = 50_000
	doubtTime  = 6 * 24 * time.Hour
)

// ErrInDoubt is returned by Job.Run when the tables may have forgotten the tokens of a chunk that was begun and not
// finished, so that neither inserting it again nor leaving it out is known to be right.
var ErrInDoubt = errors.New("chunk in doubt")

// worker loads one chunk at a time.
type worker struct {
	*loading
	scratch *pipeline.Scratch
	decoder *events.Decoder
	drained *pipeline.Outputs
	block   []byte
}

func newWorker(l *loading) *worker {
	return &worker{
		loading: l, scratch: new(pipeline.Scratch), decoder: events.NewDecoder(l.Job.cfg.Decoder),
		drained: pipeline.NewOutputs(&l.cfg),
	}
}

// chunk loads c, and does nothing once ctx has ended.
func (w *worker) chunk(ctx context.Context, c *chunk) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s := w.stepper()
	if err := c.feed(s); err != nil {
		return fmt.Errorf("load %s, chunk %d: %w", w.file.path, c.index, err)
	}
	s.flush()
	if err := w.keep(c, &w.Job.runs, takeWindows(s.task)); err != nil {
		return err
	}
	w.drained.Reset()
	s.task.Drain(w.drained, w.now)
	w.leadIn(s)
	if err := w.keep(c, &w.Job.samples, s.samples.emit); err != nil {
		return err
	}
	if w.known[c.index].State == Finished {
		return nil // it was here for what is kept of it
	}
	e, skip, err := w.open(ctx, c.index, fmt.Sprintf("rows %d to %d", c.first, c.last))
	if err != nil {
		return fmt.Errorf("load %s, chunk %d: %w", w.file.path, c.index, err)
	}
	rejects := s.rejects
	if !skip {
		rejects = append(rejects, w.letters()...)
		e.Rows, e.Events, e.Rejects = s.rows, w.drained.Tally.Events, uint64(len(rejects))
		if err := w.write(ctx, c.index); err != nil {
			return fmt.Errorf("load %s, chunk %d: %w", w.file.path, c.index, err)
		}
	}
	if err := w.report(e, rejects); err != nil {
		return err
	}
	e.State = Finished
	if err := w.retry(ctx, func() error { return w.store.Record(ctx, w.ledger, w.file.hash, &e) }); err != nil {
		return err
	}
	w.add(e.Rows, e.Events, e.Rejects)
	w.progress()
	return nil
}

// open begins a chunk in the ledger, or decides about one that was begun before. skip says to leave its blocks out.
//
// A crash between an insert and the chunk's last entry leaves it begun. Its blocks are then inserted again, and dropped
// by their tokens: which is only sure while the tables remember them.
func (w *worker) open(ctx context.Context, chunk int64, holds string) (e Entry, skip bool, err error) {
	var mark uint64
	if err := w.retry(ctx, func() (err error) { mark, err = w.store.Mark(ctx); return err }); err != nil {
		return e, false, err
	}
	now := w.Job.now()
	e, begun := w.known[chunk]
	if !begun {
		e = Entry{Chunk: chunk, State: Begun, Started: now, Mark: mark}
		return e, false, w.retry(ctx, func() error { return w.store.Record(ctx, w.ledger, w.file.hash, &e) })
	}
	if mark-min(mark, e.Mark) < doubtParts && now.Sub(e.Started) < doubtTime {
		return e, false, nil
	}
	if w.Job.cfg.InDoubt != "" {
		return e, w.Job.cfg.InDoubt == "skip", nil
	}
	return e, false, fmt.Errorf("it was begun %s ago and not finished, "+
		"and so much was inserted since that its blocks may be stored and forgotten: look whether its %s are in the tables, "+
		"then run again with -in-doubt load or -in-doubt skip: %w",
		now.Sub(e.Started).Round(1e9), holds, ErrInDoubt)
}

// stepper returns one with a task of its own.
func (w *worker) stepper() *stepper {
	partition, signal := pipeline.Partition{Topic: w.file.path}, w.Job.cfg.Signal
	s := &stepper{now: w.now, key: w.key, chunk: pipeline.Chunk{Partition: partition, Signal: signal}}
	s.task = pipeline.NewTask(pipeline.TaskConfig{
		Partition: partition, Signal: signal, Config: w.cfg, Decoder: w.decoder, Scratch: w.scratch, Increases: s.samples.add,
		// The rows are bounded by the chunk, and to leave some out silently is not what a backfill is for.
		Limits: tenants.Unlimited,
	})
	return s
}

// letters turns dead letters into rejects.
func (w *worker) letters() []Reject {
	rejects := make([]Reject, 0, len(w.drained.Letters))
	for i := range w.drained.Letters {
		letter := &w.drained.Letters[i]
		r := Reject{Original: string(letter.Value)}
		for _, h := range letter.Headers {
			switch h.Key {
			case pipeline.HeaderDLQReason:
				r.Reason = string(h.Value)
			case pipeline.HeaderDLQDetail:
				r.Detail = string(h.Value)
			case pipeline.HeaderDLQOffset:
				r.Row, _ = strconv.ParseInt(string(h.Value), 10, 64)
			}
		}
		if r.Reason == string(events.ReasonTenantMissing) { // there is no key, nor a credential
			r.Detail = "the row names no tenant: give it a field tenant, or all rows one with -tenant"
		}
		rejects = append(rejects, r)
	}
	return rejects
}

// write stores what was drained.
func (w *worker) write(ctx context.Context, chunk int64) error {
	if err := w.hidden(); err != nil {
		return err
	}
	if err := w.note(ctx); err != nil {
		return err
	}
	return w.insert(ctx, chunk)
}

// note notes which hours the chunk adds to; a replacement has a generation of its own.
func (w *worker) note(ctx context.Context) error {
	if hours := hoursOf(w.drained.Rollups); w.Job.cfg.Replace == nil && len(hours) > 0 {
		return w.retry(ctx, func() error { return w.store.Note(ctx, w.Job.ledger, hours) })
	}
	return nil
}

// insert stores the blocks, the series first so that no rows are there that nothing names.
func (w *worker) insert(ctx context.Context, chunk int64) error {
	for i, rows := range w.drained.Series {
		block, err := w.Job.encoder.EncodeSeries(w.block[:0], rows)
		if err != nil {
			return err
		}
		w.block = block
		if err := w.put(ctx, chunk, i, pipeline.TableSeries, len(rows.Tenant)); err != nil {
			return err
		}
	}
	for i, rows := range w.drained.Rollups {
		block, err := w.Job.encoder.EncodeRollups(w.block[:0], rows)
		if err != nil {
			return err
		}
		w.block = block
		if err := w.put(ctx, chunk, i, pipeline.TableRollups, len(rows.Grain)); err != nil {
			return err
		}
	}
	return nil
}

// put inserts the block in w.block.
func (w *worker) put(ctx context.Context, chunk int64, n int, table string, rows int) error {
	token := fmt.Sprintf("backfill/%s/%s/%d/%d/%s", w.ledger, w.file.hash, chunk, n, table)
	return w.retry(ctx, func() error { return w.store.Insert(ctx, table, token, rows, w.block) })
}

// report counts and reports the rejects of a chunk.
func (w *worker) report(e Entry, rejects []Reject) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sum.Rows += e.Rows
	w.sum.Events += e.Events
	for i := range rejects {
		r := &rejects[i]
		r.File = w.file.path
		w.sum.Rejected++
		w.sum.Reasons[r.Reason]++
		if err := w.Job.out.Reject(r); err != nil {
			return err
		}
	}
	return w.Job.out.Flush()
}
