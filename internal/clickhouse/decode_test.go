package clickhouse_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/ch-go/proto"
	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/pipeline/windowed"
	"github.com/vigie-io/vigie/migrations"
	"github.com/vigie-io/vigie/pkg/series"
	"github.com/vigie-io/vigie/pkg/sketches"
)

// What was encoded is decoded as it was, and encoding that gives the same bytes.
func TestDecoderIsTheEncodersInverse(t *testing.T) {
	var encoder clickhouse.Encoder
	var decoder clickhouse.Decoder
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 300).Draw(t, "rows")
		text := rapid.StringN(0, 5, -1)
		var rows []row
		announced, progress, closed := &pipeline.SeriesRows{}, &pipeline.ProgressRows{}, &windowed.Rows{}
		for range n {
			id := series.ID{Hi: rapid.Uint64().Draw(t, "hi"), Lo: rapid.Uint64().Draw(t, "lo")}
			rows = append(rows, row{
				grain: pipeline.Grain(rapid.IntRange(0, 1).Draw(t, "grain")), tenant: text.Draw(t, "tenant"),
				metric:  text.Draw(t, "metric"),
				service: text.Draw(t, "service"), id: id, pane: rapid.Uint32().Draw(t, "pane"),
				values:   rapid.SliceOfN(rapid.Float64Range(-1e9, 1e9), 1, 40).Draw(t, "values"),
				lastTime: rapid.Int64().Draw(t, "last time"), last: rapid.Float64().Draw(t, "last"),
				lastHist: text.Draw(t, "hist"),
			})
			var labels series.Labels
			for range rapid.IntRange(0, 3).Draw(t, "labels") {
				labels = append(labels, series.Label{Name: text.Draw(t, "name"), Value: text.Draw(t, "value")})
			}
			announced.Tenant = append(announced.Tenant, text.Draw(t, "tenant"))
			announced.Metric = append(announced.Metric, text.Draw(t, "metric"))
			announced.Service = append(announced.Service, text.Draw(t, "service"))
			announced.ID = append(announced.ID, id)
			announced.Kind = append(announced.Kind, rapid.Uint8().Draw(t, "kind"))
			announced.Native = append(announced.Native, rapid.Bool().Draw(t, "native"))
			announced.Unit = append(announced.Unit, text.Draw(t, "unit"))
			announced.Help = append(announced.Help, text.Draw(t, "help"))
			announced.Labels = append(announced.Labels, labels)
			announced.LastSeen = append(announced.LastSeen, rapid.Uint32().Draw(t, "seen"))
			closed.Tenant = append(closed.Tenant, text.Draw(t, "tenant"))
			closed.Metric = append(closed.Metric, text.Draw(t, "metric"))
			closed.Service = append(closed.Service, text.Draw(t, "service"))
			closed.Series = append(closed.Series, id)
			closed.Labels = append(closed.Labels, labels)
			closed.Start = append(closed.Start, rapid.Int64().Draw(t, "start"))
			closed.End = append(closed.End, rapid.Int64().Draw(t, "end"))
			closed.SeriesKind = append(closed.SeriesKind, rapid.Uint8().Draw(t, "kind"))
			closed.Shape = append(closed.Shape, text.Draw(t, "shape"))
			closed.Rule = append(closed.Rule, rapid.Uint64().Draw(t, "rule"))
			closed.Part = append(closed.Part, text.Draw(t, "part"))
			closed.Version = append(closed.Version, rapid.Uint32().Draw(t, "version"))
			closed.Kind = append(closed.Kind, windowed.Kind(rapid.IntRange(0, 4).Draw(t, "row kind")))
			closed.Delta = append(closed.Delta, rapid.Uint64().Draw(t, "delta"))
			closed.Count = append(closed.Count, rapid.Uint64().Draw(t, "count"))
			closed.Sum = append(closed.Sum, rapid.Float64().Draw(t, "sum"))
			closed.Min = append(closed.Min, rapid.Float64().Draw(t, "min"))
			closed.Max = append(closed.Max, rapid.Float64().Draw(t, "max"))
			progress.Topic = append(progress.Topic, text.Draw(t, "topic"))
			progress.Partition = append(progress.Partition, rapid.Int32().Draw(t, "partition"))
			progress.Tenant = append(progress.Tenant, text.Draw(t, "tenant"))
			progress.Time = append(progress.Time, rapid.Int64().Draw(t, "time"))
			progress.Updated = append(progress.Updated, rapid.Int64().Draw(t, "updated"))
		}
		blocks := rollups(rows...)
		closed.Sketch = blocks.Sketch
		roundTrip(t, closed, encoder.EncodeWindows, decoder.DecodeWindows)
		roundTrip(t, blocks, encoder.EncodeRollups, decoder.DecodeRollups)
		amountsAreRollups(t, blocks)
		roundTrip(t, announced, encoder.EncodeSeries, decoder.DecodeSeries)
		roundTrip(t, progress, encoder.EncodeProgress, decoder.DecodeProgress)
	})
}

func roundTrip[T any](t *rapid.T, rows *T, encode func([]byte, *T) ([]byte, error), decode func([]byte) (*T, error)) {
	block, err := encode(nil, rows)
	if err != nil {
		t.Fatal(err)
	}
	got, err := decode(block)
	if err != nil || !reflect.DeepEqual(got, rows) {
		t.Fatalf("decoded: got %+v, %v, want %+v", got, err, rows)
	}
	for _, bad := range [][]byte{nil, block[:len(block)-1], append(bytes.Clone(block), 0), append(bytes.Clone(block), block...)} {
		if _, err := decode(bad); err == nil {
			t.Fatalf("%d bytes instead of the block's %d: got no error", len(bad), len(block))
		}
	}
}

// amountsAreRollups checks that DecodeAmounts reads what the rows begin with, and refuses what ends before.
func amountsAreRollups(t *rapid.T, rows *pipeline.Rollups) {
	block, err := clickhouse.Encoder{}.EncodeRollups(nil, rows)
	if err != nil {
		t.Fatal(err)
	}
	want := amountsOf(rows)
	got, err := clickhouse.Decoder{}.DecodeAmounts(block)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("amounts: got %+v, %v, want %+v", got, err, want)
	}
	cut := rapid.IntRange(0, 8*len(rows.Grain)).Draw(t, "cut") // not even room for the counts
	for _, bad := range [][]byte{nil, block[:cut], append([]byte{block[0] + 1}, block[1:]...)} {
		if _, err := (clickhouse.Decoder{}).DecodeAmounts(bad); err == nil {
			t.Fatalf("amounts of %d bytes of %d: got no error", len(bad), len(block))
		}
	}
}

func amountsOf(rows *pipeline.Rollups) *pipeline.Rollups {
	return &pipeline.Rollups{
		Grain: rows.Grain, Tenant: rows.Tenant, Metric: rows.Metric, Service: rows.Service, Series: rows.Series, Pane: rows.Pane,
		Count: rows.Count, Sum: rows.Sum,
	}
}

func TestDecoderRefusesOtherBlocks(t *testing.T) {
	block, err := clickhouse.Encoder{}.EncodeProgress(nil, &pipeline.ProgressRows{
		Topic: []string{"t"}, Partition: []int32{0}, Tenant: []string{"acme"}, Time: []int64{1}, Updated: []int64{math.MaxInt64},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, decode := range []func([]byte) (*pipeline.Rollups, error){clickhouse.Decoder{}.DecodeRollups, clickhouse.Decoder{}.DecodeAmounts} {
		if _, err := decode(block); err == nil || !strings.Contains(err.Error(), "columns") {
			t.Errorf("block of another table: got %v, want an error about its columns", err)
		}
	}
}

func FuzzDecodeRollups(f *testing.F) {
	golden, err := os.ReadFile(filepath.Join("testdata", "rollups.golden"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(undump(f, string(golden)))
	f.Fuzz(func(t *testing.T, block []byte) { takesWhatTheLibraryTakes(t, block) })
}

// A damaged block is refused, or it is one that ch-go reads just so.
func TestDecoderOfDamagedBlocks(t *testing.T) {
	golden, err := os.ReadFile(filepath.Join("testdata", "rollups.golden"))
	if err != nil {
		t.Fatal(err)
	}
	good := undump(t, string(golden))
	taken := 0
	for at := range good {
		for _, change := range []byte{1, 0x80, 0xff} {
			block := bytes.Clone(good)
			block[at] ^= change
			if takesWhatTheLibraryTakes(t, block) {
				taken++
			}
		}
		takesWhatTheLibraryTakes(t, append(bytes.Clone(good[:at]), good[at+1:]...))
		takesWhatTheLibraryTakes(t, good[:at])
	}
	if taken == 0 || taken == 3*len(good) {
		t.Errorf("%d of %d damaged blocks were taken: other numbers should, other heads should not", taken, 3*len(good))
	}
}

// takesWhatTheLibraryTakes reports whether a block is taken, and checks that it is then read as ch-go reads it.
func takesWhatTheLibraryTakes(t *testing.T, block []byte) bool {
	t.Helper()
	rows, err := clickhouse.Decoder{}.DecodeRollups(block)
	if err != nil {
		return false
	}
	want, err := libraryRollups(block)
	if err != nil {
		t.Fatalf("taken, but ch-go says: %v", err)
	}
	got := encoded(t, rows)
	if !bytes.Equal(got, encoded(t, want)) {
		t.Fatalf("got %+v, ch-go reads %+v", rows, want)
	}
	amounts, err := clickhouse.Decoder{}.DecodeAmounts(block)
	if err != nil {
		t.Fatalf("amounts: %v", err)
	}
	amounts.Min, amounts.Max, amounts.LastTime, amounts.Last = rows.Min, rows.Max, rows.LastTime, rows.Last
	amounts.LastHist, amounts.Sketch = rows.LastHist, rows.Sketch
	if !bytes.Equal(got, encoded(t, amounts)) {
		t.Fatalf("amounts: got %+v, want those of %+v", amounts, rows)
	}
	return true
}

func encoded(t *testing.T, rows *pipeline.Rollups) []byte {
	block, err := clickhouse.Encoder{}.EncodeRollups(nil, rows)
	if err != nil {
		t.Fatal(err)
	}
	return block
}

// libraryRollups reads a block by ch-go's columns.
func libraryRollups(block []byte) (*pipeline.Rollups, error) {
	var (
		grain                   proto.ColUInt8
		tenant, metric, service = wordColumn(), wordColumn(), wordColumn()
		id                      proto.ColUInt128
		start                   = proto.ColDateTime{Location: time.UTC}
		count                   proto.ColUInt64
		sum, least, most, last  proto.ColFloat64
		lastTime                proto.ColInt64
		lastHist                proto.ColStr
		sketch                  stateColumn
	)
	columns := proto.Results{
		{Name: "grain", Data: &grain},
		{Name: "tenant", Data: tenant}, {Name: "metric", Data: metric}, {Name: "service", Data: service},
		{Name: "series_id", Data: &id}, {Name: "ts", Data: &start}, {Name: "count", Data: &count},
		{Name: "sum", Data: &sum}, {Name: "min", Data: &least}, {Name: "max", Data: &most},
		{Name: "last", Data: proto.ColTuple{&lastTime, &last, &lastHist}}, {Name: "sketch", Data: &sketch},
	}
	if err := new(proto.Block).DecodeRawBlock(proto.NewReader(bytes.NewReader(block)), 0, columns); err != nil {
		return nil, err
	}
	rows := &pipeline.Rollups{Tenant: tenant.Values, Metric: metric.Values, Service: service.Values, Count: count, Sum: sum, Min: least, Max: most,
		LastTime: lastTime, Last: last, Sketch: sketch.states}
	for i := range grain {
		rows.Grain = append(rows.Grain, pipeline.Grain(grain[i]))
		rows.Series = append(rows.Series, series.ID{Hi: id[i].High, Lo: id[i].Low})
		rows.Pane = append(rows.Pane, uint32(start.Data[i]))
		rows.LastHist = append(rows.LastHist, lastHist.Row(i))
	}
	return rows, nil
}

func wordColumn() *proto.ColLowCardinality[string] {
	return proto.NewLowCardinality[string](new(proto.ColStr))
}

// stateColumn takes what is left of a block, if it is a state a row.
type stateColumn struct {
	states []byte
	rows   int
}

func (*stateColumn) Type() proto.ColumnType { return proto.ColumnType(migrations.SketchType()) }
func (c *stateColumn) Rows() int            { return c.rows }
func (c *stateColumn) Reset()               { *c = stateColumn{} }

func (c *stateColumn) DecodeColumn(r *proto.Reader, rows int) (err error) {
	if c.states, err = io.ReadAll(r); err != nil {
		return err
	}
	c.rows = rows
	rest := c.states
	for range rows {
		n, err := new(sketches.Sketch).DecodeDD(rest)
		if err != nil {
			return err
		}
		rest = rest[n:]
	}
	if len(rest) > 0 {
		return fmt.Errorf("%d bytes left", len(rest))
	}
	return nil
}

// undump reads what hex.Dump wrote.
func undump(t testing.TB, dump string) (out []byte) {
	for line := range strings.Lines(dump) {
		text, _, _ := strings.Cut(line, "|")
		_, digits, _ := strings.Cut(text, " ")
		row, err := hex.DecodeString(strings.Join(strings.Fields(digits), ""))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, row...)
	}
	return out
}
