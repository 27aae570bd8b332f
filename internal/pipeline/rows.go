package pipeline

import (
	"github.com/vigie-io/vigie/pkg/series"

	"github.com/vigie-io/vigie/internal/pipeline/windowed"
)

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
	EncodeWindows(dst []byte, rows *windowed.Rows) ([]byte, error)
	EncodeLimits(dst []byte, rows *LimitRows) ([]byte, error)
	EncodeLetters(dst []byte, rows []LetterRow) ([]byte, error)
	EncodeProgress(dst []byte, rows *ProgressRows) ([]byte, error)
}

// Destinations of result records: the ingest tables, one record = one block = one INSERT.
const (
	TablePanes    = "ingest_panes"   // rollups for the tiers of 10 s alone; mergers make those of the wider tiers
	TableRollups  = "ingest_rollups" // rollups for all tiers: of workers that are behind, and of backfills
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
	HeaderCount  = "vigie-count"  // decimal: sum of Count over GrainSeries rows, for audits; only with rollups
	HeaderNewest = "vigie-newest" // decimal: newest event time in the epoch, Unix milliseconds; only with rollups
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
	// HeaderDLQOmitted is the decimal size of an original that made the letter larger than dlq_message_bytes. Such a
	// letter has neither the original's value nor its headers; the source position says where they are.
	HeaderDLQOmitted = "vigie-dlq-omitted"
)
