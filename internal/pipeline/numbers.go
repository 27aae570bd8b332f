package pipeline

import (
	"math"

	"github.com/vigie-io/vigie/pkg/events"
)

// numbers are what is kept of values beside their distribution. Minimum and maximum are +Inf and −Inf while unknown, which is
// neutral when rows merge.
type numbers struct {
	count    uint64
	sum      float64
	min, max float64
}

func noNumbers() numbers { return numbers{min: math.Inf(1), max: math.Inf(-1)} }

// value takes one number of any kind.
func (n *numbers) value(v float64) {
	n.count++
	n.sum += v
	widen(&n.min, &n.max, v, v)
}

// histogram takes those of a pre-aggregated distribution. Fractional counts are rounded.
func (n *numbers) histogram(h *events.Histogram) {
	n.count += roundCount(h)
	n.sum += h.Sum
	widen(&n.min, &n.max, h.Min, h.Max)
}

// add takes those of other values.
func (n *numbers) add(other *numbers) {
	n.count += other.count
	n.sum += other.sum
	widen(&n.min, &n.max, other.min, other.max)
}

// widen moves a minimum and a maximum. NaN (unknown) compares false and leaves both alone.
func widen(least, most *float64, low, high float64) {
	if low < *least {
		*least = low
	}
	if high > *most {
		*most = high
	}
}
