package windows

// Aligned are windows whose bounds do not depend on the events: tumbling, hopping, calendar. (Session windows do.)
type Aligned interface {
	// Slice is the part of time that an event at t is accumulated in. Every window is made of whole slices.
	Slice(t int64) Window
	// Span is the first and the last of the windows that a slice is part of; it is part of all between.
	Span(slice Window) (first, last Window)
	// Next is the window after w. Both its bounds are greater.
	Next(w Window) Window
}

var _ Aligned = Tumbling{}

// Slice implements Aligned: a tumbling window is its own slice.
func (w Tumbling) Slice(t int64) Window { return w.Assign(t) }

// Span implements Aligned.
func (w Tumbling) Span(slice Window) (first, last Window) { return slice, slice }

// Next implements Aligned.
func (w Tumbling) Next(at Window) Window { return Window{Start: at.End, End: at.End + int64(w.Size)} }
