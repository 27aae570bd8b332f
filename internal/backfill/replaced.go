package backfill

import (
	"fmt"
	"slices"
	"time"

	"github.com/vigie-io/vigie/internal/pipeline/windowed"
	"github.com/vigie-io/vigie/internal/tenants"
)

// Replacement is a generation of results.
type Replacement struct {
	Gen      uint64 // not 0
	Job      string
	Tenant   tenants.ID
	From, To int64 // Unix hours, To exclusive
	// Metrics are those that it has panes of; "" is all but Others, which other signals make, and declared rollups of
	// other tenants.
	Metrics, Others []string
	Windows         []ReplacedWindows
}

// ReplacedWindows are the closed windows of a metric that lie in the hours of a Replacement, or end at most Reach
// seconds after them: a session ends a gap after its last event.
type ReplacedWindows struct {
	Metric string
	Reach  int64
}

// of says whether it has the panes of a metric.
func (r *Replacement) of(metric string) bool {
	return slices.Contains(r.Metrics, metric) || slices.Contains(r.Metrics, "") && !slices.Contains(r.Others, metric)
}

// holds says whether a window of a metric, in Unix seconds, is one of its.
func (r *Replacement) holds(metric string, start, end int64) bool {
	return start >= r.From*3600 && slices.ContainsFunc(r.Windows, func(w ReplacedWindows) bool {
		return w.Metric == metric && end <= r.To*3600+w.Reach
	})
}

// Replaced are replacements of the past.
type Replaced []Replacement

// Find returns one that the stream's rows of this metric and time (Unix seconds) are hidden behind, nil when there is
// none.
func (all Replaced) Find(tenant, metric string, start int64) *Replacement {
	hour := start / 3600
	return all.find(tenant, func(r *Replacement) bool { return r.From <= hour && hour < r.To && r.of(metric) })
}

// FindWindow is Find of closed windows of a metric.
func (all Replaced) FindWindow(tenant, metric string, start, end int64) *Replacement {
	return all.find(tenant, func(r *Replacement) bool { return r.holds(metric, start, end) })
}

func (all Replaced) find(tenant string, is func(*Replacement) bool) *Replacement {
	for i := range all {
		if string(all[i].Tenant) == tenant && is(&all[i]) {
			return &all[i]
		}
	}
	return nil
}

// hidden is an error when a row that was drained would be hidden: what is put in the place of others is all there is,
// and to add to it without being seen would lose it.
func (w *worker) hidden() error {
	if len(w.replaced) == 0 || w.Job.cfg.Replace != nil {
		return nil
	}
	for _, rows := range w.drained.Rollups {
		for i := range rows.Tenant {
			if r := w.replaced.Find(rows.Tenant[i], rows.Metric[i], int64(rows.Pane[i])); r != nil {
				return hiddenError("metric", rows.Metric[i], rows.Tenant[i], int64(rows.Pane[i]), r)
			}
		}
	}
	return nil
}

// hiddenWindows is hidden for closed windows.
func (j *Job) hiddenWindows(b *windowed.Rows) error {
	for i := range b.Tenant {
		if r := j.replaced.FindWindow(b.Tenant[i], b.Metric[i], b.Start[i], b.End[i]); r != nil {
			return hiddenError("the window of", b.Metric[i], b.Tenant[i], b.Start[i], r)
		}
	}
	return nil
}

func hiddenError(what, metric, tenant string, at int64, r *Replacement) error {
	return fmt.Errorf("%s %s of tenant %s at %s was replaced by job %s: "+
		"load what belongs there with -replace, all of it, or leave it out",
		what, metric, tenant, time.Unix(at, 0).UTC().Format(time.RFC3339), r.Job)
}
