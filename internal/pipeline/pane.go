package pipeline

import (
	"math"

	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/sketches"
)

// paneSeconds is the width of a pane. It is part of the storage format.
const paneSeconds = 10

// paneOf returns the start of the pane that a second falls into, both Unix seconds.
func paneOf(second uint32) uint32 { return second - second%paneSeconds }

// pane accumulates what several series got in ten seconds of event time, or one in a window. Minimum and maximum
// are +Inf and −Inf while unknown, which is neutral when rows merge.
type pane struct {
	start    uint32
	count    uint64
	sum      float64
	min, max float64
	sketch   sketches.Sketch
}

// reset empties the pane for a new start; the sketch keeps its memory.
func (p *pane) reset(start uint32) {
	p.start, p.count, p.sum = start, 0, 0
	p.min, p.max = math.Inf(1), math.Inf(-1)
	p.sketch.Reset()
}

// value takes one number of any kind.
func (p *pane) value(v float64) {
	p.count++
	p.sum += v
	p.extremes(v, v)
}

func (p *pane) extremes(low, high float64) {
	// NaN (unknown) compares false and leaves both alone.
	if low < p.min {
		p.min = low
	}
	if high > p.max {
		p.max = high
	}
}

// observe takes a pre-aggregated distribution. Fractional counts are rounded in count, not in the sketch.
func (p *pane) observe(h *events.Histogram) {
	p.count += roundCount(h)
	p.sum += h.Sum
	p.extremes(h.Min, h.Max)
	observe(&p.sketch, h)
}

func roundCount(h *events.Histogram) uint64 { return uint64(math.RoundToEven(math.Max(h.Count, 0))) }

func observe(s *sketches.Sketch, h *events.Histogram) {
	s.AddExponential(h.Scale, h.ZeroCount, false, h.Positive.Offset, h.Positive.Counts)
	s.AddExponential(h.Scale, 0, true, h.Negative.Offset, h.Negative.Counts)
}

// merge adds another pane of the same start.
func (p *pane) merge(other *pane) {
	p.count += other.count
	p.sum += other.sum
	p.extremes(other.min, other.max)
	p.sketch.Merge(&other.sketch)
}
