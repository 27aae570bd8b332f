package pipeline

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/vigie-io/vigie/internal/pipeline/state"
	"github.com/vigie-io/vigie/internal/tenants"
)

var _ state.Operator = (*clocks)(nil)

// clocks remember how the clocks of tenants with open windows go, as an Operator: key is the tenant; value its newest
// event time and the processing time at which it was heard of last. They close the windows of silent tenants: such a
// tenant's own clock is taken to have gone on since, so that one that is slow, fast or replays old events is not late
// when it goes on itself.
//
// How far windows are by that is kept with the windows; a tenant's watermark itself does not move.
type clocks struct {
	after   int64 // silence, ms; 0: no windows close by it
	delay   int64 // ns
	tenants map[string]clock
	dirty   map[string]struct{} // since the last Changes
	undo    state.Undo

	through int64 // of the last look, Unix ms
	watched int64 // ms that have been looked at, no step longer than maxWatch: a clock of the host that jumps is no silence
	looked  int64 // watched at the last look for silent tenants
}

type clock struct {
	newest int64 // event time, Unix ns
	seen   int64 // processing time, Unix ms
	heard  int64 // watched at that time, or at the restore
}

const (
	clockVersion = 1
	clockBytes   = 16
	maxWatch     = 10_000 // ms
	clockRhythm  = 1000   // ms between looks for silent tenants
)

func newClocks(cfg *Config) clocks {
	return clocks{
		after: cfg.IdleAfter.Milliseconds(), delay: int64(cfg.WatermarkDelay), tenants: map[string]clock{},
		dirty: map[string]struct{}{},
	}
}

// watch takes note of time that passes while the partition is read to its end: through as in Reach.
func (c *clocks) watch(through int64) {
	if through == 0 {
		return // not known
	}
	if c.through > 0 {
		c.watched += min(max(through-c.through, 0), maxWatch)
	}
	c.through = through
}

// note sets the clock of a tenant that was heard of.
func (c *clocks) note(tenant string, newest, seen int64) {
	if old, known := c.tenants[tenant]; !known || old.newest != newest || old.seen != seen {
		c.change(tenant)
	}
	c.tenants[tenant] = clock{newest, seen, c.watched}
}

// drop forgets a tenant without open windows.
func (c *clocks) drop(tenant string) {
	if _, known := c.tenants[tenant]; known {
		c.change(tenant)
		delete(c.tenants, tenant)
	}
}

func (c *clocks) change(tenant string) {
	var old []byte
	if k, known := c.tenants[tenant]; known {
		old = k.append(nil)
	}
	c.undo.Note([]byte(tenant), old)
	c.dirty[tenant] = struct{}{}
}

// silent lists the tenants that have been silent long enough, at most once in clockRhythm.
func (c *clocks) silent() (names []string) {
	if c.after == 0 || c.watched-c.looked < clockRhythm {
		return nil
	}
	c.looked = c.watched
	for name, k := range c.tenants {
		if c.watched-k.heard >= c.after {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// watermark is that of a silent tenant.
func (c *clocks) watermark(tenant string) int64 {
	k := c.tenants[tenant]
	return k.newest + max(c.through-k.seen, 0)*int64(time.Millisecond) - c.delay
}

func (k clock) append(dst []byte) []byte {
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(dst, uint64(k.newest)), uint64(k.seen))
}

// Changes implements Operator.
func (c *clocks) Changes(emit func(key, value []byte)) {
	for _, name := range slices.Sorted(maps.Keys(c.dirty)) {
		if k, known := c.tenants[name]; known {
			emit([]byte(name), k.append(nil))
		} else {
			emit([]byte(name), nil)
		}
	}
	clear(c.dirty)
}

// Settle implements Operator.
func (c *clocks) Settle(committed bool) {
	if committed {
		c.undo.Clear()
	} else {
		c.undo.Back(c.Restore)
	}
	clear(c.dirty)
}

// Restore implements Operator.
func (c *clocks) Restore(key, value []byte) error {
	if value == nil {
		delete(c.tenants, string(key))
		return nil
	}
	if err := tenants.Validate(tenants.ID(key)); err != nil {
		return fmt.Errorf("clock: %w", err)
	}
	if len(value) != clockBytes {
		return fmt.Errorf("clock of tenant %s: got %d bytes, want %d", key, len(value), clockBytes)
	}
	k := clock{int64(binary.LittleEndian.Uint64(value)), int64(binary.LittleEndian.Uint64(value[8:])), c.watched}
	if k.newest <= 0 || k.newest >= maxPaneTime || k.seen < 0 || k.seen >= maxPaneTime/int64(time.Millisecond) {
		return fmt.Errorf("clock of tenant %s: %d ns at %d ms is outside of what is admitted", key, k.newest, k.seen)
	}
	c.tenants[string(key)] = k
	return nil
}

// Len implements Operator.
func (c *clocks) Len() int { return len(c.tenants) }

// Bytes implements Operator.
func (c *clocks) Bytes() (n int64) {
	for name := range c.tenants {
		n += int64(len(name) + clockBytes)
	}
	return n
}
