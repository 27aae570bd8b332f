// Package events is the event contract: what a producer may write, what it means, and why a record is refused.
//
// Its main types are Metric, Span and Log, the Decoder that turns the bytes of one Kafka record (or of one
// HTTP body) into a Batch of them, and Reject, which says which event was refused and why.
// Event time is int64 Unix nanoseconds. The package has no clock: what "too far in the future" means is
// decided with a time passed in. It opens no socket and logs nothing.
package events

import "github.com/vigie-io/vigie/pkg/series"

// Signal names one kind of telemetry; its source topic is vigie.<signal>.v1.
type Signal string

// The signals of the contract that this package decodes.
const (
	Metrics Signal = "metrics"
	Spans   Signal = "spans"
	Logs    Signal = "logs"
)

// Kind says how a metric's values combine.
type Kind uint8

// Kinds. The numbers are part of the storage format and never change.
const (
	// Observation is one measurement of a distribution: counted, summed and sketched.
	Observation Kind = 0
	// Delta is an amount since the previous event of the series: summed.
	Delta Kind = 1
	// Gauge is a level: the last value of a pane counts.
	Gauge Kind = 2
	// Cumulative is a running total that may reset: the last value of a pane counts, Prometheus semantics apply.
	Cumulative Kind = 3
)

// Metric is one measurement, delta, gauge or cumulative sample, or one pre-aggregated histogram.
type Metric struct {
	Tenant string
	Time   int64 // Unix nanoseconds
	Start  int64 // start of the accumulation (OTLP start_time_unix_nano), 0 when unknown
	Name   string
	Kind   Kind
	Value  float64 // unused when Histogram is set
	Stale  bool    // the series has ended at Time: there is no value. Of kind Gauge or Cumulative only
	Labels series.Labels
	Unit   string // "" when unknown
	Help   string // "" when unknown

	// Histogram is set for pre-aggregated data: Kind Observation or Delta merge it into the series' sketch,
	// Cumulative (a Prometheus native histogram) keeps the last one of a pane, Gauge likewise.
	Histogram *Histogram

	// Digest stands for everything the event says but time, start and value. Zero when Source.Repeats was nil, and for
	// events that cannot be known again.
	Digest series.ID
}

// Histogram is an exponential histogram: bucket i of Positive counts values in (γ^i, γ^(i+1)], γ = 2^(2^-Scale)
// (OpenTelemetry's index; Prometheus' is one more). Of CustomScale it is one with bounds of its own: bucket i counts
// values in (Bounds[i-1], Bounds[i]], the first all below and the last all above; such one is of kind Gauge or
// Cumulative. Counts are whole numbers unless a Prometheus float histogram brought them.
type Histogram struct {
	Scale         int32
	ZeroThreshold float64
	ZeroCount     float64
	Count         float64
	Sum           float64
	Min, Max      float64 // NaN when unknown
	Positive      Buckets
	Negative      Buckets
	Bounds        []float64 // of CustomScale: finite, ascending
}

// Buckets are counts of adjacent buckets; Counts[0] is bucket Offset.
type Buckets struct {
	Offset int32
	Counts []float64
}

// Span is one operation of a trace.
type Span struct {
	Tenant     string
	Time       int64 // when the span ended, Unix nanoseconds
	Duration   int64 // nanoseconds, ≥ 0
	Service    string
	Name       string
	Kind       string // "server", "client", "internal", "producer", "consumer"; "internal" when unknown
	Status     string // "ok", "error", "unset"
	StatusCode int    // HTTP status, 0 when there is none
	Route      string // http.route, "" when unknown
	Peer       string // peer.service, server.address of a client span, or "" when unknown
	TraceID    string // lower-case hex, "" when unknown
	SpanID     string
	ParentID   string
	Attributes series.Labels
}

// Log is one log record.
type Log struct {
	Tenant     string
	Time       int64
	Service    string
	Severity   string // "trace", "debug", "info", "warn", "error", "fatal", or "unknown"
	Body       string
	TraceID    string
	SpanID     string
	Attributes series.Labels
}

// Reason says in a word why an event or a record was refused; it is a metric label and a DLQ header.
type Reason string

// Reject is one refused event of a record.
type Reject struct {
	Index  int    // position of the event in the record; -1 when the whole record was refused
	Reason Reason // bounded set, see reasons.go
	Field  string // the field at fault, "" when none
	Detail string // a sentence for people: what was wrong, with which value, and what to change
}

// Source is one record (or HTTP body) to decode. The Decoder does not retain its slices.
type Source struct {
	Signal      Signal
	ContentType string // "" or application/json…, application/x-protobuf, see Decoder
	Key         []byte // Kafka key: tenant, or tenant#shard; nil on HTTP
	Tenant      string // the authority's word (credential or x-scope-orgid header), "" when there is none
	Value       []byte
	Timestamp   int64 // Unix nanoseconds; used when an event has no time of its own

	// Repeats are the metric events that need not be decoded again; nil decodes all. They are of the tenant that Tenant
	// or Key names.
	Repeats *Repeats
	// Look is one that was taken at the record, with Repeats, so that what it did is not done once more; nil for none.
	Look *Look
}

// Batch is what one Source decodes to. Index of an event in its record: MetricIndex, SpanIndex, LogIndex
// run beside the events. Events and their strings belong to the Batch until the next Decode into it.
type Batch struct {
	Metrics     []Metric
	MetricIndex []int
	Repeats     []Repeat // metrics that are not among Metrics
	Spans       []Span
	SpanIndex   []int
	Logs        []Log
	LogIndex    []int
	Rejects     []Reject
	Events      int // events seen in the record, good and refused
	NoTime      int // events that took Source.Timestamp for want of a time
	Stale       int // OTLP points of delta temporality without a recorded value, and quantiles of NaN, skipped
	Coarse      int // pre-aggregated observations whose scale is below 6

	scratch scratch // memory behind the events; a Batch in use must not be copied
}
