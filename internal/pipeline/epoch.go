package pipeline

import "time"

// An epoch should be so many times longer than its own end: ending epochs costs at most about a tenth of the time of a
// worker that is busy, and a third of one that is not, which has it to spare: results are as fresh as brokers allow.
const (
	busyShare = 10
	idleShare = 2
)

// pace chooses the length of the next epoch from what the last one cost.
type pace struct {
	cfg    EpochConfig
	length time.Duration
	late   time.Duration // what an epoch may last, when that is more, while its results are late anyway
}

// newPace begins with an epoch of little more than what the first fetch brings: readers have waited for the session's
// first results already, and in a backlog nearly each event of a short epoch is a row of its own.
func newPace(cfg EpochConfig) pace { return pace{cfg: cfg, length: cfg.Min / 16} }

// ended takes the cost of an epoch: the time to drain, encode and commit it, and its rows. The next is long enough for
// this cost, given the share of the epoch that was not spent waiting for records (from a half on the worker counts as
// busy), and for the same rows to stay within the rate. Length grows at once with rows, doubles at most with cost, and
// shrinks by half at most, so that one slow or empty epoch among others does not make it swing: a commit that waited
// for brokers to come back says nothing about the next.
func (p *pace) ended(cost time.Duration, busy float64, rows int) {
	times := idleShare + (busyShare-idleShare)*min(2*busy, 1)
	forCost := min(time.Duration(times*float64(cost)), 2*p.length)
	forRows := time.Duration(rows) * time.Second / time.Duration(p.cfg.RowsPerSecond)
	p.length = min(max(forCost, forRows, p.length/2, p.cfg.Min), p.cfg.Max)
	p.late = min(max(2*p.late, p.cfg.Max), p.cfg.Backlog)
}

// Storing is how ClickHouse keeps up with the results of epochs.
type Storing struct {
	Waits time.Duration // for how long the oldest result has been there, stored by nobody
	Takes time.Duration // to store the results of an epoch
}

// storeShare is how many times longer an epoch should be than it takes to store its results: else most of ClickHouse's time
// is for inserts, and results wait while it merges what they bring.
const storeShare = 2

// pressed is what an epoch may last for the sake of ClickHouse, which gets fewer rows of longer epochs. While results have
// to wait before they are stored it is half of that, so that who waits for them waits half as long again at most.
func (p *pace) pressed(s Storing) time.Duration {
	return max(p.length, min(storeShare*s.Takes, p.cfg.Max), min(s.Waits/2, p.late))
}

// aborted takes an epoch that is to be done again. However often that happens, epochs become short enough to come
// through.
func (p *pace) aborted() { p.late /= 2 }

// ending is why an epoch ends; none is empty.
type ending string

const (
	endLength   ending = "length"
	endBacklog  ending = "backlog"
	endCaughtUp ending = "caught_up"
	endPressed  ending = "results"
	endStarved  ending = "starved"
	endBytes    ending = "bytes"
	endLetters  ending = "letters"
	endCut      ending = "bad_batch"
	endRevoked  ending = "revoked"
	endStop     ending = "stop"
)

var endings = [...]ending{
	endLength, endBacklog, endCaughtUp, endStarved, endPressed, endBytes, endLetters, endCut, endRevoked, endStop,
}

const endingsHelp = "length (the pace of the load), backlog (the most that one of a backlog may last), " +
	"caught_up (longer than its length for a backlog, until a partition was read to where its log ended when the epoch " +
	"began, and for as long again or to a newer record), starved (the same, until a poll brought nothing), " +
	"results (longer than its length, as ClickHouse takes long to store results), bytes (epoch.max_bytes), " +
	"letters (16 MiB of dead letters), bad_batch, revoked (a partition was taken away), stop (of the worker)"
