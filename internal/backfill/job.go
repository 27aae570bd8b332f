package backfill

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vigie-io/vigie/internal/pause"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/pipeline/rollup"
	"github.com/vigie-io/vigie/internal/pipeline/windowed"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
)

// planVersion changes with anything that makes the blocks of a file other bytes.
const planVersion = 1

// A chunk that was begun and not finished may be inserted again only while every table remembers its tokens: the last
// 100,000 parts (migrations, {{dedup}}) and seven days. Half of that leaves room for what is added while it is loaded.
const (
	doubtParts = 50_000
	doubtTime  = 6 * 24 * time.Hour
)

// ErrInDoubt is returned by Job.Run when the tables may have forgotten the tokens of a chunk that was begun and not
// finished, so that neither inserting it again nor leaving it out is known to be right.
var ErrInDoubt = errors.New("chunk in doubt")

// Config says what to load and how.
type Config struct {
	Job      string // its name; letters, digits, '.', '_' and '-'
	Signal   events.Signal
	Patterns []string   // of files, as filepath.Glob takes them, or s3://bucket/key
	Tenant   tenants.ID // of every row; "" takes the rows' own
	Parallel int        // chunks at a time, and so inserts at a time; at least 1
	// MaxPast and MaxFuture bound event times around the time when the file was first begun.
	MaxPast, MaxFuture time.Duration
	Decoder            events.Options
	// InDoubt decides about chunks in doubt: "" ends with ErrInDoubt, "load" inserts them again, "skip" takes them for
	// loaded.
	InDoubt string
	// S3 is where s3:// is.
	S3 S3Config
	// Rollups are those that are declared; the signal's and tenant's are filled.
	Rollups []rollup.Declared
	// Runs is a folder for what windows hold, and samples of increases, while files are loaded; it is removed when both
	// are written. Default <job>.windows.
	Runs string
	// SplitSessions lets sessions that touch such as are stored stay beside them.
	SplitSessions bool
	// Replace puts the events in the place of what is stored, once all are loaded; nil adds them to it.
	Replace *Replace
}

var jobName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// Validate says what is wrong, naming the flag.
func (c *Config) Validate() error {
	switch {
	case !jobName.MatchString(c.Job):
		return fmt.Errorf("-job %q: want 1 to 64 of A-Z a-z 0-9 . _ -", c.Job)
	case c.Signal != events.Metrics && c.Signal != events.Spans && c.Signal != events.Logs:
		return fmt.Errorf("-signal %q: want metrics, spans or logs", c.Signal)
	case c.Replace != nil && c.Tenant == "":
		return errors.New("-replace: want -tenant: results are replaced of one tenant")
	case len(c.Patterns) == 0 && (c.Replace == nil || !c.Replace.Empty):
		return errors.New("-from: want files, such as 'dir/*.ndjson'")
	case c.Parallel < 1:
		return fmt.Errorf("-parallel %d: want 1 or more", c.Parallel)
	case c.InDoubt != "" && c.InDoubt != "load" && c.InDoubt != "skip":
		return fmt.Errorf("-in-doubt %q: want load or skip", c.InDoubt)
	}
	if c.Tenant != "" {
		return tenants.Validate(c.Tenant)
	}
	return nil
}

// Reject is a row, or some events of a row, that did not fit.
type Reject struct {
	File     string `json:"file"`
	Row      int64  `json:"row"` // from 1: line of NDJSON and CSV (where the row begins), row of Parquet
	Reason   string `json:"reason"`
	Detail   string `json:"detail"`
	Original string `json:"original"` // the row as a JSON event; the row itself where it could not become one
}

// Summary is what a run did.
type Summary struct {
	Files, Loaded int // Loaded: files of which nothing was left to do when it began
	Rows, Events  uint64
	Rejected      uint64 // rows
	Reasons       map[string]uint64
	Before        uint64 // rows that earlier runs had rejected, of files of this run
}

// Job loads files. Make one with New; Run it once.
type Job struct {
	cfg     Config
	store   Store
	encoder Encoder
	out     Output
	now     func() time.Time
	plan    string
	key     []byte

	settings string            // of plan, but for rollups
	rollups  []rollup.Declared // that a chunk fills by itself
	awaiting []rollup.Declared // that all files fill together: those of windows and of increases
	sets     []*set            // that this run fills
	runs     runs              // of windows
	samples  runs              // of increases
	ledger   string            // the name under which it is in the ledger
	replaced Replaced

	replacing *Replacement // nil: rows are added to what is stored

	total, done     int64         // bytes of all files, and of those behind
	taken, rejected uint64        // events and rows, of all files, by this run and earlier ones
	before          atomic.Uint64 // events of the lead-in, of this run

	mu  sync.Mutex // of sum and out
	sum Summary
}

// Output is told what happens. Calls are made one at a time.
type Output interface {
	// Note is a line for people.
	Note(line string)
	// Reject is a row that did not fit. The rows of a chunk come before it is finished; they come again when it is
	// loaded again after a crash.
	Reject(r *Reject) error
	// Flush returns when the rejects are where a crash of the process leaves them.
	Flush() error
	// Progress is how much of the bytes of all files is behind.
	Progress(done, total int64, rows uint64)
}

// New returns a job. cfg must be valid. now is the clock; nil is the system's.
func New(cfg Config, store Store, encoder Encoder, out Output, now func() time.Time) *Job {
	if now == nil {
		now = time.Now
	}
	options := sha256.Sum256(fmt.Appendf(nil, "%+v", cfg.Decoder))
	j := &Job{
		ledger: cfg.Job,
		cfg:    cfg, store: store, encoder: encoder, out: out, now: now, key: []byte(cfg.Tenant),
		sum: Summary{Reasons: map[string]uint64{}},
		settings: fmt.Sprintf("v%d signal=%s tenant=%s max_past=%s max_future=%s limits=%x",
			planVersion, cfg.Signal, cfg.Tenant, cfg.MaxPast, cfg.MaxFuture, options[:4]),
	}
	if r := cfg.Replace; r != nil {
		j.settings += fmt.Sprintf(" replace=%d-%d", r.From.Unix(), r.To.Unix())
		if r.LeadIn > 0 {
			j.settings += fmt.Sprintf(" lead_in=%s", r.LeadIn)
		}
	}
	dir := cmp.Or(cfg.Runs, cfg.Job+".windows")
	j.runs, j.samples = runs{dir, ".run", windowed.Join}, runs{dir, ".samples", joinSamples}
	j.plan = j.settings
	for i := range cfg.Rollups {
		switch r := &cfg.Rollups[i]; {
		case !j.fills(r):
		case r.Window != nil || increases(r):
			j.awaiting = append(j.awaiting, *r)
		default:
			j.rollups = append(j.rollups, *r)
		}
	}
	if len(j.rollups) > 0 {
		j.plan += " rollups=" + hashOf(j.rollups)[:8]
	}
	return j
}

// fills says whether a declared rollup is of the signal and the tenants that the job has.
func (j *Job) fills(r *rollup.Declared) bool {
	return r.From == j.cfg.Signal && (j.cfg.Tenant == "" || len(r.Tenants) == 0 || slices.Contains(r.Tenants, j.cfg.Tenant))
}

// Run loads what is not loaded yet. When it ends early, by ctx or an error, running the same job again goes on where it
// ended.
func (j *Job) Run(ctx context.Context) (Summary, error) {
	if j.cfg.Replace != nil {
		if err := j.cfg.Replace.validate(j.now()); err != nil {
			return Summary{}, err
		}
	}
	files, err := find(ctx, j.cfg.Patterns, &j.cfg.S3)
	if err != nil {
		return Summary{}, err
	}
	for _, f := range files {
		j.total += f.size
	}
	if j.cfg.Replace != nil {
		return j.replace(ctx, files)
	}
	if j.replaced, err = j.store.Replaced(ctx); err != nil {
		return Summary{}, err
	}
	if len(j.awaiting) > 0 {
		if err := j.await(ctx, files); err != nil {
			return j.sum, err
		}
	}
	if err := j.files(ctx, files); err != nil {
		return j.sum, err
	}
	return j.sum, j.fillSets(ctx)
}

func (j *Job) files(ctx context.Context, files []*file) error {
	seen := map[string]string{}
	for _, f := range files {
		if err := j.file(ctx, f, seen); err != nil {
			return err
		}
		j.done += f.size
		j.sum.Files++
		j.out.Progress(j.done, j.total, j.sum.Rows)
	}
	return nil
}

// run is the loading of one file.
type run struct {
	*Job
	ledger  string
	file    *file
	now     int64 // Unix milliseconds, pinned when the file was first begun
	known   map[int64]Entry
	entry   Entry // of the file
	cfg     pipeline.Config
	kept    []*runs // that are written of the file, under file.run
	rows    atomic.Uint64
	rejects atomic.Uint64
	events  atomic.Uint64
}

func (j *Job) file(ctx context.Context, f *file, seen map[string]string) error {
	if f.hash == "" {
		if err := f.digest(ctx); err != nil {
			return err
		}
	}
	if other, ok := seen[f.hash]; ok {
		j.note("%s: the same bytes as %s: already loaded", f.path, other)
		j.sum.Loaded++
		return nil
	}
	seen[f.hash] = f.path
	r, err := j.begin(ctx, f)
	if err != nil {
		return err
	}
	loaded := r.entry.State == Finished
	if loaded && r.keeps(f.run) {
		j.note("%s: already loaded by job %s on %s", f.path, j.cfg.Job, r.entry.Started.UTC().Format(time.DateTime))
		j.sum.Loaded++
		j.sum.Before += r.entry.Rejects
		j.taken += r.entry.Events
		j.rejected += r.entry.Rejects
		return nil
	}
	if err := r.load(ctx); err != nil {
		return err
	}
	for _, kept := range r.kept {
		if err := kept.fold(f.run); err != nil {
			return err
		}
	}
	if err := f.from.unchanged(); err != nil {
		return err
	}
	if loaded {
		j.note("%s: already loaded by job %s on %s, and read again for windows and increases", f.path, j.cfg.Job,
			r.entry.Started.UTC().Format(time.DateTime))
		return nil
	}
	r.entry.State = Finished
	r.entry.Rows, r.entry.Events, r.entry.Rejects = r.rows.Load(), r.events.Load(), r.rejects.Load()
	j.taken += r.entry.Events
	j.rejected += r.entry.Rejects
	return j.retry(ctx, func() error { return j.store.Record(ctx, j.ledger, f.hash, &r.entry) })
}

// entries are those that a ledger has under a hash, by chunk.
func (j *Job) entries(ctx context.Context, ledger, hash string) (map[int64]Entry, error) {
	list, err := j.store.Entries(ctx, ledger, hash)
	known := make(map[int64]Entry, len(list))
	for _, e := range list {
		known[e.Chunk] = e
	}
	return known, err
}

// begin reads the ledger of the file, and opens it when it is new.
func (j *Job) begin(ctx context.Context, f *file) (*run, error) {
	known, err := j.entries(ctx, j.ledger, f.hash)
	if err != nil {
		return nil, err
	}
	r := &run{Job: j, ledger: j.ledger, file: f, known: known, cfg: pipeline.DefaultConfig()}
	entry, ok := r.known[wholeFile]
	if !ok {
		entry = Entry{Chunk: wholeFile, State: Begun, Name: f.path, Plan: j.plan, Started: j.now().Truncate(time.Millisecond)}
		if err := j.retry(ctx, func() error { return j.store.Record(ctx, j.ledger, f.hash, &entry) }); err != nil {
			return nil, err
		}
	}
	if entry.Plan != j.plan {
		return nil, fmt.Errorf("load %s: job %s began this file with %q, now it is %q: "+
			"use the same settings, or another -job to load it once more", f.path, j.cfg.Job, entry.Plan, j.plan)
	}
	r.entry, r.now = entry, entry.Started.UnixMilli()
	r.cfg.MaxPast, r.cfg.MaxFuture, r.cfg.MaxTenants = j.cfg.MaxPast, j.cfg.MaxFuture, math.MaxInt
	r.cfg.Rollups = append(slices.Clip(j.rollups), f.awaiting...)
	if len(f.awaiting) > 0 {
		f.run, r.kept = r.runName(), []*runs{&j.runs}
	}
	if slices.ContainsFunc(f.awaiting, func(of rollup.Declared) bool { return increases(&of) }) {
		r.kept = append(r.kept, &j.samples)
	}
	if of := j.cfg.Replace; of != nil { // only what lies in the range: To is exclusive
		r.now, r.cfg.MaxPast, r.cfg.MaxFuture = of.To.UnixMilli(), of.To.Sub(of.From), -1
	}
	return r, nil
}

// load loads the chunks that are not finished, the earlier ones first.
func (r *run) load(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	work := make(chan *chunk) // a chunk is taken when a worker is free for it, so that few are in memory
	var wg sync.WaitGroup
	for range r.Job.cfg.Parallel {
		wg.Go(func() {
			w := newWorker(r)
			for c := range work {
				if err := w.chunk(ctx, c); err != nil {
					cancel(err)
				}
			}
		})
	}
	err := r.chunks(ctx, func(c *chunk) bool {
		select {
		case work <- c:
			return true
		case <-ctx.Done():
			return false
		}
	})
	close(work)
	wg.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// chunks cuts the file.
func (r *run) chunks(ctx context.Context, yield func(*chunk) bool) error {
	f, err := formatOf(r.file.path)
	if err != nil {
		return err
	}
	want := func(index int64) bool {
		if ctx.Err() != nil {
			return false
		}
		e, ok := r.known[index]
		if !ok || e.State != Finished {
			return true
		}
		r.add(e.Rows, e.Events, e.Rejects)
		r.mu.Lock()
		r.sum.Before += e.Rejects
		r.mu.Unlock()
		return !r.keeps(chunkRun(r.file.run, index))
	}
	switch f.name {
	case "parquet":
		return r.parquet(ctx, r.file, want, yield)
	case "csv":
		return r.csv(ctx, r.file, f.compression, want, yield)
	}
	return r.ndjson(ctx, r.file, f.compression, want, yield)
}

func (r *run) add(rows, events, rejects uint64) {
	r.rows.Add(rows)
	r.events.Add(events)
	r.rejects.Add(rejects)
}

func (r *run) progress() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.out.Progress(r.done+min(r.file.read.Load(), r.file.size), r.total, r.sum.Rows)
}

func (j *Job) note(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.out.Note(fmt.Sprintf(format, args...))
}

// Waits between a failed call of the store and the next.
const (
	minWait = 200 * time.Millisecond
	maxWait = 10 * time.Second
)

// retry calls try until it succeeds, ctx ends, or the block is refused. A database that is away delays a job and does
// not end it.
func (j *Job) retry(ctx context.Context, try func() error) error {
	for wait := minWait; ; wait = min(2*wait, maxWait) {
		err := try()
		if err == nil || errors.Is(err, ErrRefused) || ctx.Err() != nil {
			return err
		}
		j.note("waiting for ClickHouse, trying again in %s: %v", wait, err)
		if err := pause.For(ctx, wait); err != nil {
			return err
		}
	}
}
