package verify

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/tenants"
)

// rates are what tenants have used of their rates in a pass, with the limits that hold now.
type rates struct {
	limits  func(tenants.ID) tenants.Limits
	used    map[rateSlot]rateUse
	dropped map[string]uint64 // events, by tenant
}

// rateSlot is one place for a window of record timestamps.
type rateSlot struct {
	partition int32
	tenant    string
	shard     int
	slot      int64
}

type rateUse struct {
	start         int64
	events, bytes uint64
}

func newRates(limits func(tenants.ID) tenants.Limits) *rates {
	return &rates{limits: limits, used: map[rateSlot]rateUse{}, dropped: map[string]uint64{}}
}

// take says whether a record was within its tenant's rates.
func (r *rates) take(partition int32, timestamp int64, c pipeline.Charge) bool {
	if c.Tenant == "" {
		return true
	}
	l := r.limits(tenants.ID(c.Tenant))
	start := max(timestamp, 0) / int64(l.Burst)
	slot := rateSlot{partition, c.Tenant, c.Shard % l.Shards, start % pipeline.RateWindows}
	use := r.used[slot]
	if use.start != start {
		use = rateUse{start: start}
	}
	use.events += uint64(c.Events)
	use.bytes += uint64(c.Bytes)
	first := use.events == uint64(c.Events)
	if !first && (use.events > pipeline.RatePerWindow(int64(l.StreamEventsPerSecond), &l) ||
		use.bytes > pipeline.RatePerWindow(int64(l.StreamBytesPerSecond), &l)) {
		r.dropped[strings.Clone(c.Tenant)] += uint64(c.Events)
		return false
	}
	slot.tenant = strings.Clone(slot.tenant)
	r.used[slot] = use
	return true
}

func (r *rates) note(sum *Summary) {
	total, names := uint64(0), make([]string, 0, len(r.dropped))
	for name, n := range r.dropped {
		total += n
		names = append(names, name)
	}
	if total == 0 {
		return
	}
	slices.Sort(names)
	sum.Notes = append(sum.Notes,
		fmt.Sprintf("%d events of %d tenants are over the rates that hold now (first: %s) and not counted here; "+
			"if other rates held when they were processed, rows of these tenants differ",
			total, len(names), names[0]))
}
