package simulation

import (
	"context"
	"time"
)

// updateStep replaces the version that wrote its rows for all tiers by the present one: its processes are stopped, the
// schema is migrated, and as many processes of the present one start. What was not stored yet is in the topic of results.
type updateStep struct{}

func parseUpdate(*statement) Step { return updateStep{} }

func (updateStep) String() string { return "update" }

func (updateStep) run(w *World) error {
	if !w.earlier {
		return nil
	}
	names := sortedKeys(w.processes)
	for _, name := range names {
		w.stop(name)
	}
	w.abandoned.Wait()
	w.Server.under.Wait()
	w.noteUnstored()
	w.Server.migrate()
	w.earlier = false
	for _, name := range names {
		w.launch(name)
	}
	return nil
}

// noteUnstored counts results partitions with rows that are not stored yet.
func (w *World) noteUnstored() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	ends, stored, err := w.stored(ctx)
	if err != nil {
		return // a fault hit this request
	}
	for partition, end := range ends {
		if stored[partition] < end {
			w.hits.add(hitUpdate, 1)
		}
	}
}
