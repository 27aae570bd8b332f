package pipeline

import (
	"cmp"
	"slices"
	"strconv"
	"time"
)

// Topology is a picture of a worker, at most about a second old: what /topology shows.
type Topology struct {
	Slot        int            `json:"slot"`
	State       string         `json:"state"` // "starting", "running", "waiting" (to start anew after Error), "stopped"
	Error       string         `json:"error,omitempty"`
	Since       time.Time      `json:"since"`    // when State began
	Failures    uint64         `json:"failures"` // sessions that failed since the worker was made
	Epoch       uint64         `json:"epoch"`    // committed since the session began
	Aborted     uint64         `json:"aborted"`  // since the session began
	EpochTarget time.Duration  `json:"epoch_target_ns"`
	EpochLength time.Duration  `json:"epoch_length_ns"` // of the last committed one with records: from the first to its commit
	EpochRows   int            `json:"epoch_rows"`      // of it
	EpochCost   time.Duration  `json:"epoch_cost_ns"`   // time to drain, encode and commit it
	Committed   time.Time      `json:"last_committed"`  // zero before the first
	Tasks       []TaskTopology `json:"tasks"`

	restoring int // tasks that do not run yet
}

// States of a task.
const (
	TaskRunning   = "running"
	TaskRestoring = "restoring" // reads its state; its partition waits
	TaskStopped   = "stopped"   // its state cannot be restored, Error says why; its partition waits until it can
)

// TaskTopology is one task of a worker.
type TaskTopology struct {
	Topic       string           `json:"topic"`
	Partition   int32            `json:"partition"`
	Signal      string           `json:"signal"`
	State       string           `json:"state"`
	Error       string           `json:"error,omitempty"`
	Restored    int64            `json:"restored_records,omitempty"` // so far, while restoring
	Lag         int64            `json:"lag_records"`
	Through     int64            `json:"through_ms"` // every record appended before has been processed; 0 = unknown
	Tenants     int              `json:"tenants"`
	Series      int              `json:"series"`
	StateKeys   int              `json:"state_keys"`
	StateBytes  int64            `json:"state_bytes"`     // of their keys and values in the log
	Letters     uint64           `json:"dead_letters"`    // committed since the task began
	Dropped     uint64           `json:"dropped_events"`  // in committed epochs since the task began
	Lagging     []TenantTopology `json:"lagging_tenants"` // of those that send, with the watermarks that lag most
	Top         []TenantTopology `json:"top_tenants"`     // with the most series
	OtherSeries int              `json:"other_tenants_series"`
	Limits      []LimitTopology  `json:"limits"` // of tenants that send, those nearest to the limit
}

// TenantTopology is one tenant in a task.
type TenantTopology struct {
	Tenant    string        `json:"tenant"`
	Series    int           `json:"series"`
	Watermark int64         `json:"watermark_ms"`
	Lag       time.Duration `json:"watermark_lag_ns"` // 0 when the tenant has been silent for a minute
}

// silent is when a tenant's watermark stops to be behind: it has nothing to say.
const silent = time.Minute

// note keeps, for topology, what a committed epoch did.
func (t *Task) note(tally *Tally) {
	t.written += tally.Letters
	for _, n := range tally.Dropped {
		t.dropped += n
	}
}

// topology describes the task at processing time now, Unix milliseconds.
func (t *Task) topology(now int64) TaskTopology {
	out := TaskTopology{
		Topic: t.cfg.Partition.Topic, Partition: t.cfg.Partition.Partition, Signal: string(t.cfg.Signal), State: TaskRunning,
		Lag: t.reach.Lag, Through: max(t.published, t.reach.Through), Tenants: len(t.tenants), StateKeys: t.stateKeys(),
		StateBytes: t.stateBytes(), Letters: t.written, Dropped: t.dropped,
		Top: make([]TenantTopology, 0, len(t.tenants)),
	}
	for _, tn := range t.tenants {
		row := TenantTopology{Tenant: tn.name, Series: tn.table.Len(), Watermark: t.watermark(tn) / int64(time.Millisecond)}
		if now-tn.seen < silent.Milliseconds() && tn.newest > 0 {
			row.Lag = max(time.Duration(now-row.Watermark)*time.Millisecond, 0)
		}
		out.Series += row.Series
		out.Top = append(out.Top, row)
	}
	out.Limits = topOf(t.uses(make([]LimitTopology, 0, 2*len(t.tenants)), now), compareLimits)
	out.Lagging = topOf(out.Top, compareLags)
	out.Lagging = slices.DeleteFunc(out.Lagging, func(t TenantTopology) bool { return t.Lag == 0 })
	out.Top = topOf(out.Top, compareTenants)
	out.OtherSeries = out.Series
	for i := range out.Top {
		out.OtherSeries -= out.Top[i].Series
	}
	return out
}

// topOf returns the first topTenants of rows in the order of compare. It does not sort them all: a task may have ten
// thousand tenants, and is asked every second.
func topOf[T any](rows []T, compare func(a, b T) int) []T {
	top := make([]T, 0, topTenants+1)
	for _, row := range rows {
		if len(top) == topTenants && compare(row, top[topTenants-1]) >= 0 {
			continue
		}
		at, _ := slices.BinarySearchFunc(top, row, compare)
		top = slices.Insert(top, at, row)
		top = top[:min(len(top), topTenants)]
	}
	return top
}

func compareTenants(a, b TenantTopology) int {
	return cmp.Or(cmp.Compare(b.Series, a.Series), cmp.Compare(a.Tenant, b.Tenant))
}

func compareLags(a, b TenantTopology) int {
	return cmp.Or(cmp.Compare(b.Lag, a.Lag), cmp.Compare(a.Tenant, b.Tenant))
}

func compareTasks(a, b TaskTopology) int {
	return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
}

func slotName(n int) string { return strconv.Itoa(n) }
