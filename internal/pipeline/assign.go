package pipeline

import (
	"context"
	"maps"
	"slices"
)

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

func (r *run) newTask(reach Reach) *Task {
	t := NewTask(TaskConfig{
		Partition: reach.Partition, Signal: reach.Signal, Config: *r.cfg,
		Limits: r.w.cfg.Limits, Scratch: r.w.scratch, watch: &r.watch,
	})
	t.assignment = reach.Assignment
	return t
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

// leave drops the tasks that stayed for the epoch's sake.
func (r *run) leave() {
	for _, p := range r.leaving {
		r.drop(p)
	}
	r.leaving = r.leaving[:0]
}

func (r *run) sort() {
	r.order = slices.SortedFunc(maps.Values(r.tasks), func(a, b *Task) int {
		return a.cfg.Partition.Compare(b.cfg.Partition)
	})
	r.tallies = make([]Tally, len(r.order))
}
