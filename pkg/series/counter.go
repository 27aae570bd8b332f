package series

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// ErrCounterState means that bytes are no state of a Counter: cut short, of another version, or impossible.
var ErrCounterState = errors.New("not a counter state")

const counterVersion = 1

// CounterSample is one reading of a running total. Times are Unix nanoseconds; Start is when the total was last
// zero, 0 when unknown. Sum is that of a histogram or summary whose count is Value, and 0 for a plain counter.
type CounterSample struct {
	Time, Start int64
	Value, Sum  float64
}

// CounterOutcome says what Add made of a sample.
type CounterOutcome uint8

// Outcomes of Add. Only Counted and Reset come with a delta.
const (
	// Counted means that the delta is what the total grew by since the sample before.
	Counted CounterOutcome = iota
	// Reset means that the total began again from zero: the delta is the whole value.
	Reset
	// Based means that the sample only sets what the next one is compared with.
	Based
	// Duplicate means that the newest sample came again, whatever its value: ignored, as the first one counted.
	Duplicate
	// OutOfOrder means that the sample is older than the newest: refused, its growth is in a delta already.
	OutOfOrder
	// Stale means NaN, Prometheus' stale marker: ignored, because increase() compares across it.
	Stale
	// Invalid means a negative or infinite value, or a sum that is not finite: refused.
	Invalid
)

var counterOutcomes = [...]string{"counted", "reset", "based", "duplicate", "out_of_order", "stale", "invalid"}

// String is the outcome as a reason in metrics.
func (o CounterOutcome) String() string {
	if int(o) < len(counterOutcomes) {
		return counterOutcomes[o]
	}
	return "unknown"
}

// Counter turns the samples of one cumulative series into deltas. Without start times the deltas add up to what
// PromQL's increase sees between the first and the last sample before it extrapolates. The zero Counter has seen
// nothing. Not safe for concurrent use.
type Counter struct {
	last CounterSample
	seen bool
}

// Add takes the next sample. since is where the observation of the series begins, in Unix nanoseconds: a first
// sample whose Start is at or after it counts from zero, any other first sample is Based. No allocation.
//
// The total was reset when Value fell, or when Start is at or after the sample before. A Start that moved less far
// is a clock's jitter: the process that the older sample came from was then still running. A Sum decides nothing,
// since negative observations make it fall.
func (c *Counter) Add(s CounterSample, since int64) (value, sum float64, outcome CounterOutcome) {
	switch {
	case math.IsNaN(s.Value):
		return 0, 0, Stale
	case s.Value < 0 || math.IsInf(s.Value, 0) || math.IsNaN(s.Sum) || math.IsInf(s.Sum, 0):
		return 0, 0, Invalid
	case c.seen && s.Time < c.last.Time:
		return 0, 0, OutOfOrder
	case c.seen && s.Time == c.last.Time:
		return 0, 0, Duplicate
	}
	before, seen := c.last, c.seen
	c.last, c.seen = s, true
	switch {
	case !seen && s.Start != 0 && s.Start >= since && s.Start <= s.Time:
		return s.Value, s.Sum, Counted
	case !seen:
		return 0, 0, Based
	case s.Value < before.Value || s.Start > before.Start && s.Start >= before.Time && s.Start <= s.Time:
		return s.Value, s.Sum, Reset
	}
	return s.Value - before.Value, s.Sum - before.Sum, Counted
}

// AppendBinary appends the state (docs/format/counter.md). The error is always nil.
func (c *Counter) AppendBinary(b []byte) ([]byte, error) {
	if !c.seen {
		return append(b, counterVersion, 0), nil
	}
	b = append(b, counterVersion, 1)
	b = binary.AppendVarint(b, c.last.Time)
	b = binary.AppendVarint(b, c.last.Start)
	b = binary.LittleEndian.AppendUint64(b, math.Float64bits(c.last.Value))
	return binary.LittleEndian.AppendUint64(b, math.Float64bits(c.last.Sum)), nil
}

// UnmarshalBinary reads a state that fills b; c stays as it is on error (ErrCounterState).
func (c *Counter) UnmarshalBinary(b []byte) error {
	if len(b) < 2 || b[0] != counterVersion || b[1] > 1 {
		return fmt.Errorf("decode counter % .2x: %w", b[:min(2, len(b))], ErrCounterState)
	}
	if b[1] == 0 {
		if len(b) != 2 {
			return fmt.Errorf("decode counter: %d bytes after an empty state: %w", len(b)-2, ErrCounterState)
		}
		*c = Counter{}
		return nil
	}
	rest := b[2:]
	var times [2]int64
	for i := range times {
		v, n := binary.Varint(rest)
		if n <= 0 {
			return fmt.Errorf("decode counter: time %d cut short or too long: %w", i, ErrCounterState)
		}
		times[i], rest = v, rest[n:]
	}
	if len(rest) != 16 {
		return fmt.Errorf("decode counter: %d bytes of values, want 16: %w", len(rest), ErrCounterState)
	}
	value := math.Float64frombits(binary.LittleEndian.Uint64(rest))
	sum := math.Float64frombits(binary.LittleEndian.Uint64(rest[8:]))
	if !(value >= 0) || math.IsInf(value, 1) || math.IsNaN(sum) || math.IsInf(sum, 0) {
		return fmt.Errorf("decode counter: value %v, sum %v: %w", value, sum, ErrCounterState)
	}
	*c = Counter{CounterSample{times[0], times[1], value, sum}, true}
	return nil
}
