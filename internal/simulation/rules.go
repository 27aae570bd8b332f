package simulation

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// rulesStep gives all workers another set of windowed rollups, as a new configuration does. Windows that are open
// finish as they began. Which events are of which set has to be known: all faults end, all that was published is
// processed, and all workers stop before the first starts with the new set.
type rulesStep struct{ set int }

func parseRules(s *statement) Step { return rulesStep{s.number("set of rollups", 1, len(declared))} }

func (r rulesStep) String() string { return "rules " + strconv.Itoa(r.set) }

func (r rulesStep) run(w *World) error {
	w.heal()
	w.revive()
	if err := w.processed(); err != nil {
		return err
	}
	var stopped []string
	for _, name := range sortedKeys(w.processes) {
		if w.processes[name].role() == "worker" {
			w.stop(name)
			stopped = append(stopped, name)
		}
	}
	if w.shape.Windows > 0 && w.Recount.windows.set != r.set {
		w.hits.add(hitRules, 1)
	}
	w.Recount.windows.set = r.set
	for _, name := range stopped {
		w.launch(name)
	}
	return nil
}

// processed waits until the workers have committed all metrics there are.
func (w *World) processed() error {
	var left string
	for waited := time.Duration(0); waited < settleWithin; waited += settleStep {
		var err error
		if left, err = w.unprocessed(); err == nil && left == "" {
			return nil
		} else if err != nil {
			left = err.Error()
		}
		if waited == stuckAfter {
			w.unstick()
		}
		time.Sleep(settleStep)
	}
	return errors.New("not processed: " + left)
}

// unprocessed names a partition of metrics that has more than the group has read, "" when there is none.
func (w *World) unprocessed() (left string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	topic := w.cfg.Topics.Metrics.Name
	ends, err := w.admin.ListEndOffsets(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return "", fmt.Errorf("list offsets of %s: %w", topic, err)
	}
	committed, err := w.admin.FetchOffsets(ctx, w.cfg.Group)
	if err != nil {
		return "", fmt.Errorf("fetch the offsets of %s: %w", w.cfg.Group, err)
	}
	ends.Each(func(end kadm.ListedOffset) {
		at, known := committed.Lookup(topic, end.Partition)
		if end.Offset > 0 && (!known || at.At < end.Offset) {
			left = fmt.Sprintf("%s/%d to %d", topic, end.Partition, end.Offset)
		}
	})
	return left, nil
}
