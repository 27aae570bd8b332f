package simulation

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"time"
)

// renewResults deletes the topic of results and makes it again while sinks and mergers run. What had been read of it has
// to be known: all that was published before is processed, stored and merged, and no worker runs.
func (w *World) renewResults() error {
	if w.earlier {
		return nil
	}
	launch, err := w.pause()
	if err != nil {
		return err
	}
	if err := w.drained(); err != nil {
		return err
	}
	if err := w.cluster.DeleteTopic(w.cfg.Topics.Results.Name); err != nil {
		return fmt.Errorf("delete %s: %w", w.cfg.Topics.Results.Name, err)
	}
	if err := ensureTopics(w.cfg, w.log); err != nil {
		return err
	}
	w.hits.add(hitRenew, 1)
	launch()
	return nil
}

// drained waits until all results are stored and merged.
func (w *World) drained() error {
	var left string
	for waited := time.Duration(0); waited < settleWithin; waited += settleStep {
		var err error
		if left, err = w.undrained(); err == nil && left == "" {
			return nil
		} else if err != nil {
			left = err.Error()
		}
		if waited == stuckAfter {
			w.unstick()
		}
		time.Sleep(settleStep)
	}
	return errors.New("not stored and merged: " + left)
}

// undrained names a partition of results that is not stored and merged, "" when there is none.
func (w *World) undrained() (left string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	topic := w.cfg.Topics.Results.Name
	ends, err := w.admin.ListEndOffsets(ctx, topic)
	if err := errors.Join(err, ends.Error()); err != nil {
		return "", fmt.Errorf("list ends of %s: %w", topic, err)
	}
	stored, err := w.admin.FetchOffsets(ctx, w.groups()[1])
	if err != nil {
		return "", fmt.Errorf("fetch the offsets of %s: %w", w.groups()[1], err)
	}
	merged, err := w.merged(ctx)
	if err != nil {
		return "", err
	}
	for partition, end := range ends[topic] {
		if at, _ := stored.Lookup(topic, partition); end.Offset > 0 && min(at.At, merged[partition]) < end.Offset {
			left = fmt.Sprintf("%s/%d to %d", topic, partition, end.Offset)
		}
	}
	return left, nil
}

// merged is up to where the partitions of the results are merged, and that is stored.
func (w *World) merged(ctx context.Context) (map[int32]int64, error) {
	topic := w.cfg.Topics.Results.Name
	details, err := w.admin.ListTopics(ctx, topic)
	if err = errors.Join(err, details.Error()); err != nil {
		return nil, fmt.Errorf("look up topic %s: %w", topic, err)
	}
	id := details[topic].ID
	return w.Server.reached(base64.RawURLEncoding.EncodeToString(id[:])), nil
}
