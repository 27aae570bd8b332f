package pipeline

import (
	"bytes"
	"math"

	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/sketches"
)

// paneSeconds is the width of a pane. It is part of the storage format.
const paneSeconds = 10

// paneOf returns the start, in Unix seconds, of the pane that event time t (Unix ns, ≥ 0) falls into.
func paneOf(t int64) uint32 { return uint32(t / (paneSeconds * 1e9) * paneSeconds) }

// pane accumulates what one series (or one service) got in ten seconds of event time. Minimum and maximum
// are +Inf and −Inf while unknown, which is neutral when rows merge.
type pane struct {
	start    uint32
	count    uint64
	sum      float64
	min, max float64
	sketch   sketches.Sketch
	lastTime int64
	last     float64
	lastHist []byte
}

// reset empties the pane for a new start; the sketch keeps its memory.
func (p *pane) reset(start uint32) {
	p.start, p.count, p.sum = start, 0, 0
	p.min, p.max = math.Inf(1), math.Inf(-1)
	p.lastTime, p.last, p.lastHist = 0, 0, p.lastHist[:0]
	p.sketch.Reset()
}

// value takes one number of any kind.
func (p *pane) value(v float64) {
	p.count++
	p.sum += v
	p.extremes(v, v)
}

// number takes one number of a series of the kind.
func (p *pane) number(kind events.Kind, time int64, v float64) {
	p.value(v)
	switch kind {
	case events.Observation:
		p.sketch.Add(v)
	case events.Delta:
	default:
		p.level(time, v, nil)
	}
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
	p.count += uint64(math.RoundToEven(math.Max(h.Count, 0)))
	p.sum += h.Sum
	p.extremes(h.Min, h.Max)
	p.sketch.AddExponential(h.Scale, h.ZeroCount, false, h.Positive.Offset, h.Positive.Counts)
	p.sketch.AddExponential(h.Scale, 0, true, h.Negative.Offset, h.Negative.Counts)
}

// level keeps v when it is the last of the pane. Of samples with one time the greater counts, as in storage
// (the maximum of time, value, histogram), so that order of arrival does not matter.
func (p *pane) level(t int64, v float64, hist []byte) {
	switch {
	case t < p.lastTime || t == p.lastTime && v < p.last:
	case t == p.lastTime && v == p.last && bytes.Compare(hist, p.lastHist) <= 0:
	default:
		p.lastTime, p.last, p.lastHist = t, v, append(p.lastHist[:0], hist...)
	}
}

// merge adds another pane of the same start. Levels do not merge across series and are left out.
func (p *pane) merge(other *pane) {
	p.count += other.count
	p.sum += other.sum
	p.extremes(other.min, other.max)
	p.sketch.Merge(&other.sketch)
}
