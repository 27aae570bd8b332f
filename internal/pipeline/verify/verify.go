package verify

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/pipeline/rollup"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/internal/units"
	"github.com/vigie-io/vigie/pkg/events"
)

// ErrTooSmall means that one pane alone does not fit into Config.Memory.
var ErrTooSmall = errors.New("too little memory for one pane")

// Offsets of a topic by partition.
type Offsets = map[int32]int64

// Span is the part of a source topic that is there.
type Span struct {
	From, To Offsets // To is the end of what is readable now
	// Cut are the partitions whose log does not begin with the first record, as retention has deleted some, and the times of
	// the first that are left; the zero time where none is.
	Cut map[int32]time.Time
}

// Refusal is one dead letter of the topic.
type Refusal struct {
	Partition int32
	Offset    int64
	Timestamp int64         // of the record, Unix ms: a topic of the same name that was made anew uses offsets again
	At        int64         // when it was refused, Unix ms
	Reason    events.Reason // of the first event that was
	Events    []int         // refused; nil is all that the record stands for
	Unknown   bool          // the letter does not say which: it has left its original out
}

// Source is a source topic and what became of its records.
type Source interface {
	// Span says which records are there. since leaves out those before the first whose timestamp is not before it.
	Span(ctx context.Context, since time.Time) (Span, error)
	// Settle returns once every record before end has been processed, and what came of it stored.
	Settle(ctx context.Context, end Offsets) error
	// Records calls fn for the committed records from ≤ offset < to, by partition in order. A record is valid during
	// the call. Records that are not there any more are an error.
	Records(ctx context.Context, from, to Offsets, fn func(partition int32, r *pipeline.Record) error) error
	// Refusals calls fn for the topic's dead letters that were written at since or later.
	Refusals(ctx context.Context, since time.Time, fn func(Refusal) error) error
}

// Row is what a table says of one key.
type Row struct {
	Key
	Count         uint64
	Sum, Min, Max float64
	LastTime      int64
	Last          float64
	LastHist      string
	Sketch        []byte
}

// Query selects rows.
type Query struct {
	Table    Table
	Tenant   tenants.ID // "" is all
	Metrics  []string   // only these, or with Except all others
	Except   bool
	From, To int64 // of Start: From ≤ Start < To, Unix seconds
	Amounts  bool  // of rows, only Key, Count and Sum are asked for
}

// Store is the tables.
type Store interface {
	// Rows calls yield for every row, merged. The row is valid during the call.
	Rows(ctx context.Context, q Query, yield func(*Row) error) error
	// Next is the least Start of what Rows would yield; found is false when that is nothing.
	Next(ctx context.Context, q Query) (start int64, found bool, err error)
}

// Table is one of the tables that hold rollups.
type Table struct {
	Name    string
	Width   int64 // of a pane, seconds
	Service bool  // by metric and service, not by series
	Keep    time.Duration
}

// Merged says whether what fills the table is merged before: rows of minutes.
func (t Table) Merged() bool { return t.Width > 10 }

const day = 24 * time.Hour

// Tables are all that can be verified.
func Tables() []Table {
	return []Table{
		{"rollups_10s", 10, false, 3 * day}, {"rollups_1m", 60, false, 30 * day}, {"rollups_1h", 3600, false, 400 * day},
		{"services_10s", 10, true, 3 * day}, {"services_1m", 60, true, 30 * day}, {"services_1h", 3600, true, 400 * day},
	}
}

// Config says what to verify. Reader is given by the caller, who knows the contract's limits.
type Config struct {
	Signal       events.Signal
	Table        Table
	Tenant       tenants.ID // "" is all
	Since, Until time.Time  // of panes; zero is all there are
	// Memory bounds the recount, about. Where the panes do not fit, the topic is read several times.
	Memory units.Bytes
	// MaxPast, MaxFuture and WatermarkDelay are those that the records were processed with.
	MaxPast, MaxFuture, WatermarkDelay time.Duration
	MaxTenants                         int
	Rollups                            []rollup.Declared // declared; they are valid
	// SeriesIdle is after how long a silence a cumulative series may begin anew.
	SeriesIdle time.Duration
	// Topic names the source in rows of windows, and IdleAfter is for how long a tenant is silent before its clock goes
	// on by itself.
	Topic     string
	IdleAfter time.Duration
	Limits    func(tenants.ID) tenants.Limits
	// Replaced says whether the panes of a metric that begin at start, Unix seconds, have been replaced by others,
	// which are of no topic: they are left out. Nil is none.
	Replaced func(tenant, metric string, start int64) bool
	// ReplacedWindow is Replaced for a window of a metric, from start to end.
	ReplacedWindow func(tenant, metric string, start, end int64) bool
	// Files were loaded beside the topic; nil is none. FileDecoder reads their rows, with the limits that they were
	// loaded with.
	Files       Files
	FileDecoder *events.Decoder
	// FileParts is how the parts of rows of windows begin that Files made.
	FileParts string
	// Added says whether something was added to such panes that is of neither topic nor Files: they hold what is
	// counted, at least. Nil is none.
	Added func(tenant, metric string, start int64) bool
	// Decoder reads records; nil is one without limits on labels, so that events which other limits refused once, or
	// let through, are what their letters say.
	Decoder *events.Decoder
	Now     time.Time
	// Settled is where the records to count end, when everything before is known to be stored: Summary.Settled of a
	// comparison of another table, with the same Now. Nil is the end of what there is, for whose results it waits.
	Settled Offsets
}

// Difference is one row that is not what the loop says, or one event that is neither stored nor in a dead letter.
type Difference struct {
	Key
	What string
}

func (d Difference) String() string {
	if d.Tenant == "" {
		return d.What
	}
	return fmt.Sprintf("tenant %s, metric %s, service %q, series %s, pane %s: %s", d.Tenant, d.Metric, d.Service, d.ID,
		time.Unix(d.Start, 0).UTC().Format(time.RFC3339), d.What)
}

// Summary says what was compared.
type Summary struct {
	Records, Events, Refused uint64 // read, counted and dead-lettered; of the whole topic or what Since leaves
	Rows                     int    // compared
	Incomparable             int    // rows of which nobody can tell what they should hold
	Open                     int    // windows that have events, and need not have closed yet
	Differences              int
	Partial                  bool // so many differences that the comparison ended early
	Passes                   int
	From, To                 int64 // panes compared, Unix seconds; To 0 is without end
	Settled                  Offsets
	// Notes are what the comparison cannot know, and what it left out.
	Notes []string
}

const (
	// maxRounds is how often differences are looked at again, with the records that came meanwhile.
	maxRounds = 5
	// maxDifferences ends a comparison: it is not one any more.
	maxDifferences = 100_000
)

// Run compares, and calls report for every difference, in the order of keys within a pass. The error is of the
// comparison itself. Without a source the files are counted alone, and rows hold what is counted, at least.
func Run(ctx context.Context, cfg Config, source Source, store Store, report func(Difference)) (Summary, error) {
	alone := source == nil
	if alone {
		source = noTopic{}
	}
	v := newVerifier(cfg, source, report)
	v.store = store
	if alone {
		v.sure = math.MaxInt64
	}
	err := v.run(ctx)
	return v.sum, err
}

func newVerifier(cfg Config, source Source, report func(Difference)) *verifier {
	if cfg.Decoder == nil {
		cfg.Decoder = events.NewDecoder(events.Options{MaxLabels: math.MaxInt32, MaxName: math.MaxInt32, MaxValue: math.MaxInt32})
	}
	return &verifier{cfg: cfg, source: source, report: report, reader: pipeline.NewReader(cfg.Signal, cfg.Decoder)}
}

type verifier struct {
	cfg    Config
	source Source
	store  Store
	report func(Difference)
	reader *pipeline.Reader
	sum    Summary

	span     Span
	letters  letters
	from, to int64 // panes that can be compared; to 0 is without end
	sure     int64 // panes before may hold more than what is there to be counted
	limits   limits
	// own are the metrics that spans and logs make, and the rules that are declared of the topic; foreign are those of
	// other topics.
	own, foreign []string

	together int // windows with events that may be beside them
}

func (v *verifier) run(ctx context.Context) error {
	v.sortMetrics()
	var since time.Time
	if !v.cfg.Since.IsZero() && !v.remembers() {
		// An event may be in a record that was appended max_future before its time.
		since = v.cfg.Since.Add(-v.cfg.MaxFuture)
	}
	if err := v.begin(ctx, since); err != nil {
		return err
	}
	if err := v.bound(ctx); err != nil {
		return err
	}
	for from := v.from; ; {
		p, err := v.count(ctx, from)
		if err != nil {
			return err
		}
		v.sum.Passes++
		if err := v.compare(ctx, p); err != nil || v.sum.Partial {
			return err
		}
		if p.to == v.to {
			break
		}
		from = p.to
	}
	v.sum.From, v.sum.To = v.from, v.to
	v.limits.note(&v.sum, &v.cfg)
	return nil
}

// begin takes the records that are there, and waits until what comes of them is stored, unless it is known to be.
func (v *verifier) begin(ctx context.Context, since time.Time) (err error) {
	if v.span, err = v.source.Span(ctx, since); err != nil {
		return err
	}
	if v.cfg.Settled != nil {
		v.span.To = v.cfg.Settled
	} else if err := v.source.Settle(ctx, v.span.To); err != nil {
		return err
	}
	v.sum.Settled = v.span.To
	v.letters, err = readLetters(ctx, v.source, since)
	return err
}

// remembers says whether the records before Since matter for what follows: cumulative series go on from them.
func (v *verifier) remembers() bool {
	return slices.ContainsFunc(v.cfg.Rollups,
		func(r rollup.Declared) bool { return r.From == v.cfg.Signal && r.Measure == rollup.MeasureIncrease })
}

// bound finds the panes that can be compared. What is not complete yet, or not any more, is left out.
func (v *verifier) bound(ctx context.Context) error {
	width := v.cfg.Table.Width
	// An hour: the store may drop rows while we read.
	v.from = ceil(max(v.cfg.Now.Add(time.Hour-v.cfg.Table.Keep).Unix(), 0), width)
	if !v.cfg.Since.IsZero() {
		v.from = max(v.from, ceil(v.cfg.Since.Unix(), width))
	}
	after, err := v.source.Span(ctx, time.Time{})
	if err != nil {
		return err
	}
	if resting(v.span.To, after.To) {
		v.to = 0
	} else {
		v.to = floor(v.cfg.Now.Add(-v.cfg.WatermarkDelay).Unix(), width)
		v.sum.Notes = append(v.sum.Notes, "the topic is being written to: panes after "+clock(v.to)+" are left out")
	}
	if !v.cfg.Until.IsZero() {
		until := floor(v.cfg.Until.Unix(), width)
		if v.to == 0 || until < v.to {
			v.to = until
		}
	}
	return v.boundByRetention(ctx)
}

// headRecords is how many records of a cut log are looked at to tell until when records were deleted: the first alone
// may be one that was replayed, with an old time.
const headRecords = 256

// boundByRetention leaves out the panes of which records may be gone: a deleted record can hold events up to
// max_future after its time.
func (v *verifier) boundByRetention(ctx context.Context) error {
	if len(v.span.Cut) == 0 {
		return nil
	}
	from, to := Offsets{}, Offsets{}
	for partition := range v.span.Cut {
		from[partition] = v.span.From[partition]
		to[partition] = min(v.span.From[partition]+headRecords, v.span.To[partition])
	}
	newest := int64(0)
	err := v.source.Records(ctx, from, to, func(_ int32, r *pipeline.Record) error {
		newest = max(newest, r.Timestamp)
		return nil
	})
	if err != nil {
		return err
	}
	if first := ceil(time.Unix(0, newest).Add(v.cfg.MaxFuture).Unix(), v.cfg.Table.Width); first > v.from {
		if v.cfg.Files != nil {
			v.sure = first
			v.sum.Notes = append(v.sum.Notes,
				fmt.Sprintf("retention has deleted records of %d partitions: panes before %s may hold more than what is left",
					len(v.span.Cut), clock(first)))
			return nil
		}
		v.from = first
		v.sum.Notes = append(v.sum.Notes,
			fmt.Sprintf("retention has deleted records of %d partitions: panes before %s are left out",
				len(v.span.Cut), clock(first)))
	}
	return nil
}

func resting(before, after Offsets) bool {
	for partition, end := range after {
		if before[partition] != end {
			return false
		}
	}
	return true
}

func floor(t, width int64) int64 { return t / width * width }

func ceil(t, width int64) int64 { return floor(t+width-1, width) }

func clock(seconds int64) string { return time.Unix(seconds, 0).UTC().Format(time.RFC3339) }
