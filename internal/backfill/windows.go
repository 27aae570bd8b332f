package backfill

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/pkg/windows"
)

// ErrTouches is returned by Job.Run, before a window is written, when sessions of the files touch such as are stored: they are
// one session, and would stay two.
var ErrTouches = errors.New("sessions touch such as are stored")

// Windows are filled from all files of a run together, as one input that has an end: no event of it is late, and when all chunks have
// been taken every window closes. Until then what they hold is kept in runs (runs.go).
//
// The files that a run closes windows of are a set. The ledger has an entry for each of its files and each rollup: begun before the first
// row is written, finished after the last. Rows have the set as their part, so that whatever is written again replaces itself;
// files of other sets add up with them, as partitions of the stream do.
type windowSet struct {
	rollup  *pipeline.Rollup
	rule    uint64
	files   []*file
	name    string // a hash of what it is made of
	resumed bool   // rows of it may be stored
}

// ledgerOfWindows cannot be the name of a job.
func (j *Job) ledgerOfWindows() string { return j.ledger + "#windows" }

// await finds which windowed rollups the files are not in yet, and makes them sets.
func (j *Job) await(ctx context.Context, files []*file) error {
	known := map[string]map[int64]Entry{} // by hash and rule
	for _, f := range files {
		if err := f.digest(ctx); err != nil {
			return err
		}
		if known[f.hash] != nil {
			continue
		}
		entries, err := j.store.Entries(ctx, j.ledgerOfWindows(), f.hash)
		if err != nil {
			return err
		}
		known[f.hash] = map[int64]Entry{}
		for _, e := range entries {
			known[f.hash][e.Chunk] = e
		}
	}
	for i := range j.windows {
		set, err := j.set(&j.windows[i], files, known)
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

// set are the files whose windows of a rollup are not finished.
func (j *Job) set(rollup *pipeline.Rollup, files []*file, known map[string]map[int64]Entry) (*windowSet, error) {
	s := &windowSet{rollup: rollup, rule: rollup.RuleID()}
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
			return nil, fmt.Errorf("load %s: job %s filled windows of %s with %q, now it is %q: use the same settings, or another -job to load the file once more",
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
			return nil, fmt.Errorf("load %s: job %s was interrupted while it wrote the windows of %s of other files together with it: run it with those files first, and then with others",
				f.path, j.cfg.Job, rollup.Name)
		}
		s.resumed = s.resumed || begun
	}
	return s, nil
}

// part is what rows of the set have in the place of a source partition. The ledger of a replacement names its generation: rows of
// another are others.
func (s *windowSet) part(ledger string) string { return partOf(ledger, s.name) }

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
func (r *run) runName() string {
	return r.file.hash[:32] + "-" + hashOf([]any{planVersion, r.Job.settings, r.now, r.file.awaiting})[:16]
}

// keepWindows writes the run of a chunk, unless it is there.
func (w *worker) keepWindows(c *chunk, s *stepper) error {
	if w.windows == "" || w.runs.has(chunkRun(w.windows, c.index)) {
		return nil
	}
	return w.runs.write(chunkRun(w.windows, c.index), func(put put) (err error) {
		s.task.TakeWindows(func(key, value []byte) {
			if err == nil {
				err = put(key, value)
			}
		})
		return err
	})
}

// closeWindows writes the windows of all sets.
func (j *Job) closeWindows(ctx context.Context) error {
	if len(j.sets) == 0 {
		return nil
	}
	if err := j.apart(ctx); err != nil {
		return err
	}
	if err := j.record(ctx, Begun); err != nil {
		return err
	}
	rows := map[uint64]int{}
	across := map[uint64]int{} // windows that are left out
	block, n, of := []byte(nil), 0, hashOf(j.setNames())[:32]
	err := j.eachWindows(across, func(b *pipeline.WindowRows) (err error) {
		if err := j.hiddenWindows(b); err != nil {
			return err
		}
		if err := j.beside(ctx, b); err != nil {
			return err
		}
		if block, err = j.encoder.EncodeWindows(block[:0], b); err != nil {
			return err
		}
		token := fmt.Sprintf("backfill/%s/%s/%d/%s", j.ledgerOfWindows(), of, n, pipeline.TableWindows)
		n++
		for _, rule := range b.Rule {
			rows[rule]++
		}
		return j.retry(ctx, func() error { return j.store.Insert(ctx, pipeline.TableWindows, token, len(b.Tenant), block) })
	})
	if err != nil {
		return err
	}
	for _, set := range j.sets {
		j.note("%d windows of %s, of %d files", rows[set.rule], set.rollup.Name, len(set.files))
		if n := across[set.rule]; n > 0 {
			j.note("windows of %s that reach over an edge of the range stay as they are: %d of the files' are left out", set.rollup.Name, n)
		}
	}
	if err := j.record(ctx, Finished); err != nil {
		return err
	}
	return j.runs.remove()
}

func (j *Job) setNames() (names []string) {
	for _, set := range j.sets {
		names = append(names, set.name)
	}
	return names
}

// record writes an entry for each file of each set.
func (j *Job) record(ctx context.Context, state State) error {
	for _, set := range j.sets {
		for _, f := range set.files {
			e := Entry{Chunk: int64(set.rule), State: state, Name: f.path, Plan: set.name, Started: j.now().Truncate(time.Millisecond)}
			if err := j.retry(ctx, func() error { return j.store.Record(ctx, j.ledgerOfWindows(), f.hash, &e) }); err != nil {
				return err
			}
		}
	}
	return nil
}

// eachWindows calls fn for the rows of all sets: the same blocks whenever the sets are the same. A replacement leaves out windows that
// reach over an edge of its hours, and counts them by rule: the files hold but a part of their events.
func (j *Job) eachWindows(across map[uint64]int, fn func(*pipeline.WindowRows) error) error {
	parts, rollups, names := map[uint64]string{}, []pipeline.Rollup{}, map[string]bool{}
	var ordered []string
	for _, set := range j.sets {
		parts[set.rule] = set.part(j.ledger)
		rollups = append(rollups, *set.rollup)
		for _, f := range set.files {
			if !names[f.run] {
				names[f.run] = true
				ordered = append(ordered, f.run)
			}
		}
	}
	slices.Sort(ordered) // by hash
	cfg := pipeline.DefaultConfig()
	var within func(uint64, string, int64, int64) bool
	if j.replacing != nil {
		within = func(rule uint64, metric string, start, end int64) bool {
			is := j.replacing.holds(metric, start, end)
			if !is {
				across[rule]++
			}
			return is
		}
	}
	closing := pipeline.NewClosing(&cfg, rollups, func(rule uint64) string { return parts[rule] }, within)
	if err := j.runs.merge(ordered, func(key, value []byte) error { return closing.Close(key, value, fn) }); err != nil {
		return err
	}
	return closing.Rest(fn)
}

// apart is an error when sessions touch such as are stored, of rollups that do not divert them. What is begun has been looked at.
func (j *Job) apart(ctx context.Context) error {
	asked, resumed := map[uint64]bool{}, false
	for _, set := range j.sets {
		asked[set.rule] = set.rollup.Window.Session != nil && !diverts(set.rollup)
		resumed = resumed || set.resumed
	}
	if j.cfg.SplitSessions || resumed || !anyOf(asked) {
		return nil
	}
	touching, first := 0, ""
	err := j.eachWindows(map[uint64]int{}, func(b *pipeline.WindowRows) error {
		return j.meets(ctx, b, asked, func(i int) {
			if touching++; touching == 1 {
				first = fmt.Sprintf("that of tenant %s, %s, %v, from %s to %s", b.Tenant[i], b.Metric[i], b.Labels[i],
					time.Unix(b.Start[i], 0).UTC().Format(time.RFC3339), time.Unix(b.End[i], 0).UTC().Format(time.RFC3339))
			}
		})
	})
	if err != nil || touching == 0 {
		return err
	}
	return fmt.Errorf("%d sessions, the first of which is %s: all but windows is loaded: run again with -split-sessions if they may stay two each, or load files that end before the others begin: %w",
		touching, first, ErrTouches)
}

// beside makes late rows of those whose window is stored, of rollups that divert what is late.
func (j *Job) beside(ctx context.Context, b *pipeline.WindowRows) error {
	asked := map[uint64]bool{}
	for _, set := range j.sets {
		asked[set.rule] = diverts(set.rollup)
	}
	if !anyOf(asked) {
		return nil
	}
	return j.meets(ctx, b, asked, func(i int) { b.Kind[i] = pipeline.WindowTooLate })
}

// meets calls fn for the rows, of the rules that are asked for, whose window is stored of another part.
func (j *Job) meets(ctx context.Context, b *pipeline.WindowRows, asked map[uint64]bool, fn func(i int)) error {
	var rows []int
	for i, rule := range b.Rule {
		if asked[rule] {
			rows = append(rows, i)
		}
	}
	if len(rows) == 0 {
		return nil
	}
	var met []int
	err := j.retry(ctx, func() (err error) { met, err = j.store.Meets(ctx, b, rows); return err })
	for _, i := range met {
		fn(i)
	}
	return err
}

func anyOf(asked map[uint64]bool) bool {
	for _, is := range asked {
		if is {
			return true
		}
	}
	return false
}

func diverts(r *pipeline.Rollup) bool { return r.Window.Late == windows.Divert.String() }
