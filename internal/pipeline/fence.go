package pipeline

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// fences keep the tasks of a run from publishing progress before what others wrote of their partitions is stored.
//
// A worker's results lie in one partition of the results topic, and are stored in order: its progress behind its rows.
// The results of two workers are stored apart. Should the new owner of a source partition say at once how far it is,
// readers would believe in panes whose last rows, the old owner's, still wait in the results partition of that one: for
// as long as its inserts are held up. See docs/adr/0018-progress-behind-a-fence.md.
//
// The run's goroutine uses it, but for pass.
type fences struct {
	session Session
	log     *slog.Logger
	metrics *Metrics
	limit   time.Duration
	waits   sync.WaitGroup

	mu     sync.Mutex
	passed map[Partition]uint64 // assignment whose fence has been passed
}

func newFences(w *Worker, s Session) *fences {
	return &fences{
		session: s, log: w.cfg.Log.With("slot", w.cfg.Slot), metrics: w.cfg.Metrics, limit: w.cfg.Config.ProgressHold,
		passed: make(map[Partition]uint64),
	}
}

// raise puts a fence before each partition that has just been assigned. ctx ends with the run.
func (f *fences) raise(ctx context.Context, assigned []Reach) {
	if len(assigned) == 0 {
		return
	}
	f.metrics.held.Add(float64(len(assigned)))
	f.waits.Go(func() { f.wait(ctx, assigned) })
}

func (f *fences) wait(ctx context.Context, assigned []Reach) {
	left := make(map[Partition]uint64, len(assigned))
	sources := make([]Partition, len(assigned))
	for i, reach := range assigned {
		left[reach.Partition], sources[i] = reach.Assignment, reach.Partition
	}
	waiting, cancel := context.WithTimeout(ctx, f.limit)
	defer cancel()
	err := f.session.Stored(waiting, sources, func(p Partition) {
		f.pass(p, left[p])
		delete(left, p)
		f.metrics.held.Dec()
	})
	defer f.metrics.held.Sub(float64(len(left)))
	if ctx.Err() != nil {
		return
	}
	for p, assignment := range left {
		f.log.Error("progress is published although results of the partition's last worker are not stored: "+
			"PromQL may read panes without them", "topic", p.Topic, "partition", p.Partition, "waited", f.limit, "err", err)
		f.metrics.unsettled.Inc()
		f.pass(p, assignment)
	}
}

// pass lets the task of an assignment publish. A partition may have been assigned anew meanwhile: that fence stands.
func (f *fences) pass(p Partition, assignment uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.passed[p] = max(f.passed[p], assignment+1)
}

// holds says whether the task must not publish progress yet.
func (f *fences) holds(t *Task) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.passed[t.cfg.Partition] != t.assignment+1
}
