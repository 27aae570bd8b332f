package aggregate

import (
	"math"

	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/sketches"
)

// Distribution is what values add up to. Reset it before its first use: the zero value has wrong extremes.
type Distribution struct {
	Numbers
	Sketch sketches.Sketch
}

// Reset empties the distribution; the sketch keeps its memory.
func (d *Distribution) Reset() {
	d.Numbers = NoNumbers()
	d.Sketch.Reset()
}

// Take adds what one event measures. Of a delta only the numbers are kept.
func (d *Distribution) Take(m *Measurement) {
	if m.Histogram != nil {
		d.observe(m.Histogram)
		return
	}
	d.Add(m.Value)
	if m.Kind == events.Observation {
		d.Sketch.Add(m.Value)
	}
}

// observe takes a pre-aggregated distribution. Fractional counts are rounded in Count, not in the sketch.
func (d *Distribution) observe(h *events.Histogram) {
	d.AddHistogram(h)
	Observe(&d.Sketch, h)
}

// Merge adds another distribution.
func (d *Distribution) Merge(other *Distribution) {
	d.Numbers.Merge(&other.Numbers)
	d.Sketch.Merge(&other.Sketch)
}

// Count is the count of a pre-aggregated distribution as a whole number.
func Count(h *events.Histogram) uint64 { return uint64(math.RoundToEven(math.Max(h.Count, 0))) }

// Observe adds a pre-aggregated distribution to a sketch.
func Observe(s *sketches.Sketch, h *events.Histogram) {
	s.AddExponential(h.Scale, h.ZeroCount, false, h.Positive.Offset, h.Positive.Counts)
	s.AddExponential(h.Scale, 0, true, h.Negative.Offset, h.Negative.Counts)
}
