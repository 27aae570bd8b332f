package simulation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"
)

// Limits of what a World may take, on its own clock, to come to rest once all is healed.
const (
	settleStep   = 5 * time.Second
	settleWithin = 5 * time.Minute
	settleAfter  = 15 * time.Second // what is late comes within
	stuckAfter   = 2 * time.Minute  // the client's rebalance timeout is one
)

// Run carries a scenario out, heals everything, starts what is down, waits, and compares what is stored with the
// recount. hits counts the faults that met something; it may be nil. It has to be called inside a bubble of
// testing/synctest. The error names the statement that did not hold.
func Run(s *Scenario, hits *Hits, log *slog.Logger) (err error) {
	w, err := NewWorld(s.Shape, hits, log)
	if err != nil {
		return err
	}
	defer w.Close()
	for _, step := range s.Steps {
		log.Info("statement", "is", step.String(), "at", time.Since(w.start))
		if err := step.run(w); err != nil {
			return fmt.Errorf("%s (at %s): %w", step, time.Since(w.start), err)
		}
		if ahead := w.Server.ahead(); ahead != "" {
			return fmt.Errorf("%s (at %s): %s", step, time.Since(w.start), ahead)
		}
	}
	return w.settle()
}

// settle waits until all that was accepted is stored, and then for what should not come.
func (w *World) settle() error {
	w.heal()
	if err := (updateStep{}).run(w); err != nil {
		return err
	}
	w.revive()
	var err error
	for waited := time.Duration(0); waited < settleWithin; waited += settleStep {
		time.Sleep(settleStep)
		if waited == stuckAfter {
			w.unstick()
		}
		if err = w.exact(); err == nil {
			time.Sleep(settleAfter)
			if err := w.exact(); err != nil {
				return fmt.Errorf("after it was exact: %w", err)
			}
			return w.told()
		}
	}
	return fmt.Errorf("%s after all was healed: %w", settleWithin, err)
}

// unstick ends what only kfake waits for. With protocol 2 it keeps for ever what a worker had that left in order, as it
// stops that member's session timer: the worker comes back. Otherwise it starts all workers anew when their group waits
// for members to join and all have. kfake takes one off those that have joined when a member that waits for its
// assignment is removed; then only the rebalance timeout ends the wait, and each member that tries again sets it back.
func (w *World) unstick() {
	for _, group := range w.groups()[1:] {
		if w.stuck(group) {
			w.again("sink")
			break
		}
	}
	if w.shape.Protocol == 2 {
		for _, name := range sortedKeys(w.gone) {
			w.hits.add("(kfake keeps partitions for a worker that left)", 1)
			w.launch(name)
		}
		return
	}
	if w.stuck(w.cfg.Group) {
		w.again("worker")
	}
}

// stuck says whether a group waits for members to join.
func (w *World) stuck(group string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	groups, err := w.admin.DescribeGroups(ctx, group)
	return err == nil && groups[group].State == "PreparingRebalance"
}

// again starts all processes of a role anew whose group is stuck.
func (w *World) again(role string) {
	w.hits.add("(kfake stuck in a rebalance)", 1)
	for _, name := range sortedKeys(w.processes) {
		if w.processes[name].role() == role {
			w.kill(name)
			defer w.launch(name)
		}
	}
}

// told says whether progress speaks of every record in the end, and of none before it was stored.
func (w *World) told() error {
	left := w.Server.untold()
	for waited := time.Duration(0); left != "" && waited < settleWithin; waited += settleStep {
		if waited == stuckAfter {
			w.unstick()
		}
		time.Sleep(settleStep)
		left = w.Server.untold()
	}
	if ahead := w.Server.ahead(); ahead != "" {
		return errors.New(ahead)
	}
	if left != "" {
		return fmt.Errorf("progress was never told of %s", left)
	}
	return nil
}

// revive starts the processes of the shape that are down, and one of each role in any case.
func (w *World) revive() {
	need := map[string]bool{}
	for i := range w.shape.Workers {
		need[workerName(i+1)] = true
	}
	for i := range w.shape.Sinks {
		need[sinkName(i+1)] = true
	}
	for _, name := range slices.Sorted(maps.Keys(need)) {
		if w.processes[name] == nil {
			w.launch(name)
		}
	}
}
