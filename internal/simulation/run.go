package simulation

import (
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
)

// Run carries a scenario out, heals everything, starts what is down, waits, and compares what is stored with the recount.
// It has to be called inside a bubble of testing/synctest. The error names the statement that did not hold.
func Run(s *Scenario, log *slog.Logger) (err error) {
	w, err := NewWorld(s.Shape, log)
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
	w.revive()
	var err error
	for waited := time.Duration(0); waited < settleWithin; waited += settleStep {
		time.Sleep(settleStep)
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

// told says whether progress has spoken of every record in the end, and of none before it was stored.
func (w *World) told() error {
	if ahead := w.Server.ahead(); ahead != "" {
		return errors.New(ahead)
	}
	if left := w.Server.untold(); left != "" {
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
