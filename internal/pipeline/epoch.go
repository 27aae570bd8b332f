package pipeline

import "time"

// commitShare is how many times longer than its own end an epoch should be, so that ending epochs costs at most
// about a tenth of the time.
const commitShare = 10

// pace chooses the length of the next epoch from what the last one cost.
type pace struct {
	cfg    EpochConfig
	length time.Duration
}

func newPace(cfg EpochConfig) pace { return pace{cfg: cfg, length: cfg.Min} }

// ended takes the cost of an epoch: the time to drain, encode and commit it, and its rows. The next is long enough
// that this cost is a tenth of it and that the same rows stay within the rate. Length grows at once and shrinks by
// half at most, so that one slow or empty epoch among others does not make it swing.
func (p *pace) ended(cost time.Duration, rows int) {
	want := max(commitShare*cost, time.Duration(rows)*time.Second/time.Duration(p.cfg.RowsPerSecond))
	p.length = min(max(want, p.length/2, p.cfg.Min), p.cfg.Max)
}
