package backfill

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/pipeline/rollup"
)

// loading is how one file gets into the tables. Its chunks are loaded by workers.
type loading struct {
	*Job
	ledger  string
	file    *file
	now     int64 // Unix milliseconds, pinned when the file was first begun
	known   map[int64]Entry
	entry   Entry // of the file
	cfg     pipeline.Config
	kept    []*runs // that are written of the file, under file.run
	rows    atomic.Uint64
	rejects atomic.Uint64
	events  atomic.Uint64
}

// loadFile loads what is not loaded yet of a file. seen are the paths of files that came before it, by hash.
func (j *Job) loadFile(ctx context.Context, f *file, seen map[string]string) error {
	if f.hash == "" {
		if err := f.digest(ctx); err != nil {
			return err
		}
	}
	if other, ok := seen[f.hash]; ok {
		j.note("%s: the same bytes as %s: already loaded", f.path, other)
		j.sum.Loaded++
		return nil
	}
	seen[f.hash] = f.path
	l, err := j.begin(ctx, f)
	if err != nil {
		return err
	}
	loaded := l.entry.State == Finished
	if loaded && l.keeps(f.run) {
		j.note("%s: already loaded by job %s on %s", f.path, j.cfg.Job, l.entry.Started.UTC().Format(time.DateTime))
		j.sum.Loaded++
		j.sum.Before += l.entry.Rejects
		j.taken += l.entry.Events
		j.rejected += l.entry.Rejects
		return nil
	}
	if err := l.load(ctx); err != nil {
		return err
	}
	for _, kept := range l.kept {
		if err := kept.fold(f.run); err != nil {
			return err
		}
	}
	if err := f.from.unchanged(); err != nil {
		return err
	}
	if loaded {
		j.note("%s: already loaded by job %s on %s, and read again for windows and increases", f.path, j.cfg.Job,
			l.entry.Started.UTC().Format(time.DateTime))
		return nil
	}
	l.entry.State = Finished
	l.entry.Rows, l.entry.Events, l.entry.Rejects = l.rows.Load(), l.events.Load(), l.rejects.Load()
	j.taken += l.entry.Events
	j.rejected += l.entry.Rejects
	return j.retry(ctx, func() error { return j.store.Record(ctx, j.ledger, f.hash, &l.entry) })
}

// begin reads the ledger of the file, and opens it when it is new.
func (j *Job) begin(ctx context.Context, f *file) (*loading, error) {
	known, err := j.entries(ctx, j.ledger, f.hash)
	if err != nil {
		return nil, err
	}
	l := &loading{Job: j, ledger: j.ledger, file: f, known: known, cfg: pipeline.DefaultConfig()}
	entry, ok := l.known[wholeFile]
	if !ok {
		entry = Entry{Chunk: wholeFile, State: Begun, Name: f.path, Plan: j.plan, Started: j.now().Truncate(time.Millisecond)}
		if err := j.retry(ctx, func() error { return j.store.Record(ctx, j.ledger, f.hash, &entry) }); err != nil {
			return nil, err
		}
	}
	if entry.Plan != j.plan {
		return nil, fmt.Errorf("load %s: job %s began this file with %q, now it is %q: "+
			"use the same settings, or another -job to load it once more", f.path, j.cfg.Job, entry.Plan, j.plan)
	}
	l.entry, l.now = entry, entry.Started.UnixMilli()
	l.cfg.MaxPast, l.cfg.MaxFuture, l.cfg.MaxTenants = j.cfg.MaxPast, j.cfg.MaxFuture, math.MaxInt
	l.cfg.Rollups = append(slices.Clip(j.rollups), f.awaiting...)
	if len(f.awaiting) > 0 {
		f.run, l.kept = l.runName(), []*runs{&j.runs}
	}
	if slices.ContainsFunc(f.awaiting, func(of rollup.Declared) bool { return increases(&of) }) {
		l.kept = append(l.kept, &j.samples)
	}
	if of := j.cfg.Replace; of != nil { // only what lies in the range: To is exclusive
		l.now, l.cfg.MaxPast, l.cfg.MaxFuture = of.To.UnixMilli(), of.To.Sub(of.From), -1
	}
	return l, nil
}

// entries are those that a ledger has under a hash, by chunk.
func (j *Job) entries(ctx context.Context, ledger, hash string) (map[int64]Entry, error) {
	list, err := j.store.Entries(ctx, ledger, hash)
	known := make(map[int64]Entry, len(list))
	for _, e := range list {
		known[e.Chunk] = e
	}
	return known, err
}

// load loads the chunks that are not finished, the earlier ones first.
func (l *loading) load(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	work := make(chan *chunk) // a chunk is taken when a worker is free for it, so that few are in memory
	var wg sync.WaitGroup
	for range l.Job.cfg.Parallel {
		wg.Go(func() {
			w := newWorker(l)
			for c := range work {
				if err := w.chunk(ctx, c); err != nil {
					cancel(err)
				}
			}
		})
	}
	err := l.chunks(ctx, func(c *chunk) bool {
		select {
		case work <- c:
			return true
		case <-ctx.Done():
			return false
		}
	})
	close(work)
	wg.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// chunks cuts the file.
func (l *loading) chunks(ctx context.Context, yield func(*chunk) bool) error {
	f, err := formatOf(l.file.path)
	if err != nil {
		return err
	}
	want := func(index int64) bool {
		if ctx.Err() != nil {
			return false
		}
		e, ok := l.known[index]
		if !ok || e.State != Finished {
			return true
		}
		l.add(e.Rows, e.Events, e.Rejects)
		l.mu.Lock()
		l.sum.Before += e.Rejects
		l.mu.Unlock()
		return !l.keeps(chunkRun(l.file.run, index))
	}
	switch f.name {
	case "parquet":
		return l.parquet(ctx, l.file, want, yield)
	case "csv":
		return l.csv(ctx, l.file, f.compression, want, yield)
	}
	return l.ndjson(ctx, l.file, f.compression, want, yield)
}

func (l *loading) add(rows, events, rejects uint64) {
	l.rows.Add(rows)
	l.events.Add(events)
	l.rejects.Add(rejects)
}

func (l *loading) progress() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.out.Progress(l.done+min(l.file.read.Load(), l.file.size), l.total, l.sum.Rows)
}
