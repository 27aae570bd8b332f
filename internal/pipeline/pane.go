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

// pane accumulates what several series got in ten seconds of event time, or one in a window.
type pane struct {
	start uint32
	numbers
	sketch sketches.Sketch
}

// reset empties the pane for a new start; the sketch keeps its memory.
func (p *pane) reset(start uint32) {
	p.start, p.numbers = start, noNumbers()
	p.sketch.Reset()
}

// observe takes a pre-aggregated distribution. Fractional counts are rounded in count, not in the sketch.
func (p *pane) observe(h *events.Histogram) {
	p.histogram(h)
	observe(&p.sketch, h)
}

func roundCount(h *events.Histogram) uint64 { return uint64(math.RoundToEven(math.Max(h.Count, 0))) }

func observe(s *sketches.Sketch, h *events.Histogram) {
	s.AddExponential(h.Scale, h.ZeroCount, false, h.Positive.Offset, h.Positive.Counts)
	s.AddExponential(h.Scale, 0, true, h.Negative.Offset, h.Negative.Counts)
}

// merge adds another pane of the same start.
func (p *pane) merge(other *pane) {
	p.add(&other.numbers)
	p.sketch.Merge(&other.sketch)
}
