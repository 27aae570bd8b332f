package promql

// grid of evaluation times, Unix ms: start, start+step … not after end. Empty when start > end.
type evaluations struct {
	start, end, step int64
}

// align moves evaluations to borders of windows, where answers are exact.
//
// An instant (step 0) goes back to the last border of 10 s, and not past the watermark. The step of a range is
// rounded up to whole windows (10 s; 1 m when the query reaches so far back that only wider ones are kept) and
// its start down: to a border, or, when the step had to change, to a multiple of the new step, so that a
// dashboard that refreshes meets the same times again. Nothing is evaluated after the watermark.
func align(start, end, step, clamp int64, base Tier) evaluations {
	if step == 0 {
		at := floor(min(start, clamp), Tier10s.millis())
		return evaluations{at, at, 0}
	}
	unit := min(base, Tier1m).millis()
	to := evaluations{start: floor(start, unit), end: min(end, clamp), step: ceil(step, unit)}
	if to.step != step {
		to.start = floor(start, to.step)
	}
	return to
}
