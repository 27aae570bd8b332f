package coarse

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/vigie-io/vigie/internal/pipeline"
)

// Record is a record of the results topic.
type Record struct {
	Offset int64
	Table  string // header vigie-table
	Value  []byte
}

// Fetch is what one Poll returned.
type Fetch struct {
	Records []Record // valid until the next Poll
	Next    int64    // offset behind all that was fetched, markers of transactions included
	End     int64    // of what is readable, for the lag
}

// Block is a record to be committed: one block for one ingest table.
type Block struct {
	Table string
	Rows  int
	Value []byte
}

// Shard is one partition of the results topic, and the only way to write to what is merged of it. One goroutine uses
// it.
type Shard interface {
	// Poll waits for records until ctx ends; an empty Fetch at the deadline is no error. Next is where the last one
	// ended when nothing came.
	Poll(ctx context.Context) (Fetch, error)
	// Ends are the ends of what is readable in every partition of the results topic, now.
	Ends(ctx context.Context) (map[int32]int64, error)
	// Commit writes blocks and, when next is not negative, that all records before it are merged: all of it or nothing.
	// After an error the shard is of no more use.
	Commit(ctx context.Context, blocks []Block, next int64) error
}

// Decoder reads blocks of result records, and finds out whether they are whole: each row has its state.
type Decoder interface {
	// ReadRollups replaces what rows hold. Texts and states may be those of block.
	ReadRollups(block []byte, rows *Rows) error
	DecodeProgress(block []byte) (*pipeline.ProgressRows, error)
}

// Encoder writes blocks, appended to dst. It keeps no reference to rows.
type Encoder interface {
	EncodeRollups(dst []byte, rows *pipeline.Rollups) ([]byte, error)
	EncodeProgress(dst []byte, rows *pipeline.ProgressRows) ([]byte, error)
	EncodeMerged(dst []byte, position Position) ([]byte, error)
}

// Reached says up to which offset each partition of the results topic of this id is merged and stored in the wider
// tiers.
type Reached func(ctx context.Context, topic string) (map[int32]int64, error)

// Runner merges results partitions, each in a Run of its own. It is safe for concurrent use.
type Runner struct {
	cfg     Config
	decoder Decoder
	encoder Encoder
	reached Reached
	metrics *Metrics
	log     *slog.Logger
	running atomic.Int64 // partitions, which share the memory
}

// NewRunner returns a runner; cfg is valid.
func NewRunner(cfg Config, decoder Decoder, encoder Encoder, reached Reached, metrics *Metrics, log *slog.Logger) *Runner {
	return &Runner{cfg: cfg, decoder: decoder, encoder: encoder, reached: reached, metrics: metrics, log: log}
}

const (
	// markLead is by how much progress is taken before the rows are committed, at most: by then all mergers have read up
	// to where all others were at that time, so that what they commit next lets the progress go.
	markLead = 2 * time.Second
	// checkWait is between two looks at how far the tiers are, at most.
	checkWait = time.Second
)

// Run merges a partition of the results topic from a position on, until ctx ends or shard is in error. What was not
// committed is read again by the next.
func (r *Runner) Run(ctx context.Context, shard Shard, at Position) error {
	l := &lane{
		Runner: r, shard: shard, at: at, committed: -1, collected: progress{}, log: r.log.With("partition", at.Partition),
	}
	r.running.Add(1)
	defer r.running.Add(-1)
	l.plan(time.Now())
	defer l.metrics.forget(at.Partition)
	for {
		if err := l.poll(ctx); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
		if err := l.turn(ctx, time.Now()); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
}

// lane is one Run.
type lane struct {
	*Runner
	shard Shard
	log   *slog.Logger

	at        Position // behind what is merged
	committed int64    // position as committed by this run; -1 before
	rows      Rows     // of the last record that was read
	merger    Merger
	collected progress // since the last mark
	waiting   waiting
	blind     bool // it was told that nobody knows how far the tiers are

	mark, commit, check time.Time // when each is due
	buffers             [][]byte  // of blocks, used again
}

// plan sets when the next rows are committed: at a multiple of the interval, so that all mergers do it at the same time.
func (l *lane) plan(now time.Time) {
	l.commit = now.Truncate(l.cfg.Interval).Add(l.cfg.Interval)
	l.mark = l.commit.Add(-min(l.cfg.Interval/4, markLead))
}

// poll takes what comes until something is due.
func (l *lane) poll(ctx context.Context) error {
	until := l.commit
	if !l.mark.IsZero() {
		until = l.mark
	}
	if len(l.waiting.list) > 0 && l.check.Before(until) {
		until = l.check
	}
	polling, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	fetch, err := l.shard.Poll(polling)
	if err != nil {
		return fmt.Errorf("poll results: %w", err)
	}
	for i := range fetch.Records {
		if err := l.take(&fetch.Records[i]); err != nil {
			return err
		}
	}
	l.at.Next = fetch.Next
	l.metrics.polled(l.at.Partition, max(0, fetch.End-l.at.Next))
	return nil
}

// take merges a record, if it is one to be merged: rollups for all tiers need it no more than other tables do. One that
// cannot be read is the sink's to put aside.
func (l *lane) take(record *Record) (err error) {
	switch record.Table {
	case pipeline.TablePanes:
		if err = l.decoder.ReadRollups(record.Value, &l.rows); err == nil {
			l.metrics.read.Add(float64(len(l.rows.Ends)))
			return l.merger.Add(&l.rows)
		}
	case pipeline.TableProgress:
		var rows *pipeline.ProgressRows
		if rows, err = l.decoder.DecodeProgress(record.Value); err == nil {
			l.collected.add(rows)
		}
	}
	if err != nil {
		l.metrics.refused.Inc()
		l.log.Error("result record cannot be read: its rows are missing in the tiers of a minute and an hour",
			"offset", record.Offset, "table", record.Table, "err", err)
	}
	return nil
}

// turn does what is due.
func (l *lane) turn(ctx context.Context, now time.Time) error {
	if !l.mark.IsZero() && !now.Before(l.mark) {
		l.mark = time.Time{}
		if err := l.hold(ctx); err != nil {
			return err
		}
	}
	if due := !now.Before(l.commit); due || l.full() {
		if err := l.commitRows(ctx); err != nil {
			return err
		}
		if due {
			l.plan(now)
		}
	}
	if len(l.waiting.list) > 0 && !now.Before(l.check) {
		l.check = now.Add(min(max(l.cfg.Interval/20, checkWait/10), checkWait))
		return l.publish(ctx)
	}
	return nil
}

// full reports whether the rows take the partition's share of the memory.
func (l *lane) full() bool { return int64(l.merger.Bytes())*l.running.Load() >= int64(l.cfg.Memory) }

// hold has the progress that was collected wait for the rows it speaks of: those before the ends of all partitions now.
func (l *lane) hold(ctx context.Context) error {
	if len(l.collected) == 0 {
		return nil
	}
	ends, err := l.shard.Ends(ctx)
	if err != nil {
		return fmt.Errorf("list ends of results: %w", err)
	}
	ends[l.at.Partition] = l.at.Next // its own progress is committed behind its rows
	l.waiting.add(l.collected, ends)
	l.collected = progress{}
	return nil
}

// commitRows commits what is merged.
func (l *lane) commitRows(ctx context.Context) error {
	if l.at.Next == l.committed {
		return nil
	}
	var blocks []Block
	rows := l.merger.Rows()
	err := l.merger.Blocks(func(rows *pipeline.Rollups) error {
		return l.encode(&blocks, TableMinutes, len(rows.Grain), func(dst []byte) ([]byte, error) { return l.encoder.EncodeRollups(dst, rows) })
	})
	if err == nil {
		err = l.encode(&blocks, TableMerged, 1, func(dst []byte) ([]byte, error) { return l.encoder.EncodeMerged(dst, l.at) })
	}
	if err != nil {
		return err
	}
	if err := l.shard.Commit(ctx, blocks, l.at.Next); err != nil {
		return err
	}
	l.committed = l.at.Next
	l.merger.Reset()
	l.metrics.merged.Add(float64(rows))
	l.metrics.commits.Inc()
	return nil
}

// encode appends a block.
func (l *lane) encode(blocks *[]Block, table string, rows int, encode func(dst []byte) ([]byte, error)) error {
	n := len(*blocks)
	if n == len(l.buffers) {
		l.buffers = append(l.buffers, nil)
	}
	value, err := encode(l.buffers[n][:0])
	if err != nil {
		return fmt.Errorf("encode block of %d rows for %s: %w", rows, table, err)
	}
	l.buffers[n] = value
	*blocks = append(*blocks, Block{table, rows, value})
	return nil
}

// publish commits the progress that has become true.
func (l *lane) publish(ctx context.Context) error {
	reached, err := l.reached(ctx, l.at.Topic)
	if err != nil {
		if ctx.Err() == nil && !l.blind {
			l.log.Warn("how far the tiers of a minute and an hour are is not known: their progress waits", "err", err)
			l.blind = true
		}
		return nil
	}
	l.blind = false
	reached[l.at.Partition] = l.committed
	n := l.waiting.ready(reached)
	if n == 0 {
		return nil
	}
	var blocks []Block
	rows := l.waiting.first(n).rows()
	err = l.encode(&blocks, TableProgress, len(rows.Topic), func(dst []byte) ([]byte, error) { return l.encoder.EncodeProgress(dst, rows) })
	if err != nil {
		return err
	}
	if err := l.shard.Commit(ctx, blocks, -1); err != nil {
		return err
	}
	l.waiting.drop(n)
	return nil
}
