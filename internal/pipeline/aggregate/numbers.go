// Package aggregate adds up what events measure: count, sum, extremes, and the distribution of values. It knows no
// time, series or tenant. One goroutine uses a value.
package aggregate

import (
	"math"

	"github.com/vigie-io/vigie/pkg/events"
)

// Numbers are what is kept of values beside their distribution. Minimum and maximum are +Inf and −Inf while unknown,
// which is neutral when rows merge.
type Numbers struct {
	Count    uint64
	Sum      float64
	Min, Max float64
}

// NoNumbers are those of no values.
func NoNumbers() Numbers { return Numbers{Min: math.Inf(1), Max: math.Inf(-1)} }

// Add takes one number of any kind.
func (n *Numbers) Add(v float64) {
	n.Count++
	n.Sum += v
	Widen(&n.Min, &n.Max, v, v)
}

// AddHistogram takes the numbers of a pre-aggregated distribution. Fractional counts are rounded.
func (n *Numbers) AddHistogram(h *events.Histogram) {
	n.Count += Count(h)
	n.Sum += h.Sum
	Widen(&n.Min, &n.Max, h.Min, h.Max)
}

// Merge takes the numbers of other values.
func (n *Numbers) Merge(other *Numbers) {
	n.Count += other.Count
	n.Sum += other.Sum
	Widen(&n.Min, &n.Max, other.Min, other.Max)
}

// Widen moves a minimum and a maximum. NaN (unknown) compares false and leaves both alone.
func Widen(least, most *float64, low, high float64) {
	if low < *least {
		*least = low
	}
	if high > *most {
		*most = high
	}
}
