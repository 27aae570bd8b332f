package windows

import (
	"fmt"
	"time"
)

var _ Aligned = Hopping{}

// Hopping cuts event time into windows of Size, one of which begins every Hop; the first after 1970 begins at Offset.
// They overlap when Hop is less than Size, and then an event lies in about Size/Hop of them. To count it once, not in
// each, time is cut into slices that every window is made of whole: as wide as the greatest common divisor of Size and
// Hop (Krishnamurthy, Wu, Franklin: On-the-fly sharing for streamed aggregation, SIGMOD 2006).
type Hopping struct {
	Size   time.Duration // at least Hop
	Hop    time.Duration // above zero
	Offset time.Duration // 0 ≤ Offset < Hop
}

// Validate says what is wrong with sizes that came from outside. The other methods take a valid Hopping.
func (w Hopping) Validate() error {
	if w.Hop <= 0 || w.Hop > w.Size {
		return fmt.Errorf("hopping window every %s: want 0 < hop <= size (%s)", w.Hop, w.Size)
	}
	if w.Offset < 0 || w.Offset >= w.Hop {
		return fmt.Errorf("hopping window offset %s: want 0 <= offset < hop (%s)", w.Offset, w.Hop)
	}
	return nil
}

// Slices are the parts that all windows are made of.
func (w Hopping) Slices() Tumbling {
	a, b := w.Size, w.Hop
	for b != 0 {
		a, b = b, a%b
	}
	return Tumbling{Size: a, Offset: w.Offset % a}
}

// Slice implements Aligned.
func (w Hopping) Slice(t int64) Window { return w.Slices().Assign(t) }

// Span implements Aligned.
func (w Hopping) Span(slice Window) (first, last Window) {
	starts := Tumbling{Size: w.Hop, Offset: w.Offset}
	// The first start after t − Size is the first whose window has not ended at t.
	return w.from(starts.End(slice.Start - int64(w.Size))), w.from(starts.Start(slice.Start))
}

// Next implements Aligned.
func (w Hopping) Next(at Window) Window { return w.from(at.Start + int64(w.Hop)) }

func (w Hopping) from(start int64) Window { return Window{Start: start, End: start + int64(w.Size)} }
