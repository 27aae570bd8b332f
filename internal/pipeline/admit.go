package pipeline

import (
	"time"

	"github.com/vigie-io/vigie/pkg/events"
)

// Reasons that the pipeline adds to those of package events (it also uses ReasonTooOld and ReasonTooNew).
const (
	// ReasonBadReplayHeader refuses a record whose vigie-only header is not a list of event indexes.
	ReasonBadReplayHeader events.Reason = "bad_replay_header"
	// ReasonBadBatch refuses the records of a batch that cannot be unpacked, or takes too much memory then: all as one.
	ReasonBadBatch events.Reason = "bad_batch"
	// ReasonSeriesLimit drops an event of a new series of a tenant that has its full number active.
	ReasonSeriesLimit events.Reason = "series_limit"
	// ReasonSeriesBytes does the same when what the active ones are called has its full size.
	ReasonSeriesBytes events.Reason = "series_bytes"
	// ReasonRateEvents drops the events of a record that is over its tenant's events per second.
	ReasonRateEvents events.Reason = "rate_events"
	// ReasonRateBytes drops the events of a record that is over its tenant's bytes per second.
	ReasonRateBytes events.Reason = "rate_bytes"
	// ReasonTenantLimit drops an event of a new tenant of a task that has its full number of tenants.
	ReasonTenantLimit events.Reason = "tenant_limit"
)

// maxPaneTime is the first event time whose pane does not fit into Rollups.Pane.
const maxPaneTime = (int64(1)<<32 - paneSeconds) * int64(time.Second)

// admission is the span of event times that are taken, bounds included.
type admission struct {
	oldest, newest int64 // Unix nanoseconds
	now            int64 // Unix milliseconds
}

func newAdmission(cfg *Config, now int64) admission {
	nanos := now * int64(time.Millisecond)
	return admission{
		oldest: max(nanos-int64(cfg.MaxPast), 0),
		newest: min(nanos+int64(cfg.MaxFuture), maxPaneTime-1),
		now:    now,
	}
}

// admits says whether an event at t is taken.
func (a *admission) admits(t int64) bool { return t >= a.oldest && t <= a.newest }

// refusal says why an event at t is not.
func (a *admission) refusal(cfg *Config, t int64) (reason events.Reason, detail string) {
	// A producer's wrong clock makes one of these of each event: fmt would take half the time of its dead letter.
	at, now := time.Unix(0, t).UTC().Format(time.RFC3339Nano), time.UnixMilli(a.now).UTC().Format(time.RFC3339Nano)
	if t < a.oldest {
		return events.ReasonTooOld,
			"time " + at + ": more than max_past (" + cfg.MaxPast.String() + ") before " + now + ", when it was processed"
	}
	return events.ReasonTooNew, "time " + at + ": more than max_future (" + cfg.MaxFuture.String() + ") after " + now +
		", when it was processed: check the producer's clock and unit of time"
}
