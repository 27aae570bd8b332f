package simulation

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
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
	ends, stored, err := w.stored(ctx)
	if err != nil {
		return "", err
	}
	merged, err := w.merged(ctx)
	if err != nil {
		return "", err
	}
	for partition, end := range ends {
		if min(stored[partition], merged[partition]) < end {
			left = fmt.Sprintf("%s/%d to %d", w.cfg.Topics.Results.Name, partition, end)
		}
	}
	return left, nil
}

// stored is where the partitions of the results end, and up to where they are stored.
func (w *World) stored(ctx context.Context) (ends, stored map[int32]int64, err error) {
	topic := w.cfg.Topics.Results.Name
	listed, err := w.admin.ListEndOffsets(ctx, topic)
	if err := errors.Join(err, listed.Error()); err != nil {
		return nil, nil, fmt.Errorf("list ends of %s: %w", topic, err)
	}
	group := w.groups()[1]
	committed, err := w.admin.FetchOffsets(ctx, group)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return nil, nil, fmt.Errorf("fetch the offsets of %s: %w", group, err)
	}
	ends, stored = map[int32]int64{}, map[int32]int64{}
	for partition, end := range listed[topic] {
		at, _ := committed.Lookup(topic, partition)
		ends[partition], stored[partition] = end.Offset, at.At
	}
	return ends, stored, nil
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
