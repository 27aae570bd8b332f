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
	launch, err := w.pause()
	if err != nil {
		return err
	}
	if w.shape.Windows > 0 && w.Recount.windows.set != r.set {
		w.hits.add(hitRules, 1)
	}
	w.Recount.windows.set = r.set
	launch()
	return nil
}

// pause ends all faults, waits until all metrics are processed, and stops all workers. launch starts them again.
func (w *World) pause() (launch func(), err error) {
	w.heal()
	w.revive()
	if err := w.processed(); err != nil {
		return nil, err
	}
	var stopped []string
	for _, name := range sortedKeys(w.processes) {
		if w.processes[name].role() == "worker" {
			w.stop(name)
			stopped = append(stopped, name)
		}
	}
	return func() {
		for _, name := range stopped {
			w.launch(name)
		}
	}, nil
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

// unprocessed names a partition of metrics that has records which the group has not read, "" when there is none.
func (w *World) unprocessed() (left string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	topic := w.cfg.Topics.Metrics.Name
	starts, err := w.admin.ListStartOffsets(ctx, topic)
	ends, failed := w.admin.ListEndOffsets(ctx, topic)
	if err := errors.Join(err, failed, starts.Error(), ends.Error()); err != nil {
		return "", fmt.Errorf("list offsets of %s: %w", topic, err)
	}
	committed, err := w.admin.FetchOffsets(ctx, w.cfg.Group)
	if err != nil {
		return "", fmt.Errorf("fetch the offsets of %s: %w", w.cfg.Group, err)
	}
	ends.Each(func(end kadm.ListedOffset) {
		at, _ := committed.Lookup(topic, end.Partition)
		start, _ := starts.Lookup(topic, end.Partition)
		if max(at.At, start.Offset) < end.Offset {
			left = fmt.Sprintf("%s/%d to %d", topic, end.Partition, end.Offset)
		}
	})
	return left, nil
}
