package backfill

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/pipeline/rollup"
	"github.com/vigie-io/vigie/internal/pipeline/windowed"
	"github.com/vigie-io/vigie/pkg/windows"
)

// ErrTouches is returned by Job.Run, before a window is written, when sessions of the files touch such as are stored:
// they are one session, and would stay two.
var ErrTouches = errors.New("sessions touch such as are stored")

// closeWindows writes the windows of all sets that have any.
func (j *Job) closeWindows(ctx context.Context) error {
	sets := j.windowed()
	if len(sets) == 0 {
		return nil
	}
	rows := map[uint64]int{}
	across := map[uint64]int{} // windows that are left out
	block, n, of := []byte(nil), 0, hashOf(names(sets))[:32]
	err := j.eachWindows(across, func(b *windowed.Rows) (err error) {
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
	for _, set := range sets {
		j.note("%d windows of %s, of %d files", rows[set.rule], set.rollup.Name, len(set.files))
		if n := across[set.rule]; n > 0 {
			j.note("windows of %s that reach over an edge of the range stay as they are: %d of the files' are left out",
				set.rollup.Name, n)
		}
	}
	return nil
}

// windowed are the sets of rollups with windows.
func (j *Job) windowed() []*set {
	return slices.DeleteFunc(slices.Clone(j.sets), func(s *set) bool { return s.rollup.Window == nil })
}

func names(sets []*set) (names []string) {
	for _, set := range sets {
		names = append(names, set.name)
	}
	return names
}

// eachWindows calls fn for the rows of all sets: the same blocks whenever the sets are the same. A replacement leaves
// out windows that reach over an edge of its hours, and counts them by rule: the files hold but a part of their events.
func (j *Job) eachWindows(across map[uint64]int, fn func(*windowed.Rows) error) error {
	parts, rules := map[uint64]string{}, []*windowed.Rule{}
	var ordered []string
	for _, set := range j.windowed() {
		parts[set.rule] = set.part(j.ledger)
		rules = append(rules, set.rollup.WindowRule())
		if ordered = append(ordered, set.runs()...); increases(set.rollup) {
			ordered = append(ordered, set.run())
		}
	}
	slices.Sort(ordered) // by hash
	ordered = slices.Compact(ordered)
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
	closing := windowed.NewClosing(rules, cfg.BlockRows, int(cfg.BlockBytes),
		func(rule uint64) string { return parts[rule] }, within)
	if err := j.runs.merge(ordered, func(key, value []byte) error { return closing.Close(key, value, fn) }); err != nil {
		return err
	}
	return closing.Rest(fn)
}

// apart is an error when sessions touch such as are stored, of rollups that do not divert them. What is begun has been
// looked at.
func (j *Job) apart(ctx context.Context) error {
	asked, resumed := map[uint64]bool{}, false
	for _, set := range j.windowed() {
		asked[set.rule] = set.rollup.Window.Session != nil && !diverts(set.rollup)
		resumed = resumed || set.resumed
	}
	if j.cfg.SplitSessions || resumed || !anyOf(asked) {
		return nil
	}
	touching, first := 0, ""
	err := j.eachWindows(map[uint64]int{}, func(b *windowed.Rows) error {
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
	return fmt.Errorf("%d sessions, the first of which is %s: all but windows is loaded: "+
		"run again with -split-sessions if they may stay two each, or load files that end before the others begin: %w",
		touching, first, ErrTouches)
}

// beside makes late rows of those whose window is stored, of rollups that divert what is late.
func (j *Job) beside(ctx context.Context, b *windowed.Rows) error {
	asked := map[uint64]bool{}
	for _, set := range j.windowed() {
		asked[set.rule] = diverts(set.rollup)
	}
	if !anyOf(asked) {
		return nil
	}
	return j.meets(ctx, b, asked, func(i int) { b.Kind[i] = windowed.TooLate })
}

// meets calls fn for the rows, of the rules that are asked for, whose window is stored of another part.
func (j *Job) meets(ctx context.Context, b *windowed.Rows, asked map[uint64]bool, fn func(i int)) error {
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

func diverts(r *rollup.Declared) bool { return r.Window.Late == windows.Divert.String() }
