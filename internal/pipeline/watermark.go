package pipeline

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/vigie-io/vigie/internal/pipeline/state"
	"github.com/vigie-io/vigie/internal/tenants"
)

var _ state.Operator = (*watermarks)(nil)

// watermarks are the newest event times of a task's tenants, as an Operator: key is the tenant, value its newest event
// time. With them no watermark goes back when a partition changes hands, and what was late stays late.
//
// A tenant whose series have all been forgotten rests: only its watermark is kept, until no event that could still be
// admitted is older than it, and of the most recent max_tenants.
type watermarks Task

const watermarkVersion = 1

// Changes implements Operator. Every tenant with a new event is in dirty.
func (w *watermarks) Changes(emit func(key, value []byte)) {
	var value [8]byte
	for _, tn := range w.dirty {
		if tn.newest > tn.committed {
			emit([]byte(tn.name), binary.LittleEndian.AppendUint64(value[:0], uint64(tn.newest)))
		}
	}
	for _, name := range w.gone {
		if tn := w.tenants[name]; tn == nil || tn.newest == 0 {
			emit([]byte(name), nil)
		}
	}
}

// Settle implements Operator. Readers would otherwise be told of events that have not been counted yet.
func (w *watermarks) Settle(committed bool) {
	for _, tn := range w.tenants {
		if committed {
			tn.committed = tn.newest
		} else {
			tn.newest = tn.committed
		}
	}
	if committed {
		clear(w.gone)
		w.gone = w.gone[:0]
	}
}

// Restore implements Operator. All tenants rest until they are heard of.
func (w *watermarks) Restore(key, value []byte) error {
	if value == nil {
		delete(w.resting, string(key))
		return nil
	}
	if err := tenants.Validate(tenants.ID(key)); err != nil {
		return fmt.Errorf("watermark: %w", err)
	}
	if len(value) != 8 {
		return fmt.Errorf("watermark of tenant %s: got %d bytes, want 8", key, len(value))
	}
	newest := int64(binary.LittleEndian.Uint64(value))
	if newest <= 0 || newest >= maxPaneTime {
		return fmt.Errorf("watermark of tenant %s: time %d ns is outside of what is admitted", key, newest)
	}
	w.resting[string(key)] = newest
	return nil
}

// Len implements Operator.
func (w *watermarks) Len() int { return len(w.tenants) + len(w.resting) }

// Bytes implements Operator.
func (w *watermarks) Bytes() (n int64) {
	for name := range w.tenants {
		n += int64(len(name))
	}
	for name := range w.resting {
		n += int64(len(name))
	}
	return n + 8*int64(w.Len())
}

// wake gives a tenant that turns up the watermark it had.
func (w *watermarks) wake(tn *tenant) {
	tn.newest = w.resting[tn.name]
	tn.committed = tn.newest
	delete(w.resting, tn.name)
}

// rest keeps the watermark of a tenant that is forgotten otherwise.
func (w *watermarks) rest(tn *tenant) {
	if tn.newest > 0 {
		w.resting[tn.name] = tn.newest
	}
}

// forget drops the watermarks that no event admitted from now on can meet, and those above the limit.
func (w *watermarks) forget() {
	oldest := newAdmission(&w.cfg.Config, w.drained).oldest
	var left []string
	for name, newest := range w.resting {
		if newest < oldest {
			w.drop(name)
		} else {
			left = append(left, name)
		}
	}
	if excess := len(left) - w.cfg.Config.MaxTenants; excess > 0 {
		slices.SortFunc(left,
			func(a, b string) int { return cmp.Or(cmp.Compare(w.resting[a], w.resting[b]), strings.Compare(a, b)) })
		for _, name := range left[:excess] {
			w.drop(name)
		}
	}
	slices.Sort(w.gone)
}

func (w *watermarks) drop(name string) {
	delete(w.resting, name)
	w.gone = append(w.gone, name)
}

// watermark is the event time before which no event of the tenant is expected any more, Unix nanoseconds.
func (t *Task) watermark(tn *tenant) int64 { return tn.newest - int64(t.cfg.Config.WatermarkDelay) }
