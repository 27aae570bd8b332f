package pipeline

import "github.com/vigie-io/vigie/pkg/series"

// Grain says what one rollup row stands for.
type Grain uint8

const (
	// GrainSeries is one series and pane.
	GrainSeries Grain = 0
	// GrainService is the pre-merged grouping of one metric and service (series id zero).
	GrainService Grain = 1
)

// Rollups is the columnar block of one epoch and destination: row i is the i-th element of every slice.
// Sketch holds one state per row, one after the other (ClickHouse's layout of an AggregateFunction column).
type Rollups struct {
	Grain    []Grain
	Tenant   []string
	Metric   []string
	Service  []string
	Series   []series.ID
	Pane     []uint32 // start of the pane, Unix seconds
	Count    []uint64
	Sum      []float64
	Min      []float64
	Max      []float64
	LastTime []int64 // Unix nanoseconds of Last, 0 when the row carries no level
	Last     []float64
	LastHist []string // a cumulative native histogram's bytes (docs/format/histogram.md), "" when none
	Sketch   []byte
}

// SeriesRows announces series: labels and type, once per task and life time and again every refresh.
type SeriesRows struct {
	Tenant   []string
	Metric   []string
	Service  []string
	ID       []series.ID
	Kind     []uint8 // events.Kind
	Native   []bool  // the series carries native histograms
	Unit     []string
	Help     []string
	Labels   []series.Labels
	LastSeen []uint32 // Unix seconds, event time
}

// WindowRows are closed windows of declared rollups: what the task has of a series and window. A row replaces that of the
// same series, window, Rule and Part with a lesser Version.
type WindowRows struct {
	Tenant     []string
	Metric     []string
	Service    []string
	Series     []series.ID
	Labels     []series.Labels
	Start, End []int64  // Unix seconds, End exclusive
	SeriesKind []uint8  // events.Kind of what is measured
	Shape      []string // of the windows, as windows.ParseShape reads it
	Rule       []uint64
	Part       []string // topic/partition
	Version    []uint32
	Kind       []WindowKind
	Delta      []uint64 // of rows that add up instead of replacing each other: its number; 0 for all others
	Count      []uint64
	Sum        []float64
	Min        []float64
	Max        []float64
	Sketch     []byte // one state a row

	// What rules with a Keep hold: of no row, or of all when one has any.
	Measures            []Measures // that the row's rule has
	FirstTime, LastTime []int64    // Unix nanoseconds, 0 for none
	First, Last         []float64
	Distinct            []byte // one state a row
	Top                 []WindowTop
}

// WindowTop is a space-saving summary, so that summaries add up: a value came at most Floor and its Count together, of which
// Floor and its Error may be too much; one that is not among Items came at most Floor times. Numbers are in events, or in the
// weight's own.
type WindowTop struct {
	Items          []string // ascending in rank
	Counts, Errors []float64
	Floor, Total   float64
	K              uint16 // how many are to be shown; 0 when the row has none
}

// WindowKind is what a row of WindowRows means.
type WindowKind uint8

// Kinds of rows. Their values are part of the format of results.
const (
	// WindowWhole rows replace what was known of the window.
	WindowWhole WindowKind = 0
	// WindowRetracted rows say that a session is no more: it has become part of another. They hold nothing.
	WindowRetracted WindowKind = 1
	// WindowDelta rows add up with the whole one and with each other.
	WindowDelta WindowKind = 2
	// WindowLate rows hold events that came after the window closed and are not in it (late: divert), within allowed lateness;
	// WindowTooLate rows such that came after it. They add up.
	WindowLate    WindowKind = 3
	WindowTooLate WindowKind = 4
)

// ProgressRows say how far the results reach. A row with Tenant "" says that every record of the
// partition appended before Time has been processed; a row with a tenant gives its watermark in event time.
type ProgressRows struct {
	Topic     []string
	Partition []int32
	Tenant    []string
	Time      []int64 // Unix milliseconds
	Updated   []int64 // Unix milliseconds, processing time
}

// Encoder turns rows into the bytes of one ClickHouse native block, appended to dst.
// Implementations keep no reference to rows and are safe for concurrent use.
type Encoder interface {
	EncodeRollups(dst []byte, rows *Rollups) ([]byte, error)
	EncodeSeries(dst []byte, rows *SeriesRows) ([]byte, error)
	EncodeWindows(dst []byte, rows *WindowRows) ([]byte, error)
	EncodeLimits(dst []byte, rows *LimitRows) ([]byte, error)
	EncodeLetters(dst []byte, rows []LetterRow) ([]byte, error)
	EncodeProgress(dst []byte, rows *ProgressRows) ([]byte, error)
}

// Destinations of result records: the ingest tables, one record = one block = one INSERT.
const (
	TableRollups  = "ingest_rollups"
	TableSeries   = "ingest_series"
	TableProgress = "ingest_progress"
	TableWindows  = "ingest_windows"
	TableLimits   = "ingest_limits"
	TableLetters  = "ingest_dead_letters"
)

// Headers of a result record.
const (
	HeaderTable  = "vigie-table"  // one of the Table constants
	HeaderFormat = "vigie-format" // "native/1"
	HeaderRows   = "vigie-rows"   // decimal
	HeaderCount  = "vigie-count"  // decimal: sum of Count over GrainSeries rows, for audits; only on TableRollups
	HeaderNewest = "vigie-newest" // decimal: newest event time in the epoch, Unix milliseconds; only on TableRollups
)

// FormatNative is the value of HeaderFormat: one ClickHouse native block.
const FormatNative = "native/1"

// Headers of source records that the pipeline reads. Keys are matched without regard to case.
const (
	// HeaderTenant is the authority's word for the tenant of the record.
	HeaderTenant = "x-scope-orgid"
	// HeaderContentType tells JSON from protobuf.
	HeaderContentType = "content-type"
	// HeaderOnly makes a record stand for some of its events: their indexes, ascending, separated by commas.
	HeaderOnly = "vigie-only"
)

// Headers of a dead letter, beside the original's own (docs/format/dlq.md).
const (
	HeaderDLQReason    = "vigie-dlq-reason"    // that of the first refused event
	HeaderDLQDetail    = "vigie-dlq-detail"    // a sentence for each of the first refused events
	HeaderDLQTopic     = "vigie-dlq-topic"     // source topic
	HeaderDLQPartition = "vigie-dlq-partition" // source partition, decimal
	HeaderDLQOffset    = "vigie-dlq-offset"    // source offset, decimal
	HeaderDLQTimestamp = "vigie-dlq-timestamp" // the original record's, decimal Unix milliseconds
	HeaderDLQEvents    = "vigie-dlq-events"    // "" = the whole record, else indexes as in HeaderOnly
	// HeaderDLQOmitted is the decimal size of an original that made the letter larger than dlq_message_bytes. Such a letter
	// has neither the original's value nor its headers; the source position says where they are.
	HeaderDLQOmitted = "vigie-dlq-omitted"
)
