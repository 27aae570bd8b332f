package backfill

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/pipeline/rollup"
	"github.com/vigie-io/vigie/pkg/series"
)

// set are the files that a run fills a rollup from together, as one input that has an end: no event of it is late,
// samples come in the order of time, and when all chunks have been taken every window closes. Until then what windows
// hold, and samples, are kept in runs (runs.go).
//
// The ledger has an entry for each of its files and each rollup: begun before the first row is written, finished after
// the last. Rows of windows have the set as their part, so that whatever is written again replaces itself; files of
// other sets add up with them, as partitions of the stream do.
type set struct {
	rollup  *rollup.Declared
	rule    uint64
	files   []*file
	name    string // a hash of what it is made of
	resumed bool   // rows of it may be stored
}

// ledgerOfWindows cannot be the name of a job.
func (j *Job) ledgerOfWindows() string { return j.ledger + "#windows" }

// await finds which of the rollups that wait for all files these are not in yet, and makes them sets.
func (j *Job) await(ctx context.Context, files []*file) error {
	known := map[string]map[int64]Entry{} // by hash and rule
	for _, f := range files {
		if err := f.digest(ctx); err != nil {
			return err
		}
		if known[f.hash] != nil {
			continue
		}
		entries, err := j.entries(ctx, j.ledgerOfWindows(), f.hash)
		if err != nil {
			return err
		}
		known[f.hash] = entries
	}
	for i := range j.awaiting {
		set, err := j.setOf(&j.awaiting[i], files, known)
		if err != nil {
			return err
		}
		if len(set.files) > 0 {
			j.sets = append(j.sets, set)
		}
	}
	for _, set := range j.sets {
		for _, f := range set.files {
			f.awaiting = append(f.awaiting, *set.rollup)
		}
	}
	return nil
}

// ruleOf is what the ledger calls a rollup.
func ruleOf(r *rollup.Declared) uint64 {
	if r.Window != nil {
		return r.RuleID()
	}
	return series.Hash([]byte(r.Name)).Lo
}

// setOf are the files that a rollup is not finished of.
func (j *Job) setOf(rollup *rollup.Declared, files []*file, known map[string]map[int64]Entry) (*set, error) {
	s := &set{rollup: rollup, rule: ruleOf(rollup)}
	settings := j.settings + " rollup=" + hashOf(rollup)[:8]
	finished := map[string]bool{}
	for _, entries := range known {
		if e := entries[int64(s.rule)]; e.State == Finished {
			finished[e.Plan] = true
		}
	}
	seen := map[string]bool{}
	for _, f := range files {
		e, begun := known[f.hash][int64(s.rule)]
		if before, _, _ := strings.Cut(e.Plan, " set="); begun && before != settings {
			return nil, fmt.Errorf("load %s: job %s filled %s with %q, now it is %q: "+
				"use the same settings, or another -job to load the file once more",
				f.path, j.cfg.Job, rollup.Name, before, settings)
		}
		// A set is finished file by file: one says it of all.
		if seen[f.hash] || begun && finished[e.Plan] {
			continue
		}
		seen[f.hash] = true
		s.files = append(s.files, f)
	}
	slices.SortFunc(s.files, func(a, b *file) int { return strings.Compare(a.hash, b.hash) })
	hashes := make([]string, len(s.files))
	for i, f := range s.files {
		hashes[i] = f.hash
	}
	s.name = settings + " set=" + hashOf(hashes)[:32]
	for _, f := range s.files {
		e, begun := known[f.hash][int64(s.rule)]
		if begun && e.Plan != s.name {
			return nil, fmt.Errorf("load %s: job %s was interrupted while it wrote %s of other files together with it: "+
				"run it with those files first, and then with others", f.path, j.cfg.Job, rollup.Name)
		}
		s.resumed = s.resumed || begun
	}
	return s, nil
}

// part is what rows of the set have in the place of a source partition. The ledger of a replacement names its
// generation: rows of another are others.
func (s *set) part(ledger string) string { return partOf(ledger, s.name) }

func partOf(ledger, name string) string {
	_, set, _ := strings.Cut(name, " set=")
	return "backfill/" + ledger + "/" + set
}

// hashOf is a hash of what v is as JSON, hexadecimal.
func hashOf(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// runName is the name of a file's run, and begins that of its chunks'. What decides about its contents is in it.
func (l *loading) runName() string {
	return l.file.hash[:32] + "-" + hashOf([]any{planVersion, l.Job.settings, l.now, l.file.awaiting})[:16]
}

// keeps says whether all that is to be kept is there under a name.
func (l *loading) keeps(name string) bool {
	return !slices.ContainsFunc(l.kept, func(kept *runs) bool { return !kept.has(name) })
}

// keep writes what is to be kept of a chunk in these runs, unless it is there.
func (w *worker) keep(c *chunk, in *runs, fill func(put) error) error {
	name := chunkRun(w.file.run, c.index)
	if !slices.Contains(w.kept, in) || in.has(name) {
		return nil
	}
	return in.write(name, fill)
}

// takeWindows fills a run with what the windows of a task hold.
func takeWindows(task *pipeline.Task) func(put) error {
	return func(put put) (err error) {
		task.TakeWindows(func(key, value []byte) {
			if err == nil {
				err = put(key, value)
			}
		})
		return err
	}
}

// runs are the names of what is kept of the set's files, by hash.
func (s *set) runs() (names []string) {
	for _, f := range s.files {
		names = append(names, f.run)
	}
	return names
}

// run is the name of what windows hold of the set's increases.
func (s *set) run() string { return "increases-" + hashOf([]any{s.name, s.runs()})[:32] }

// fillSets writes what waited for all files.
func (j *Job) fillSets(ctx context.Context) error {
	if len(j.sets) == 0 {
		return nil
	}
	for _, s := range j.sets {
		if s.rollup.Window != nil && increases(s.rollup) && !j.runs.has(s.run()) {
			if err := j.fill(ctx, s); err != nil {
				return err
			}
		}
	}
	if err := j.apart(ctx); err != nil {
		return err
	}
	if err := j.record(ctx, Begun); err != nil {
		return err
	}
	for _, s := range j.sets {
		if s.rollup.Window == nil {
			if err := j.fill(ctx, s); err != nil {
				return err
			}
			j.note("increases of %s, of %d files", s.rollup.Name, len(s.files))
		}
	}
	if err := j.closeWindows(ctx); err != nil {
		return err
	}
	if err := j.record(ctx, Finished); err != nil {
		return err
	}
	return j.runs.remove()
}

// record writes an entry for each file of each set.
func (j *Job) record(ctx context.Context, state State) error {
	for _, set := range j.sets {
		for _, f := range set.files {
			e := Entry{Chunk: int64(set.rule), State: state, Name: f.path, Plan: set.name,
				Started: j.now().Truncate(time.Millisecond)}
			if err := j.retry(ctx, func() error { return j.store.Record(ctx, j.ledgerOfWindows(), f.hash, &e) }); err != nil {
				return err
			}
		}
	}
	return nil
}
