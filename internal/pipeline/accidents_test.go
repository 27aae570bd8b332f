package pipeline_test

import (
	"time"

	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/internal/pipeline"
)

// accidents is the task of one partition with the log of its state, through epochs that are aborted and crashes of the
// process. Recounts of keyed state go through it, and compare what it committed with a plain loop.
type accidents struct {
	fresh func() *pipeline.Task
	task  *pipeline.Task
	state stateLog
}

func newAccidents(fresh func() *pipeline.Task) *accidents {
	return &accidents{fresh, fresh(), stateLog{}}
}

// epoch returns what one epoch leaves that ends at now. play steps it, again after each accident.
func (a *accidents) epoch(t *rapid.T, now time.Time, play func(*pipeline.Task)) *pipeline.Outputs {
	for {
		play(a.task)
		accident := rapid.SampledFrom([]string{"none", "none", "none", "none", "abort", "abort drained", "crash", "crash drained"}).Draw(t, "accident")
		switch accident {
		case "abort":
			a.task.Forget()
			continue
		case "crash":
			a.crash(t)
			continue
		}
		out := drain(a.task, now)
		switch accident {
		case "abort drained":
			a.task.Forget()
		case "crash drained":
			a.crash(t)
		default:
			a.state.append(out.State)
			a.task.Committed(true)
			return out
		}
	}
}

func (a *accidents) crash(t *rapid.T) {
	a.task = a.fresh()
	a.state.restore(t, a.task)
}

// steps plays records one after the other, so that each is in a poll of its own.
func steps[E any](now time.Time, all []E, record func(E) pipeline.Record) func(*pipeline.Task) {
	return func(task *pipeline.Task) {
		for _, e := range all {
			step(task, now, record(e))
		}
	}
}
