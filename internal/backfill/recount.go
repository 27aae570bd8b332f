package backfill

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/pipeline/verify"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
)

// Recount is what a job has loaded, to be counted once more: all of its files.
type Recount struct {
	*Job
	files []*file
	parts map[string]map[uint64]string // of rows of windows, by hash and rule
}

// IsPattern says whether a text names files, and not a topic.
func IsPattern(text string) bool {
	_, err := formatOf(text)
	return err == nil || strings.ContainsAny(text, `/*?[`)
}

// NewRecount finds the files of cfg.Patterns, which must be those that cfg.Job has loaded. Signal and Tenant are the
// job's.
func NewRecount(ctx context.Context, cfg Config, store Lister) (*Recount, error) {
	files, err := find(ctx, cfg.Patterns, &cfg.S3)
	if err != nil {
		return nil, err
	}
	missing, err := store.Files(ctx, cfg.Job)
	if err != nil {
		return nil, err
	}
	known, seen := maps.Clone(missing), map[string]bool{}
	for _, f := range files {
		if err := f.digest(ctx); err != nil {
			return nil, err
		}
		if _, is := known[f.hash]; !is {
			return nil, fmt.Errorf("recount %s: job %s has not loaded it", f.path, cfg.Job)
		}
		delete(missing, f.hash)
	}
	if len(missing) > 0 {
		first := slices.Min(slices.Collect(maps.Values(missing)))
		return nil, fmt.Errorf("recount job %s: it has loaded %d more files (one was %s): "+
			"give all, since nobody can tell whose rows are whose", cfg.Job, len(missing), filepath.Base(first))
	}
	r := &Recount{}
	for _, f := range files {
		if seen[f.hash] {
			continue
		}
		seen[f.hash] = true
		r.files = append(r.files, f)
	}
	entries, err := store.Entries(ctx, cfg.Job, r.files[0].hash)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if e.Chunk == wholeFile {
			signal, _ := planField(e.Plan, "signal")
			tenant, _ := planField(e.Plan, "tenant")
			cfg.Signal, cfg.Tenant = events.Signal(signal), tenants.ID(tenant)
		}
	}
	r.Job = New(cfg, store, nil, silence{}, nil)
	return r, r.windowParts(ctx)
}

// windowParts reads of which sets the files are. A set is finished file by file: one says it of all.
func (r *Recount) windowParts(ctx context.Context) error {
	r.parts = map[string]map[uint64]string{}
	finished, begun := map[string]bool{}, map[string]string{}
	for _, f := range r.files {
		entries, err := r.store.Entries(ctx, r.ledgerOfWindows(), f.hash)
		if err != nil {
			return err
		}
		r.parts[f.hash] = map[uint64]string{}
		for _, e := range entries {
			finished[e.Plan] = finished[e.Plan] || e.State == Finished
			begun[e.Plan] = f.path
			r.parts[f.hash][uint64(e.Chunk)] = partOf(r.ledger, e.Plan)
		}
	}
	for plan, path := range begun {
		if !finished[plan] {
			return fmt.Errorf("recount %s: job %s has not finished its windows: run it to its end", path, r.cfg.Job)
		}
	}
	return nil
}

// Parts is how the parts of rows of windows begin that the job made.
func (r *Recount) Parts() string { return partOf(r.ledger, "") }

// planField finds a setting in a plan.
func planField(plan, name string) (string, bool) {
	for _, field := range strings.Fields(plan) {
		if value, is := strings.CutPrefix(field, name+"="); is {
			return value, true
		}
	}
	return "", false
}

// Signal is that of the rows.
func (r *Recount) Signal() events.Signal { return r.cfg.Signal }

// Records calls fn for each row that became a record, with what became of its file. The record is valid during the
// call.
func (r *Recount) Records(ctx context.Context, fn func(record *pipeline.Record, of *verify.LoadedFile) error) error {
	for _, f := range r.files {
		l, err := r.begin(ctx, f)
		if err != nil {
			return err
		}
		if l.entry.State != Finished {
			return fmt.Errorf("recount %s: job %s has not finished it: run it to its end", f.path, r.cfg.Job)
		}
		l.known = nil // all chunks are wanted
		of := &verify.LoadedFile{Parts: r.parts[f.hash]}
		of.Oldest, of.Newest = l.span()
		s := &stepper{key: r.key, each: func(record *pipeline.Record) error { return fn(record, of) }}
		err = l.chunks(ctx, func(c *chunk) bool {
			if err := c.feed(s); err != nil && s.err == nil {
				s.err = err
			}
			s.flush()
			return s.err == nil
		})
		if s.err != nil {
			return s.err
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// span are the event times that the file's clock takes, bounds included.
func (l *loading) span() (oldest, newest int64) {
	now := time.UnixMilli(l.now)
	return max(now.Add(-l.cfg.MaxPast).UnixNano(), 0), now.Add(l.cfg.MaxFuture).UnixNano()
}

// silence is an output of nothing.
type silence struct{}

func (silence) Note(string)                   {}
func (silence) Reject(*Reject) error          { return nil }
func (silence) Flush() error                  { return nil }
func (silence) Progress(int64, int64, uint64) {}
