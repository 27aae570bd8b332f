package backfill

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vigie-io/vigie/internal/pause"
	"github.com/vigie-io/vigie/internal/pipeline/rollup"
	"github.com/vigie-io/vigie/internal/pipeline/windowed"
)

// planVersion changes with anything that makes the blocks of a file other bytes.
const planVersion = 1

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
	if err := j.loadFiles(ctx, files); err != nil {
		return j.sum, err
	}
	return j.sum, j.fillSets(ctx)
}

// loadFiles loads one after the other.
func (j *Job) loadFiles(ctx context.Context, files []*file) error {
	seen := map[string]string{}
	for _, f := range files {
		if err := j.loadFile(ctx, f, seen); err != nil {
			return err
		}
		j.done += f.size
		j.sum.Files++
		j.out.Progress(j.done, j.total, j.sum.Rows)
	}
	return nil
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
