package pipeline

import "github.com/vigie-io/vigie/pkg/events"

// Tally counts what a task did since its last drain. It becomes metrics only when the epoch commits, so that
// counters, too, count every record once.
type Tally struct {
	Records uint64
	Bytes   uint64 // of keys and values
	Events  uint64 // accumulated, counting what OTLP histograms fan out to
	NoTime  uint64 // events that took their record's timestamp
	Stale   uint64 // markers skipped
	Coarse  uint64 // histograms coarser than sketches
	Clamped uint64 // values outside the range of sketches

	Refused map[TenantReason]uint64 // events, or records refused whole: dead-lettered
	Dropped map[TenantReason]uint64 // events over a limit: gone
	Late    map[string]uint64       // by tenant: events taken that were older than the watermark
	Missed  map[TenantReason]uint64 // events whose windows had closed, by what became of them: a policy, or too_late
	Windows map[TenantReason]uint64 // rows of windows, by what they are
	Alerts  map[TenantReason]uint64 // alerts that began to fire, or ended: firing, resolved
	Unheard map[TenantReason]uint64 // events that an alert could not take
	Letters uint64                  // dead letters
	Omitted uint64                  // dead letters without their original

	Skipped uint64 // offsets that were not read: the group's offset was set beyond them
	Deleted uint64 // offsets that were not read: the broker had deleted them

	StateRecords uint64 // written to the state topic
	StateBytes   uint64 // of their keys and values

	Newest int64 // newest event time taken, Unix ns; 0 = none
}

// TenantReason is who lost an event, and why. Tenant is "" when the record does not say it.
type TenantReason struct {
	Tenant string
	Reason events.Reason
}

func (t *Tally) refuse(tenant string, reason events.Reason) { count(&t.Refused, tenant, reason, 1) }

func (t *Tally) drop(tenant string, reason events.Reason) { t.dropped(tenant, reason, 1) }

func (t *Tally) dropped(tenant string, reason events.Reason, n int) {
	if n > 0 {
		count(&t.Dropped, tenant, reason, uint64(n))
	}
}

func (t *Tally) addLate(tenant string, n uint64) {
	if n == 0 {
		return
	}
	if t.Late == nil {
		t.Late = make(map[string]uint64)
	}
	t.Late[tenant] += n
}

func (t *Tally) missed(tenant, policy string) { count(&t.Missed, tenant, events.Reason(policy), 1) }

func (t *Tally) window(tenant string, what events.Reason) { count(&t.Windows, tenant, what, 1) }

func (t *Tally) alert(tenant, state string) { count(&t.Alerts, tenant, events.Reason(state), 1) }

func (t *Tally) alertMissed(tenant string, reason events.Reason) {
	count(&t.Unheard, tenant, reason, 1)
}

func count(into *map[TenantReason]uint64, tenant string, reason events.Reason, n uint64) {
	if *into == nil {
		*into = make(map[TenantReason]uint64)
	}
	(*into)[TenantReason{tenant, reason}] += n
}

// add merges another tally into t.
func (t *Tally) add(o *Tally) {
	t.Records += o.Records
	t.Bytes += o.Bytes
	t.Events += o.Events
	t.NoTime += o.NoTime
	t.Stale += o.Stale
	t.Coarse += o.Coarse
	t.Clamped += o.Clamped
	t.Letters += o.Letters
	t.Omitted += o.Omitted
	t.Skipped += o.Skipped
	t.Deleted += o.Deleted
	t.StateRecords += o.StateRecords
	t.StateBytes += o.StateBytes
	t.Newest = max(t.Newest, o.Newest)
	for tenant, n := range o.Late {
		t.addLate(tenant, n)
	}
	merge(&t.Missed, o.Missed)
	merge(&t.Windows, o.Windows)
	merge(&t.Alerts, o.Alerts)
	merge(&t.Unheard, o.Unheard)
	merge(&t.Refused, o.Refused)
	merge(&t.Dropped, o.Dropped)
}

func merge(into *map[TenantReason]uint64, from map[TenantReason]uint64) {
	for key, n := range from {
		count(into, key.Tenant, key.Reason, n)
	}
}
