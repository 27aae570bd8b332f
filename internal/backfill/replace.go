package backfill

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/vigie-io/vigie/internal/pipeline/rollup"
	"github.com/vigie-io/vigie/internal/pipeline/windowed"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
)

// ErrNotSwitched is returned by Job.Run when everything is loaded and may not be put in the place of the old for want
// of a word from a person.
var ErrNotSwitched = errors.New("nothing is replaced")

// Replace says which results the files' are put in the place of: those of Config.Signal and Config.Tenant from From to
// To.
type Replace struct {
	From, To time.Time // whole hours; To is exclusive
	// Empty lets a job without a single event leave nothing where there was something.
	Empty bool
	// Rejects lets a job go on of which rows were rejected.
	Rejects bool
	// LeadIn is how long before From the files' events say what cumulative series were, for increases in the range;
	// they count for nothing else. 0s: they are rejected like all that is outside of the range.
	LeadIn time.Duration
	// MaxPast is how late the stream takes events: what is younger may still grow, and is not replaced.
	MaxPast time.Duration
}

func (r *Replace) validate(now time.Time) error {
	const hour = time.Hour
	switch {
	case r.To.IsZero():
		return errors.New("-range: want the hours to replace, such as 2026-11-01T00:00:00Z/2026-11-02T00:00:00Z")
	case !r.From.Before(r.To):
		return errors.New("-range: want an end behind the beginning")
	case !r.From.Equal(r.From.Truncate(hour)) || !r.To.Equal(r.To.Truncate(hour)):
		return errors.New("-range: want whole hours: the widest tier holds nothing finer")
	case !r.validLeadIn():
		return fmt.Errorf("-lead-in %s: want whole seconds, at most %s, after which series begin anew", r.LeadIn, maxLeadIn)
	case r.From.Unix() < 0:
		return errors.New("-range: want times after 1970")
	case r.To.After(now.Add(-r.MaxPast)):
		return fmt.Errorf("-range: want an end before %s: "+
			"the stream may still take events of what comes after (stream.max_past %s)",
			now.Add(-r.MaxPast).Truncate(hour).UTC().Format(time.RFC3339), r.MaxPast)
	}
	return nil
}

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

// Replacer keeps generations apart until one is put in the place of what is read.
type Replacer interface {
	// CanReplace is why the store cannot do it at all, or nil.
	CanReplace() error
	// Stage returns where the blocks of a generation go, where nobody reads them. Windows that it is to replace meet
	// none of its.
	Stage(ctx context.Context, r *Replacement) (Store, error)
	// Published says whether the generation has been put in the place of others, ever.
	Published(ctx context.Context, gen uint64) (bool, error)
	// Publish puts it there: who reads sees what was there before or the generation, and never a part of each. It may
	// be called again after an error or a crash, and does the rest.
	Publish(ctx context.Context, r *Replacement) error
	// Finish deletes what a published generation has replaced, and where it was staged. It may be called again.
	Finish(ctx context.Context, r *Replacement) error
}

// replacement names the generation of the job: it is of these files and no others, so that a job that is run again with
// others begins anew.
func (j *Job) replacement(files []*file) *Replacement {
	hashes := make([]string, len(files))
	for i, f := range files {
		hashes[i] = f.hash
	}
	slices.Sort(hashes)
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q", j.cfg.Job, j.plan, slices.Compact(hashes), hashOf(j.awaiting)))
	r := &Replacement{
		Gen: max(1, binary.BigEndian.Uint64(sum[:])), Job: j.cfg.Job, Tenant: j.cfg.Tenant,
		From: j.cfg.Replace.From.Unix() / 3600, To: j.cfg.Replace.To.Unix() / 3600,
		Metrics: []string{defaultMetric[j.cfg.Signal]},
	}
	for i := range j.cfg.Rollups {
		of := &j.cfg.Rollups[i]
		switch metrics := of.Metrics(); {
		case of.Window != nil && j.fills(of):
			for _, metric := range metrics {
				r.Windows = append(r.Windows, ReplacedWindows{metric, reach(of.Window)})
			}
		case of.Window != nil: // its windows stay, and it has no panes
		case j.fills(of):
			r.Metrics = append(r.Metrics, metrics...)
		default:
			r.Others = append(r.Others, metrics...)
		}
	}
	for _, metric := range defaultMetric {
		if metric != "" && metric != r.Metrics[0] {
			r.Others = append(r.Others, metric)
		}
	}
	slices.Sort(r.Others)
	return r
}

// defaultMetric is the one that a signal makes, "" where it makes many.
var defaultMetric = map[events.Signal]string{events.Metrics: "", events.Spans: rollup.SpanMetric, events.Logs: rollup.LogMetric}

// reach is how long after its last event a window may end, in seconds that the event may lie before.
func reach(w *windowed.Window) int64 {
	if w.Session == nil {
		return 0
	}
	return int64(w.Session.Gap/time.Second) - 1
}

// replace loads the files into a generation of their own, and puts it in the place of what is there.
func (j *Job) replace(ctx context.Context, files []*file) (Summary, error) {
	replacer := j.store.(Replacer)
	if err := replacer.CanReplace(); err != nil {
		return j.sum, fmt.Errorf("-replace: %w", err)
	}
	for _, f := range files {
		if err := f.digest(ctx); err != nil {
			return j.sum, err
		}
	}
	r := j.replacement(files)
	published, err := replacer.Published(ctx, r.Gen)
	if err != nil {
		return j.sum, err
	}
	if published {
		j.note("job %s has replaced this already", j.cfg.Job)
		j.sum.Files, j.sum.Loaded = len(files), len(files)
		return j.sum, j.retry(ctx, func() error { return replacer.Finish(ctx, r) })
	}
	j.ledger = fmt.Sprintf("%s@%016x", j.cfg.Job, r.Gen)
	if err := j.retry(ctx, func() (err error) { j.store, err = replacer.Stage(ctx, r); return err }); err != nil {
		return j.sum, err
	}
	j.replacing = r
	if err := j.await(ctx, files); err != nil {
		return j.sum, err
	}
	if err := j.files(ctx, files); err != nil {
		return j.sum, err
	}
	if err := j.mayReplace(); err != nil {
		return j.sum, err
	}
	if err := j.fillSets(ctx); err != nil {
		return j.sum, err
	}
	if err := j.retry(ctx, func() error { return replacer.Publish(ctx, r) }); err != nil {
		return j.sum, err
	}
	j.noteReplaced()
	return j.sum, j.retry(ctx, func() error { return replacer.Finish(ctx, r) })
}

// mayReplace is why what was loaded may not be put in the place of the old without a word from a person, or nil.
func (j *Job) mayReplace() error {
	switch {
	case j.rejected > 0 && !j.cfg.Replace.Rejects:
		return fmt.Errorf("%d rows were rejected: "+
			"run again with -accept-rejects to go on without them, or with files that fit: %w", j.rejected, ErrNotSwitched)
	case j.taken == 0 && !j.cfg.Replace.Empty:
		return fmt.Errorf("there is no event to put there, which deletes what is there: "+
			"run again with -replace-empty if that is what you want: %w", ErrNotSwitched)
	}
	return nil
}

func (j *Job) noteReplaced() {
	if n := j.before.Load(); n > 0 {
		j.note("%d events before the range say what cumulative series were, and count for nothing else", n)
	}
	j.note("replaced %s of tenant %s from %s to %s by %d events", j.cfg.Signal, j.cfg.Tenant,
		j.cfg.Replace.From.UTC().Format(time.RFC3339), j.cfg.Replace.To.UTC().Format(time.RFC3339), j.taken)
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
