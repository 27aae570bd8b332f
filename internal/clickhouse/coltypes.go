package clickhouse

import (
	"fmt"
	"io"
	"time"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/vigie-io/vigie/pkg/sketches"
)

func lowCardinality() *proto.ColLowCardinality[string] {
	return proto.NewLowCardinality[string](new(words))
}

// words is a dictionary. A proto.ColStr would make a new string for each row that has a word.
type words struct {
	proto.ColStr
	all []string
}

func (w *words) DecodeColumn(r *proto.Reader, rows int) error {
	if err := w.ColStr.DecodeColumn(r, rows); err != nil {
		return err
	}
	for i := range rows {
		w.all = append(w.all, w.ColStr.Row(i))
	}
	return nil
}

func (w *words) Row(i int) string { return w.all[i] }

func (w *words) Reset() {
	w.ColStr.Reset()
	w.all = w.all[:0]
}

func milliseconds() *proto.ColDateTime64 {
	return new(proto.ColDateTime64).WithPrecision(proto.PrecisionMilli).WithLocation(time.UTC)
}

func wholeSeconds() *proto.ColDateTime64 {
	return new(proto.ColDateTime64).WithPrecision(proto.PrecisionSecond).WithLocation(time.UTC)
}

// sketchColumn takes what is left of a block as sketch states: nothing but reading a state tells where it ends.
type sketchColumn struct {
	states []byte
	rows   int
}

func (*sketchColumn) Type() proto.ColumnType { return typeSketch }

func (c *sketchColumn) Rows() int { return c.rows }

func (c *sketchColumn) Reset() { *c = sketchColumn{} }

func (c *sketchColumn) DecodeColumn(r *proto.Reader, rows int) error {
	states, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if _, err := stateEnds(states, rows, nil); err != nil {
		return err
	}
	c.states, c.rows = states, rows
	return nil
}

// stateEnds replaces what into holds by where each of so many states ends, which are all that there is.
func stateEnds(states []byte, rows int, into []int) (ends []int, err error) {
	ends = into[:0]
	end := 0
	for row := range rows {
		n, err := sketches.MeasureDD(states[end:])
		if err != nil {
			return ends, fmt.Errorf("sketch of row %d: %w", row, err)
		}
		end += n
		ends = append(ends, end)
	}
	if end != len(states) {
		return ends, fmt.Errorf("%d bytes behind the last of %d sketches", len(states)-end, rows)
	}
	return ends, nil
}
