package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/vigie-io/vigie/internal/pause"
	"github.com/vigie-io/vigie/internal/pipeline"
)

const (
	storedWait   = 200 * time.Millisecond // between two looks
	storedLogged = 10 * time.Second       // of waiting before the log says for what, and between
)

// Stored implements pipeline.Session. What is to be stored is what lies below the high watermarks of the results
// partitions after the assignment: the last owner had its results acknowledged before it added its offsets to the
// transaction, and since the assignment the group takes no offsets of an older generation (see Restore). The sink's
// group says what is stored. The session's own results partition does not count, as whatever this session writes there
// comes behind it.
//
// A source partition without committed offsets never had an owner that left anything.
func (s *Session) Stored(ctx context.Context, sources []pipeline.Partition, stored func(pipeline.Partition)) error {
	w := storedWaiter{s: s, admin: kadm.NewClient(s.restorer), began: time.Now(), logged: time.Now()}
	var owned []pipeline.Partition
	err := w.until(ctx, func() error {
		var err error
		owned, err = w.owned(ctx, sources)
		return err
	})
	if err != nil {
		return err
	}
	for _, source := range sources {
		if !slices.Contains(owned, source) {
			stored(source)
		}
	}
	if len(owned) == 0 {
		return nil
	}
	var ends map[int32]int64
	err = w.until(ctx, func() error {
		var err error
		ends, err = w.offsets(ctx, listEnds)
		delete(ends, s.result)
		return err
	})
	if err == nil {
		err = w.until(ctx, func() error { return w.reached(ctx, ends) })
	}
	if err != nil {
		return err
	}
	for _, source := range owned {
		stored(source)
	}
	return nil
}

// storedWaiter is one call of Stored.
type storedWaiter struct {
	s             *Session
	admin         *kadm.Client
	began, logged time.Time
}

// until calls look until it succeeds. The error wraps the last of it.
func (w *storedWaiter) until(ctx context.Context, look func() error) error {
	for {
		err := look()
		if err == nil {
			return nil
		}
		if time.Since(w.logged) >= storedLogged && ctx.Err() == nil {
			w.logged = time.Now()
			w.s.log.Info("progress is held until what others wrote is stored",
				"for", time.Since(w.began).Round(time.Second), "err", err)
		}
		if ended := pause.For(ctx, storedWait); ended != nil {
			return fmt.Errorf("wait until results are stored: %w (%w)", err, ended)
		}
	}
}

// owned are those of sources that somebody has committed offsets of.
func (w *storedWaiter) owned(ctx context.Context, sources []pipeline.Partition) (out []pipeline.Partition, err error) {
	// Stable: an epoch that is decided and has not reached the offsets yet counts.
	offsets, err := w.committed(kadm.RequireStable(ctx), w.s.cfg.Group)
	if err != nil {
		return nil, err
	}
	for _, source := range sources {
		if o, ok := offsets.Lookup(source.Topic, source.Partition); ok && o.At >= 0 {
			out = append(out, source)
		}
	}
	return out, nil
}

// reached says what is missing, nil when all before ends is stored.
func (w *storedWaiter) reached(ctx context.Context, ends map[int32]int64) error {
	offsets, err := w.committed(ctx, w.s.cfg.groupOf(sinkRole))
	if err != nil {
		return err
	}
	starts, err := w.offsets(ctx, listStarts)
	if err != nil {
		return err
	}
	for _, partition := range slices.Sorted(maps.Keys(ends)) {
		at := starts[partition]
		if o, ok := offsets.Lookup(w.s.cfg.Topics.Results.Name, partition); ok {
			at = max(at, o.At)
		}
		if at < ends[partition] {
			return fmt.Errorf("%s/%d is stored up to offset %d of %d", w.s.cfg.Topics.Results.Name,
				partition, at, ends[partition])
		}
		delete(ends, partition)
	}
	return nil
}

func (w *storedWaiter) committed(ctx context.Context, group string) (kadm.OffsetResponses, error) {
	offsets, err := w.admin.FetchOffsets(ctx, group)
	if err == nil {
		err = offsets.Error()
	}
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return nil, fmt.Errorf("read offsets of group %s: %w", group, err)
	}
	return offsets, nil
}

func (w *storedWaiter) offsets(ctx context.Context, list lister) (map[int32]int64, error) {
	return listed(ctx, w.admin, w.s.cfg.Topics.Results.Name, list)
}
