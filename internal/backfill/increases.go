package backfill

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/pipeline/rollup"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
)

// increases says whether a rollup needs samples in order. What such take of the files is kept in runs, sorted by time,
// and goes through one task when all files are read.
func increases(r *rollup.Declared) bool { return r.Measure == rollup.MeasureIncrease }

// increaseIdle is how long a cumulative series may be silent in files, in event time, before it may begin anew: they
// may hold a sample an hour, so that it is longer than a stream's series_idle. What is forgotten is decided at the ends
// of chunks.
const increaseIdle = 24 * time.Hour

// filling is a pass over the samples of a set. Its chunks are in the ledger under the name of the set, like those of a
// file.
type filling struct {
	*worker
	set     *set
	task    *pipeline.Task
	chunk   int64 // its index
	n       int   // samples of it
	from    int64 // event time of the first, Unix nanoseconds
	now     int64 // event time of the last, Unix milliseconds
	leading bool  // all samples so far lie before what is replaced
	led     int64 // pieces of the lead-in
	dropped map[events.Reason]uint64
}

// fill steps the samples of a set of increases: into windows, which are kept in a run, or into panes, which are
// inserted.
func (j *Job) fill(ctx context.Context, s *set) error {
	f, err := j.newFilling(ctx, s)
	if err != nil {
		return err
	}
	var in sampleReader
	err = j.samples.merge(s.runs(), func(key, value []byte) error {
		if f.leading && len(key) >= 8 && !f.leads(int64(binary.BigEndian.Uint64(key))) {
			f.leading = false
			if err := f.arrive(ctx); err != nil {
				return err
			}
		}
		if err := in.each(key, value, f.step); err != nil {
			return fmt.Errorf("read samples of %s: %w", s.rollup.Name, err)
		}
		if f.n < chunkRows {
			return nil
		}
		return f.end(ctx)
	})
	if err == nil && f.n > 0 {
		err = f.end(ctx)
	}
	if err != nil {
		return err
	}
	for _, reason := range slices.Sorted(maps.Keys(f.dropped)) {
		j.note("%d samples of %s are left out as %s", f.dropped[reason], s.rollup.Name, reason)
	}
	if s.rollup.Window != nil {
		return j.runs.fold(s.run())
	}
	return nil
}

func (j *Job) newFilling(ctx context.Context, s *set) (*filling, error) {
	l := &loading{Job: j, ledger: j.ledger + "#increases", file: &file{path: "increases of " + s.rollup.Name, hash: hashOf(s.name)},
		cfg: pipeline.DefaultConfig()}
	if s.rollup.Window == nil {
		var err error
		if l.known, err = j.entries(ctx, l.ledger, l.file.hash); err != nil {
			return nil, err
		}
	}
	l.cfg.Rollups, l.cfg.SeriesIdle = []rollup.Declared{*s.rollup}, increaseIdle
	f := &filling{worker: newWorker(l), set: s, leading: j.cfg.Replace != nil && j.cfg.Replace.LeadIn > 0,
		dropped: map[events.Reason]uint64{}}
	f.task = pipeline.NewTask(pipeline.TaskConfig{
		Partition: pipeline.Partition{Topic: l.file.path}, Signal: j.cfg.Signal, Config: l.cfg, Limits: tenants.Unlimited,
	})
	return f, nil
}

// step takes the next sample. The clock is the samples' own.
func (f *filling) step(m *events.Metric) {
	if f.n == 0 {
		f.from = m.Time
	}
	f.now = m.Time / int64(time.Millisecond)
	f.n++
	f.task.StepIncrease(m, f.now)
}

// end ends a chunk. One that is finished was stepped for the sake of those behind it.
func (f *filling) end(ctx context.Context) error {
	if f.leading {
		return f.arrive(ctx)
	}
	windowed := f.set.rollup.Window != nil
	if windowed {
		if err := f.Job.runs.write(chunkRun(f.set.run(), f.chunk), takeWindows(f.task)); err != nil {
			return err
		}
	}
	f.drained.Reset()
	f.task.Drain(f.drained, f.now)
	for of, n := range f.drained.Tally.Dropped {
		f.dropped[of.Reason] += n
	}
	if !windowed && f.known[f.chunk].State != Finished {
		if err := f.finish(ctx); err != nil {
			return fmt.Errorf("fill %s, chunk %d: %w", f.file.path, f.chunk, err)
		}
	}
	f.task.Committed(false)
	f.chunk, f.n = f.chunk+1, 0
	return nil
}

// finish inserts what was drained.
func (f *filling) finish(ctx context.Context) error {
	clock := func(t time.Time) string { return t.UTC().Format(time.RFC3339) }
	e, skip, err := f.open(ctx, f.chunk,
		fmt.Sprintf("samples from %s to %s", clock(time.Unix(0, f.from)), clock(time.UnixMilli(f.now))))
	if err != nil {
		return err
	}
	if !skip {
		if err := f.write(ctx, f.chunk); err != nil {
			return err
		}
	}
	e.State = Finished
	return f.retry(ctx, func() error { return f.store.Record(ctx, f.ledger, f.file.hash, &e) })
}
