package pipeline

import (
	"math"

	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/sketches"
)

// distribution is what values add up to: numbers, and a sketch. The zero value is to be reset before it is used.
type distribution struct {
	numbers
	sketch sketches.Sketch
}

// reset empties the distribution; the sketch keeps its memory.
func (d *distribution) reset() {
	d.numbers = noNumbers()
	d.sketch.Reset()
}

// take adds what one event measures. Of a delta only the numbers are kept.
func (d *distribution) take(m *measurement) {
	if m.histogram != nil {
		d.observe(m.histogram)
		return
	}
	d.value(m.value)
	if m.kind == events.Observation {
		d.sketch.Add(m.value)
	}
}

// observe takes a pre-aggregated distribution. Fractional counts are rounded in count, not in the sketch.
func (d *distribution) observe(h *events.Histogram) {
	d.histogram(h)
	observe(&d.sketch, h)
}

// merge adds another distribution.
func (d *distribution) merge(other *distribution) {
	d.add(&other.numbers)
	d.sketch.Merge(&other.sketch)
}

// roundCount is the count of a pre-aggregated distribution as a whole number.
func roundCount(h *events.Histogram) uint64 { return uint64(math.RoundToEven(math.Max(h.Count, 0))) }

// observe adds a pre-aggregated distribution to a sketch.
func observe(s *sketches.Sketch, h *events.Histogram) {
	s.AddExponential(h.Scale, h.ZeroCount, false, h.Positive.Offset, h.Positive.Counts)
	s.AddExponential(h.Scale, 0, true, h.Negative.Offset, h.Negative.Counts)
}
