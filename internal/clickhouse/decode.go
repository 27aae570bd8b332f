package clickhouse

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/vigie-io/vigie/internal/coarse"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/pipeline/windowed"
	"github.com/vigie-io/vigie/pkg/series"
)

// Decoder reads the blocks that Encoder writes, and takes nothing else: an error says that the bytes are not exactly
// one such block. It is for programs that look at result records themselves; ClickHouse takes them as they are. The
// zero value is ready.
type Decoder struct{}

// DecodeRollups reads a block of pipeline.TableRollups. The rows do not refer to block.
func (d Decoder) DecodeRollups(block []byte) (*pipeline.Rollups, error) {
	var rows coarse.Rows
	if err := d.ReadRollups(bytes.Clone(block), &rows); err != nil {
		return nil, err
	}
	return &rows.Rollups, nil
}

// ReadRollups is DecodeRollups into memory that is used again: it replaces what rows holds. Texts and states are those
// of block. After an error rows hold nothing of use.
func (Decoder) ReadRollups(block []byte, rows *coarse.Rows) error {
	r := readBlock(block, rollupColumns)
	r.amounts(&rows.Rollups)
	rows.Min, rows.Max = r.floatColumn("min", rows.Min), r.floatColumn("max", rows.Max)
	r.column("last", typeLast)
	rows.LastTime, rows.Last = readNumbers(r, rows.LastTime), r.floats(rows.Last)
	rows.LastHist = r.strings(rows.LastHist)
	r.column("sketch", typeSketch)
	rows.Sketch, rows.Ends = r.states(rows.Ends)
	if err := r.release(); err != nil {
		return fmt.Errorf("decode block of %s: %w", pipeline.TableRollups, err)
	}
	return nil
}

// amounts takes the columns that rows of rollups begin with: which they are, their counts and sums.
func (r *blockReader) amounts(rows *pipeline.Rollups) {
	rows.Grain = readColumn(r, "grain", proto.ColumnTypeUInt8, rows.Grain)
	rows.Tenant = r.lowCardinality("tenant", rows.Tenant)
	rows.Metric = r.lowCardinality("metric", rows.Metric)
	rows.Service = r.lowCardinality("service", rows.Service)
	rows.Series = r.ids("series_id", rows.Series)
	rows.Pane = readColumn(r, "ts", typeTime, rows.Pane)
	rows.Count = readColumn(r, "count", proto.ColumnTypeUInt64, rows.Count)
	rows.Sum = r.floatColumn("sum", rows.Sum)
}

// DecodeAmounts reads of a block of pipeline.TableRollups which rows it has, and their counts and sums. The other
// columns, most of the block, come behind these and are not read. The rows do not refer to block.
func (Decoder) DecodeAmounts(block []byte) (*pipeline.Rollups, error) {
	rows := &pipeline.Rollups{}
	r := readBlock(block, rollupColumns)
	r.amounts(rows)
	if err := r.release(); err != nil {
		return nil, fmt.Errorf("decode block of %s: %w", pipeline.TableRollups, err)
	}
	cloneWords(rows.Tenant)
	cloneWords(rows.Metric)
	cloneWords(rows.Service)
	return rows, nil
}

// cloneWords replaces texts by copies: one for each run of equal ones.
func cloneWords(words []string) {
	for i, word := range words {
		if i > 0 && word == words[i-1] {
			words[i] = words[i-1]
		} else {
			words[i] = strings.Clone(word)
		}
	}
}

// DecodeSeries reads a block of pipeline.TableSeries. The rows do not refer to block.
func (Decoder) DecodeSeries(block []byte) (*pipeline.SeriesRows, error) {
	var (
		tenant, metric, service, unit = lowCardinality(), lowCardinality(), lowCardinality(), lowCardinality()
		id                            proto.ColUInt128
		kind                          proto.ColUInt8
		native                        proto.ColBool
		help                          proto.ColStr
		labels                        = proto.NewMap[string, string](lowCardinality(), new(proto.ColStr))
		seen                          = proto.ColDateTime{Location: time.UTC}
	)
	err := readOne(block, proto.Results{
		{Name: "tenant", Data: tenant}, {Name: "metric", Data: metric}, {Name: "service", Data: service},
		{Name: "series_id", Data: &id}, {Name: "kind", Data: &kind}, {Name: "native", Data: &native},
		{Name: "unit", Data: unit}, {Name: "help", Data: &help},
		{Name: "labels", Data: labels}, {Name: "last_seen", Data: &seen},
	})
	if err != nil {
		return nil, fmt.Errorf("decode block of %s: %w", pipeline.TableSeries, err)
	}
	rows := &pipeline.SeriesRows{
		Tenant: tenant.Values, Metric: metric.Values, Service: service.Values, ID: idsOf(id), Kind: kind, Native: native,
		Unit: unit.Values,
	}
	for i := range kind {
		rows.Help = append(rows.Help, help.Row(i))
		rows.LastSeen = append(rows.LastSeen, uint32(seen.Data[i]))
		rows.Labels = append(rows.Labels, labelsAt(labels, i))
	}
	return rows, nil
}

// DecodeWindows reads a block of pipeline.TableWindows. The rows do not refer to block.
func (Decoder) DecodeWindows(block []byte) (*windowed.Rows, error) {
	var (
		tenant, metric, service = lowCardinality(), lowCardinality(), lowCardinality()
		shape, part             = lowCardinality(), lowCardinality()
		id                      proto.ColUInt128
		labels                  = proto.NewMap[string, string](lowCardinality(), new(proto.ColStr))
		start, end              = wholeSeconds(), wholeSeconds()
		measured, kind          proto.ColUInt8
		rule, delta, count      proto.ColUInt64
		version                 proto.ColUInt32
		sum, min, max           proto.ColFloat64
		sketch                  sketchColumn
	)
	err := readOne(block, proto.Results{
		{Name: "tenant", Data: tenant}, {Name: "metric", Data: metric}, {Name: "service", Data: service},
		{Name: "series_id", Data: &id}, {Name: "labels", Data: labels}, {Name: "start", Data: start}, {Name: "end", Data: end},
		{Name: "series_kind", Data: &measured}, {Name: "shape", Data: shape}, {Name: "rule", Data: &rule},
		{Name: "part", Data: part}, {Name: "version", Data: &version},
		{Name: "kind", Data: &kind}, {Name: "delta", Data: &delta}, {Name: "count", Data: &count},
		{Name: "sum", Data: &sum}, {Name: "min", Data: &min}, {Name: "max", Data: &max}, {Name: "sketch", Data: &sketch},
	})
	if err != nil {
		return nil, fmt.Errorf("decode block of %s: %w", pipeline.TableWindows, err)
	}
	rows := &windowed.Rows{
		Tenant: tenant.Values, Metric: metric.Values, Service: service.Values, Series: idsOf(id), SeriesKind: measured,
		Shape: shape.Values, Rule: rule, Part: part.Values, Version: version, Delta: delta, Count: count,
		Sum: sum, Min: min, Max: max, Sketch: sketch.states,
	}
	for i := range kind {
		rows.Labels = append(rows.Labels, labelsAt(labels, i))
		rows.Start, rows.End = append(rows.Start, int64(start.Data[i])), append(rows.End, int64(end.Data[i]))
		rows.Kind = append(rows.Kind, windowed.Kind(kind[i]))
	}
	return rows, nil
}

func labelsAt(column *proto.ColMap[string, string], row int) (labels series.Labels) {
	for _, pair := range column.RowKV(row) {
		labels = append(labels, series.Label{Name: pair.Key, Value: pair.Value})
	}
	return labels
}

// DecodeProgress reads a block of pipeline.TableProgress. The rows do not refer to block.
func (Decoder) DecodeProgress(block []byte) (*pipeline.ProgressRows, error) {
	var (
		tenant, topic = lowCardinality(), lowCardinality()
		partition     proto.ColInt32
		at, updated   = milliseconds(), milliseconds()
	)
	err := readOne(block, proto.Results{
		{Name: "tenant", Data: tenant}, {Name: "topic", Data: topic}, {Name: "partition", Data: &partition},
		{Name: "time", Data: at}, {Name: "updated", Data: updated},
	})
	if err != nil {
		return nil, fmt.Errorf("decode block of %s: %w", pipeline.TableProgress, err)
	}
	rows := &pipeline.ProgressRows{Topic: topic.Values, Partition: partition, Tenant: tenant.Values}
	for i := range partition {
		rows.Time = append(rows.Time, int64(at.Data[i]))
		rows.Updated = append(rows.Updated, int64(updated.Data[i]))
	}
	return rows, nil
}

// DecodeMerged reads a block of coarse.TableMerged.
func (Decoder) DecodeMerged(block []byte) (at coarse.Position, err error) {
	var (
		topic     proto.ColStr
		partition proto.ColInt32
		next      proto.ColInt64
	)
	err = readOne(block, proto.Results{{Name: "topic", Data: &topic}, {Name: "partition", Data: &partition}, {Name: "next", Data: &next}})
	if err == nil && len(next) != 1 {
		err = fmt.Errorf("%d rows, want 1", len(next))
	}
	if err != nil {
		return at, fmt.Errorf("decode block of %s: %w", coarse.TableMerged, err)
	}
	return coarse.Position{Topic: topic.First(), Partition: partition[0], Next: next[0]}, nil
}

// DecodeLimits reads a block of pipeline.TableLimits.
func (Decoder) DecodeLimits(block []byte) (*pipeline.LimitRows, error) {
	var (
		tenant, signal, reason, part = lowCardinality(), lowCardinality(), lowCardinality(), lowCardinality()
		minute                       proto.ColDateTime
		told                         proto.ColInt64
		most, used, dropped          proto.ColUInt64
	)
	err := readOne(block, proto.Results{
		{Name: "tenant", Data: tenant}, {Name: "signal", Data: signal}, {Name: "reason", Data: reason},
		{Name: "part", Data: part}, {Name: "ts", Data: &minute}, {Name: "told", Data: &told},
		{Name: "most", Data: &most}, {Name: "used", Data: &used}, {Name: "dropped", Data: &dropped},
	})
	if err != nil {
		return nil, fmt.Errorf("decode block of %s: %w", pipeline.TableLimits, err)
	}
	rows := &pipeline.LimitRows{
		Tenant: tenant.Values, Signal: signal.Values, Reason: reason.Values, Part: part.Values, Told: told,
		Most: most, Used: used, Dropped: dropped,
	}
	for _, at := range minute.Data {
		rows.Minute = append(rows.Minute, uint32(at))
	}
	return rows, nil
}

func idsOf(column proto.ColUInt128) []series.ID {
	ids := make([]series.ID, len(column))
	for i, id := range column {
		ids[i] = series.ID{Hi: id.High, Lo: id.Low}
	}
	return ids
}

// buffers are kept for readOne. proto.NewReader takes a buffer of its own size as it is, and makes one otherwise: 128
// KiB for a block of a few rows.
var buffers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 128<<10) }}

// readOne reads the one block that data is.
func readOne(data []byte, columns proto.Results) error {
	buffer := buffers.Get().(*bufio.Reader)
	defer buffers.Put(buffer)
	buffer.Reset(bytes.NewReader(data))
	defer buffer.Reset(nil) // it must not keep data alive
	reader := proto.NewReader(buffer)
	var block proto.Block
	if err := block.DecodeRawBlock(reader, protocol, columns); err != nil {
		return err
	}
	rest, err := io.ReadAll(reader)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return fmt.Errorf("%d bytes behind the last row", len(rest))
	}
	return nil
}
