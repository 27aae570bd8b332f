package clickhouse

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/vigie-io/vigie/internal/coarse"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/pipeline/windowed"
	"github.com/vigie-io/vigie/migrations"
)

// Encoder turns rows into native blocks, byte by byte as docs/format/results.md says. The zero value is ready.
type Encoder struct{}

var _ pipeline.Encoder = Encoder{}

// Format is the value of the header vigie-format of records that Encoder wrote.
const Format = "native/1"

// protocol is the revision that blocks are written in: 0 is what HTTP takes and gives, without the extras of sessions.
const protocol = 0

const (
	typeTime      proto.ColumnType = "DateTime('UTC')"
	typeTimeMilli proto.ColumnType = "DateTime64(3, 'UTC')"
	typeTimeWhole proto.ColumnType = "DateTime64(0, 'UTC')"
	typeLast      proto.ColumnType = "Tuple(Int64, Float64, String)"
)

// Of windowed.Rows with kept measures.
const (
	typeEnd proto.ColumnType = "Tuple(Int64, Float64)"
	typeTop proto.ColumnType = "Tuple(items Array(String), counts Array(Float64), errors Array(Float64)," +
		" floor Float64, total Float64, k UInt16)"
)

var typeDistinct = proto.ColumnType(migrations.DistinctType())

var typeSketch = proto.ColumnType(migrations.SketchType())

const (
	rollupColumns = 12 // of blocks of pipeline.TableRollups
	rollupBytes   = 96 // of a row of theirs without its sketch, about
	seriesBytes   = 40 // of a row of pipeline.TableSeries without its texts, about
)

var errShape = errors.New("BUG: columns differ in length, or there are no rows")

// EncodeRollups appends the block of pipeline.TableRollups, TablePanes or coarse.TableMinutes. It takes len(rows.Grain) as the number of rows, and trusts
// that rows.Sketch holds as many states: a wrong number is refused by the server.
func (Encoder) EncodeRollups(dst []byte, rows *pipeline.Rollups) ([]byte, error) {
	dst = slices.Grow(dst, rollupBytes*len(rows.Grain)+len(rows.Sketch)) // a new buffer is not copied as it grows
	b := begin(dst, len(rows.Grain), rollupColumns)
	numberColumn(b, "grain", proto.ColumnTypeUInt8, rows.Grain)
	b.lowCardinality("tenant", rows.Tenant)
	b.lowCardinality("metric", rows.Metric)
	b.lowCardinality("service", rows.Service)
	b.ids("series_id", rows.Series)
	numberColumn(b, "ts", typeTime, rows.Pane)
	numberColumn(b, "count", proto.ColumnTypeUInt64, rows.Count)
	b.floatColumn("sum", rows.Sum)
	b.floatColumn("min", rows.Min)
	b.floatColumn("max", rows.Max)
	b.column("last", typeLast)
	numbers(b, rows.LastTime)
	b.floatValues(rows.Last)
	b.strings(rows.LastHist)
	b.column("sketch", typeSketch)
	b.dst = append(b.dst, rows.Sketch...)
	return b.end(pipeline.TableRollups)
}

// EncodeMerged appends the block of coarse.TableMerged.
func (Encoder) EncodeMerged(dst []byte, position coarse.Position) ([]byte, error) {
	b := begin(dst, 1, 3)
	b.column("topic", proto.ColumnTypeString)
	b.strings([]string{position.Topic})
	numberColumn(b, "partition", proto.ColumnTypeInt32, []int32{position.Partition})
	numberColumn(b, "next", proto.ColumnTypeInt64, []int64{position.Next})
	return b.end(coarse.TableMerged)
}

// EncodeSeries appends the block of pipeline.TableSeries.
func (Encoder) EncodeSeries(dst []byte, rows *pipeline.SeriesRows) ([]byte, error) {
	dst = slices.Grow(dst, seriesBytes*len(rows.Tenant)+textBytes(rows)) // as in EncodeRollups
	b := begin(dst, len(rows.Tenant), 10)
	b.lowCardinality("tenant", rows.Tenant)
	b.lowCardinality("metric", rows.Metric)
	b.lowCardinality("service", rows.Service)
	b.ids("series_id", rows.ID)
	numberColumn(b, "kind", proto.ColumnTypeUInt8, rows.Kind)
	b.column("native", proto.ColumnTypeBool)
	b.bools(rows.Native)
	b.lowCardinality("unit", rows.Unit)
	b.column("help", proto.ColumnTypeString)
	b.strings(rows.Help)
	b.labels("labels", rows.Labels)
	numberColumn(b, "last_seen", typeTime, rows.LastSeen)
	return b.end(pipeline.TableSeries)
}

// textBytes are about those that rows take in which each has a text of its own, with the lengths of the texts.
func textBytes(rows *pipeline.SeriesRows) (n int) {
	for _, help := range rows.Help {
		n += 1 + len(help)
	}
	for _, ls := range rows.Labels {
		for i := range ls {
			n += 2 + len(ls[i].Value) // and the number of its name
		}
	}
	return n
}

// EncodeWindows appends the block of pipeline.TableWindows, with the columns of kept measures when rows have any. It
// trusts that rows.Sketch and rows.Distinct hold a state a row.
func (Encoder) EncodeWindows(dst []byte, rows *windowed.Rows) ([]byte, error) {
	columns := 19
	if rows.Measures != nil {
		columns += 5
	}
	b := begin(dst, len(rows.Tenant), columns)
	b.lowCardinality("tenant", rows.Tenant)
	b.lowCardinality("metric", rows.Metric)
	b.lowCardinality("service", rows.Service)
	b.ids("series_id", rows.Series)
	b.labels("labels", rows.Labels)
	numberColumn(b, "start", typeTimeWhole, rows.Start)
	numberColumn(b, "end", typeTimeWhole, rows.End)
	numberColumn(b, "series_kind", proto.ColumnTypeUInt8, rows.SeriesKind)
	b.lowCardinality("shape", rows.Shape)
	numberColumn(b, "rule", proto.ColumnTypeUInt64, rows.Rule)
	b.lowCardinality("part", rows.Part)
	numberColumn(b, "version", proto.ColumnTypeUInt32, rows.Version)
	numberColumn(b, "kind", proto.ColumnTypeUInt8, rows.Kind)
	numberColumn(b, "delta", proto.ColumnTypeUInt64, rows.Delta)
	numberColumn(b, "count", proto.ColumnTypeUInt64, rows.Count)
	b.floatColumn("sum", rows.Sum)
	b.floatColumn("min", rows.Min)
	b.floatColumn("max", rows.Max)
	b.column("sketch", typeSketch)
	b.dst = append(b.dst, rows.Sketch...)
	if rows.Measures != nil {
		b.measures(rows)
	}
	return b.end(pipeline.TableWindows)
}

func (b *block) measures(rows *windowed.Rows) {
	numberColumn(b, "measures", proto.ColumnTypeUInt8, rows.Measures)
	b.column("first", typeEnd)
	numbers(b, rows.FirstTime)
	b.floatValues(rows.First)
	b.column("last", typeEnd)
	numbers(b, rows.LastTime)
	b.floatValues(rows.Last)
	b.column("distinct_state", typeDistinct)
	b.dst = append(b.dst, rows.Distinct...)
	b.column("top", typeTop)
	b.tops(rows.Top)
}

// tops writes the members of a tuple one after the other.
func (b *block) tops(rows []windowed.TopRow) {
	b.check(len(rows))
	ends := func() {
		end := 0
		for i := range rows {
			end += len(rows[i].Items)
			b.int64(int64(end))
		}
	}
	ends()
	for i := range rows {
		for _, item := range rows[i].Items {
			b.text(item)
		}
	}
	for _, column := range []func(*windowed.TopRow) []float64{
		func(t *windowed.TopRow) []float64 { return t.Counts }, func(t *windowed.TopRow) []float64 { return t.Errors },
	} {
		ends()
		for i := range rows {
			values := column(&rows[i])
			b.wrong = b.wrong || len(values) != len(rows[i].Items)
			b.float64s(values)
		}
	}
	for i := range rows {
		b.float64s([]float64{rows[i].Floor})
	}
	for i := range rows {
		b.float64s([]float64{rows[i].Total})
	}
	for i := range rows {
		b.dst = binary.LittleEndian.AppendUint16(b.dst, rows[i].K)
	}
}

// EncodeLimits appends the block of pipeline.TableLimits.
func (Encoder) EncodeLimits(dst []byte, rows *pipeline.LimitRows) ([]byte, error) {
	b := begin(dst, len(rows.Tenant), 9)
	b.lowCardinality("tenant", rows.Tenant)
	b.lowCardinality("signal", rows.Signal)
	b.lowCardinality("reason", rows.Reason)
	b.lowCardinality("part", rows.Part)
	numberColumn(b, "ts", typeTime, rows.Minute)
	numberColumn(b, "told", proto.ColumnTypeInt64, rows.Told)
	numberColumn(b, "most", proto.ColumnTypeUInt64, rows.Most)
	numberColumn(b, "used", proto.ColumnTypeUInt64, rows.Used)
	numberColumn(b, "dropped", proto.ColumnTypeUInt64, rows.Dropped)
	return b.end(pipeline.TableLimits)
}

// EncodeLetters appends the block of pipeline.TableLetters.
func (Encoder) EncodeLetters(dst []byte, rows []pipeline.LetterRow) ([]byte, error) {
	b := begin(dst, len(rows), 12)
	b.lowCardinality("tenant", columnOf(rows, func(r *pipeline.LetterRow) string { return r.Tenant }))
	b.lowCardinality("signal", columnOf(rows, func(r *pipeline.LetterRow) string { return string(r.Signal) }))
	b.lowCardinality("reason", columnOf(rows, func(r *pipeline.LetterRow) string { return string(r.Reason) }))
	b.lowCardinality("topic", columnOf(rows, func(r *pipeline.LetterRow) string { return r.Topic }))
	numberColumn(b, "partition", proto.ColumnTypeInt32, columnOf(rows, func(r *pipeline.LetterRow) int32 { return r.Partition }))
	numberColumn(b, "offset", proto.ColumnTypeInt64, columnOf(rows, func(r *pipeline.LetterRow) int64 { return r.Offset }))
	numberColumn(b, "ts", typeTimeMilli, columnOf(rows, func(r *pipeline.LetterRow) int64 { return r.Time }))
	numberColumn(b, "letters", proto.ColumnTypeUInt64, columnOf(rows, func(r *pipeline.LetterRow) uint64 { return r.Letters }))
	numberColumn(b, "events", proto.ColumnTypeUInt64, columnOf(rows, func(r *pipeline.LetterRow) uint64 { return r.Events }))
	numberColumn(b, "bytes", proto.ColumnTypeUInt64, columnOf(rows, func(r *pipeline.LetterRow) uint64 { return r.Bytes }))
	b.column("detail", proto.ColumnTypeString)
	b.strings(columnOf(rows, func(r *pipeline.LetterRow) string { return r.Detail }))
	b.column("excerpt", proto.ColumnTypeString)
	b.strings(columnOf(rows, func(r *pipeline.LetterRow) string { return r.Excerpt }))
	return b.end(pipeline.TableLetters)
}

func columnOf[T any](rows []pipeline.LetterRow, of func(*pipeline.LetterRow) T) []T {
	column := make([]T, len(rows))
	for i := range rows {
		column[i] = of(&rows[i])
	}
	return column
}

// EncodeProgress appends the block of pipeline.TableProgress or coarse.TableProgress.
func (Encoder) EncodeProgress(dst []byte, rows *pipeline.ProgressRows) ([]byte, error) {
	b := begin(dst, len(rows.Topic), 5)
	b.lowCardinality("tenant", rows.Tenant)
	b.lowCardinality("topic", rows.Topic)
	numberColumn(b, "partition", proto.ColumnTypeInt32, rows.Partition)
	numberColumn(b, "time", typeTimeMilli, rows.Time)
	numberColumn(b, "updated", typeTimeMilli, rows.Updated)
	return b.end(pipeline.TableProgress)
}

// end gives the dictionaries back and returns the bytes.
func (b *block) end(table string) ([]byte, error) {
	dst, rows, wrong := b.dst, b.rows, b.wrong
	b.release()
	if wrong || rows == 0 {
		return nil, fmt.Errorf("encode %d rows of %s: %w", rows, table, errShape)
	}
	return dst, nil
}
