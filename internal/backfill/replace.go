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
	if err := j.loadFiles(ctx, files); err != nil {
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
