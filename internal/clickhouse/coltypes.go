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
	read := 0
	for row := range rows {
		n, err := sketches.MeasureDD(states[read:])
		if err != nil {
			return fmt.Errorf("sketch of row %d: %w", row, err)
		}
		read += n
	}
	if read != len(states) {
		return fmt.Errorf("%d bytes behind the last of %d sketches", len(states)-read, rows)
	}
	c.states, c.rows = states, rows
	return nil
}
