package pipeline

import (
	"cmp"

	"github.com/vigie-io/vigie/internal/tenants"
)

// LimitTopology is what a tenant has used of a limit in a task.
type LimitTopology struct {
	Tenant string `json:"tenant"`
	Limit  string `json:"limit"` // its key in the configuration
	Used   uint64 `json:"used"`
	Most   uint64 `json:"most"` // the limit in force
}

func (l *LimitTopology) ratio() float64 { return float64(l.Used) / float64(max(l.Most, 1)) }

func compareLimits(a, b LimitTopology) int {
	return cmp.Or(cmp.Compare(b.ratio(), a.ratio()), cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.Limit, b.Limit))
}

// limitNames are the limits of which use is reported, and whether the use of a tenant's partitions adds up.
var limitNames = map[string]bool{
	"active_series": false, "series_bytes": false, "open_windows": false, "window_bytes": false,
	"stream_events_per_second": true, "stream_bytes_per_second": true,
}

// uses appends what tenants that were active lately have used of their limits.
func (t *Task) uses(rows []LimitTopology, now int64) []LimitTopology {
	for _, tn := range t.tenants {
		if now-tn.seen >= silent.Milliseconds() {
			continue
		}
		l := t.limits.For(tenants.ID(tn.name))
		add := func(limit string, used, most uint64) {
			if used > 0 {
				rows = append(rows, LimitTopology{tn.name, limit, used, most})
			}
		}
		events, bytes := t.rates.used(tn.name, &l)
		windows, windowBytes := t.windows.Used(tn.name)
		add("active_series", uint64(tn.table.Len()), uint64(l.ActiveSeries))
		add("series_bytes", uint64(tn.bytes), uint64(l.SeriesBytes))
		add("stream_events_per_second", events, uint64(l.StreamEventsPerSecond))
		add("stream_bytes_per_second", bytes, uint64(l.StreamBytesPerSecond))
		add("open_windows", uint64(windows), uint64(l.OpenWindows))
		add("window_bytes", uint64(windowBytes), uint64(l.WindowBytes))
	}
	return rows
}

// limitKey is a limit of a tenant over the tasks of a signal.
type limitKey struct{ signal, tenant, limit string }

// sumLimits adds what a task says of limits.
func sumLimits(into map[limitKey]LimitTopology, task *TaskTopology) {
	for _, l := range task.Limits {
		key := limitKey{task.Signal, l.Tenant, l.Limit}
		sum := into[key]
		if limitNames[l.Limit] {
			l.Used += sum.Used
		} else {
			l.Used = max(l.Used, sum.Used)
		}
		into[key] = l
	}
}
