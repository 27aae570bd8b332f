package pipeline

import (
	"cmp"
	"maps"
	"slices"
	"strconv"

	"github.com/vigie-io/vigie/internal/pipeline/counters"
	"github.com/vigie-io/vigie/internal/pipeline/windowed"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
)

// limitMinute is the width of what api.limits shows, and how often an active tenant's use is reported, in milliseconds.
const limitMinute = 60_000

// LimitRows say what tenants may use, have used and have lost, by the reason that events over the limit are dropped or
// refused for. Lost events are in exactly one row, of the epoch that lost them.
type LimitRows struct {
	Tenant  []string
	Signal  []string
	Reason  []string
	Part    []string // topic/partition
	Minute  []uint32 // start, Unix seconds of processing time
	Told    []int64  // Unix milliseconds of processing time
	Most    []uint64 // the limit in force; 0 when there is no number
	Used    []uint64 // of Most; rates are a part's share, to be added up
	Dropped []uint64 // events of the epoch
}

// limitReasons are those of limits whose use is reported also when nothing is lost.
var limitReasons = []events.Reason{ReasonRateBytes, ReasonRateEvents, ReasonSeriesLimit}

// limited says whether events are lost for the reason because a limit was reached. What is too late for its window,
// say, is not.
func limited(reason events.Reason) bool {
	switch reason {
	case ReasonRateBytes, ReasonRateEvents, ReasonSeriesLimit, ReasonSeriesBytes, windowed.ReasonWindowLimit,
		counters.ReasonCounterLimit, events.ReasonTooManyLabels, events.ReasonTooLong:
		return true
	}
	return false
}

// drainLimits appends what the epoch lost, and the use of tenants that were active in it and of whom nothing was
// reported in this minute, or since their limits changed. Whose record did not say whose it is, is left to the
// counters.
func (t *Task) drainLimits(out *Outputs) {
	rows := make(map[TenantReason]uint64)
	for _, lost := range []map[TenantReason]uint64{t.tally.Dropped, t.tally.Refused} {
		for key, n := range lost {
			if limited(key.Reason) {
				rows[key] += n
			}
		}
	}
	for _, tn := range t.dirty {
		if t.drained/limitMinute == tn.limited/limitMinute {
			continue
		}
		t.limiting = append(t.limiting, tn)
		for _, reason := range limitReasons {
			rows[TenantReason{tn.name, reason}] += 0
		}
	}
	if len(rows) == 0 {
		return
	}
	for _, key := range slices.SortedFunc(maps.Keys(rows), func(a, b TenantReason) int {
		return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.Reason, b.Reason))
	}) {
		if key.Tenant != "" {
			most, used := t.use(key)
			out.Limits.add(t, key, most, used, rows[key])
		}
	}
}

// use is a limit of a tenant and what it has used of it; zeros when it is no number.
func (t *Task) use(key TenantReason) (most, used uint64) {
	l := t.limits.For(tenants.ID(key.Tenant))
	switch key.Reason {
	case ReasonSeriesLimit:
		if tn := t.tenants[key.Tenant]; tn != nil {
			used = uint64(tn.table.Len())
		}
		return uint64(l.ActiveSeries), used
	case ReasonSeriesBytes:
		if tn := t.tenants[key.Tenant]; tn != nil {
			used = uint64(tn.bytes)
		}
		return uint64(l.SeriesBytes), used
	case ReasonRateEvents:
		used, _ = t.rates.used(key.Tenant, &l)
		return uint64(l.StreamEventsPerSecond), used
	case ReasonRateBytes:
		_, used = t.rates.used(key.Tenant, &l)
		return uint64(l.StreamBytesPerSecond), used
	case counters.ReasonCounterLimit:
		return uint64(l.ActiveSeries), 0
	case events.ReasonTooManyLabels:
		return uint64(l.MaxLabels), 0
	}
	return 0, 0
}

// used is what a second of the fullest recent window of each of the tenant's shards holds.
func (r *rates) used(tenant string, l *tenants.Limits) (events, bytes uint64) {
	for shard := range l.Shards {
		m := r.meters[meterKey{tenant, shard}]
		if m == nil {
			continue
		}
		var fullest rateWindow
		for _, w := range m.now {
			fullest.events, fullest.bytes = max(fullest.events, w.events), max(fullest.bytes, w.bytes)
		}
		events += fullest.events
		bytes += fullest.bytes
	}
	second := l.Burst.Seconds()
	return uint64(float64(events) / second), uint64(float64(bytes) / second)
}

func (r *LimitRows) add(t *Task, key TenantReason, most, used, dropped uint64) {
	r.Tenant = append(r.Tenant, key.Tenant)
	r.Signal = append(r.Signal, string(t.cfg.Signal))
	r.Reason = append(r.Reason, string(key.Reason))
	r.Part = append(r.Part, t.cfg.Partition.Topic+"/"+strconv.Itoa(int(t.cfg.Partition.Partition)))
	r.Minute = append(r.Minute, uint32((t.drained-t.drained%limitMinute)/1000))
	r.Told = append(r.Told, t.drained)
	r.Most = append(r.Most, most)
	r.Used = append(r.Used, used)
	r.Dropped = append(r.Dropped, dropped)
}

// settleLimits follows a drain: what was reported with a committed epoch need not be reported again at once.
func (t *Task) settleLimits(committed bool) {
	if committed {
		for _, tn := range t.limiting {
			tn.limited = t.drained
		}
	}
	clear(t.limiting)
	t.limiting = t.limiting[:0]
}

// blocks calls fn for parts of the rows that are within the bounds of a block.
func (r *LimitRows) blocks(cfg *Config, fn func(*LimitRows) error) error {
	// A row takes less than 128 bytes beside its topic, of 249 at most.
	return parts(cfg, len(r.Tenant), 512, func(from, to int) error {
		return fn(&LimitRows{
			Tenant: r.Tenant[from:to], Signal: r.Signal[from:to], Reason: r.Reason[from:to],
			Part: r.Part[from:to], Minute: r.Minute[from:to],
			Told: r.Told[from:to], Most: r.Most[from:to], Used: r.Used[from:to], Dropped: r.Dropped[from:to],
		})
	})
}
