package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/vigie-io/vigie/internal/app"
	"github.com/vigie-io/vigie/internal/backfill"
	"github.com/vigie-io/vigie/internal/tenants"
	contract "github.com/vigie-io/vigie/pkg/events"
)

const backfillUsage = `usage: vigie backfill -signal metrics|spans|logs -from 'dir/*.parquet'|'s3://bucket/key*'
                      [-job backfill] [-tenant t] [-parallel cores] [-rejects file] [-in-doubt load|skip]
                      [-runs folder] [-split-sessions] [flags]
       vigie backfill -replace -range FROM/TO -tenant t -signal … -from … [-job name]
                      [-lead-in 1h] [-accept-rejects] [-replace-empty] [flags]

Loads files of old events, each once by job and content. Run again after an interruption, it goes on. With -replace,
what the files hold takes the place of what is stored of the tenant, signal and range. docs/backfill.md says more.
Exit code 1: rows were rejected; 2: an error, or interrupted.

  -signal          metrics, spans or logs
  -from            files, as a quoted pattern: .ndjson, .jsonl, .json, .csv (also with .gz or .zst) or .parquet; may be
                   given several times
  -job             the name under which a file is loaded once; default backfill
  -tenant          the tenant of every row; default: the rows' own field tenant
  -parallel        chunks at a time; default half the cores
  -rejects         the file that rejected rows are appended to; default <job>.rejects.ndjson
  -in-doubt        load or skip: what to do with a chunk of which nobody can tell whether it was loaded
  -runs            a folder for what windows and increases hold until all files are read; default <job>.windows
  -split-sessions  sessions that touch stored ones stay beside them
  -range           with -replace: whole hours, as 2026-11-01T00:00:00Z/2026-11-03T00:00:00Z
  -lead-in         with -replace: so much before the range says what counters were, and is not counted
  -accept-rejects  replace although rows were rejected
  -replace-empty   replace although the files hold no event of the range
`

func backfillFiles(ctx context.Context, _ string, args []string, s Streams) int {
	of, rejects, rest, err := parseBackfill(args)
	if err != nil {
		return misused(s, "vigie backfill", err)
	}
	loaded, code, done := load("vigie backfill", rest, s)
	if done {
		return code
	}
	out := newBackfillOutput(s, rejects)
	sum, err := app.Backfill(ctx, loaded.Config, of, out)
	if err := errors.Join(err, out.close()); err != nil {
		if ctx.Err() != nil {
			err = errors.New("interrupted; the same command goes on from here")
		}
		fmt.Fprintf(s.Err, "vigie backfill: %v\n", err)
		return exitError
	}
	fmt.Fprintf(s.Out, "%d files, %d of them already loaded; %d rows and %d events loaded, %d rows rejected\n",
		sum.Files, sum.Loaded, sum.Rows-sum.Rejected, sum.Events, sum.Rejected)
	for _, reason := range slices.Sorted(maps.Keys(sum.Reasons)) {
		fmt.Fprintf(s.Out, "  rejected as %s: %d\n", reason, sum.Reasons[reason])
	}
	if sum.Before > 0 {
		fmt.Fprintf(s.Out, "%d rows of these files had been rejected by earlier runs\n", sum.Before)
	}
	if sum.Rejected+sum.Before > 0 {
		return exitFailure
	}
	return exitOK
}

// parseBackfill takes its own flags out of args and leaves the configuration's in rest.
func parseBackfill(args []string) (of backfill.Config, rejects string, rest []string, err error) {
	set := flag.NewFlagSet("backfill", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	signal, tenant := set.String("signal", "", ""), set.String("tenant", "", "")
	set.Func("from", "", func(pattern string) error { of.Patterns = append(of.Patterns, pattern); return nil })
	set.StringVar(&of.Job, "job", "backfill", "")
	set.IntVar(&of.Parallel, "parallel", max(1, runtime.GOMAXPROCS(0)/2), "")
	set.StringVar(&of.InDoubt, "in-doubt", "", "")
	set.StringVar(&rejects, "rejects", "", "")
	set.StringVar(&of.Runs, "runs", "", "")
	set.BoolVar(&of.SplitSessions, "split-sessions", false, "")
	var replace backfill.Replace
	replaces := set.Bool("replace", false, "")
	set.Func("range", "", func(text string) (err error) { replace.From, replace.To, err = parseRange(text); return err })
	set.BoolVar(&replace.Empty, "replace-empty", false, "")
	set.DurationVar(&replace.LeadIn, "lead-in", 0, "")
	set.BoolVar(&replace.Rejects, "accept-rejects", false, "")
	own, rest := splitFlags(set, args)
	if err := set.Parse(own); err != nil {
		return of, "", nil, err
	}
	if *replaces {
		of.Replace = &replace
	} else if !replace.To.IsZero() || replace.Empty || replace.Rejects || replace.LeadIn != 0 {
		return of, "", nil, errors.New("-range, -lead-in, -replace-empty and -accept-rejects: want -replace with them")
	}
	of.Signal, of.Tenant = contract.Signal(*signal), tenants.ID(*tenant)
	if rejects == "" {
		rejects = of.Job + ".rejects.ndjson"
	}
	return of, rejects, rest, of.Validate()
}

// parseRange reads "2026-11-01T00:00:00Z/2026-11-02T00:00:00Z".
func parseRange(text string) (from, to time.Time, err error) {
	first, second, _ := strings.Cut(text, "/")
	if from, err = time.Parse(time.RFC3339, first); err == nil {
		to, err = time.Parse(time.RFC3339, second)
	}
	if err != nil {
		return from, to, errors.New("want two times, such as 2026-11-01T00:00:00Z/2026-11-02T00:00:00Z")
	}
	return from, to, nil
}

const shownRejects = 20

// backfillOutput shows a job to a person, or to a log.
type backfillOutput struct {
	s        Streams
	terminal bool
	start    time.Time
	last     time.Time
	done     int64 // when last shown
	bar      bool  // a bar stands on the line
	shown    int
	path     string
	rejects  *os.File // opened at the first
	buffer   *bufio.Writer
}

func newBackfillOutput(s Streams, rejects string) *backfillOutput {
	o := &backfillOutput{s: s, start: time.Now(), path: rejects}
	if file, ok := s.Err.(*os.File); ok {
		info, err := file.Stat()
		o.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return o
}

// Note implements backfill.Output.
func (o *backfillOutput) Note(line string) {
	if o.bar {
		fmt.Fprint(o.s.Err, "\r\x1b[K")
		o.bar = false
	}
	fmt.Fprintln(o.s.Err, line)
}

// Reject implements backfill.Output.
func (o *backfillOutput) Reject(r *backfill.Reject) error {
	if o.shown++; o.shown <= shownRejects {
		o.Note(fmt.Sprintf("%s row %d: %s: %s", r.File, r.Row, r.Reason, r.Detail))
	} else if o.shown == shownRejects+1 {
		o.Note("further rejected rows are only in " + o.path)
	}
	if o.rejects == nil {
		file, err := os.OpenFile(o.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return fmt.Errorf("write rejected rows: %w", err)
		}
		o.rejects, o.buffer = file, bufio.NewWriterSize(file, 1<<16)
	}
	line, err := json.Marshal(r)
	if err == nil {
		_, err = o.buffer.Write(append(line, '\n'))
	}
	if err != nil {
		return fmt.Errorf("write rejected rows: %w", err)
	}
	return nil
}

// Flush implements backfill.Output.
func (o *backfillOutput) Flush() error {
	if o.rejects == nil {
		return nil
	}
	if err := o.buffer.Flush(); err != nil {
		return fmt.Errorf("write rejected rows: %w", err)
	}
	return nil
}

func (o *backfillOutput) close() error {
	if o.bar {
		fmt.Fprintln(o.s.Err)
	}
	if o.rejects == nil {
		return nil
	}
	return errors.Join(o.buffer.Flush(), o.rejects.Close())
}

// Progress implements backfill.Output: a bar five times a second on a terminal, a line every ten seconds elsewhere.
func (o *backfillOutput) Progress(done, total int64, rows uint64) {
	now, every := time.Now(), 10*time.Second
	if o.terminal {
		every = 200 * time.Millisecond
	}
	if total == 0 || now.Sub(o.last) < every && (done < total || done == o.done) {
		return
	}
	o.last, o.done = now, done
	part, spent := float64(done)/float64(total), now.Sub(o.start)
	left := "?"
	if done > 0 {
		left = (time.Duration(float64(spent) * (1 - part) / part)).Round(time.Second).String()
	}
	line := fmt.Sprintf("%3.0f %%  %d rows  %.0f rows/s  %s left", 100*part, rows, float64(rows)/spent.Seconds(), left)
	if !o.terminal {
		fmt.Fprintln(o.s.Err, line)
		return
	}
	const width = 30
	full := int(part * width)
	fmt.Fprintf(o.s.Err, "\r\x1b[K[%s%s] %s", strings.Repeat("=", full), strings.Repeat(" ", width-full), line)
	o.bar = true
}
