package windowed

import (
	"fmt"
	"time"

	"github.com/vigie-io/vigie/pkg/series"
)

// Blocks are rows of windows in blocks of bounded size.
type Blocks struct {
	Blocks []*Rows

	maxRows, maxBytes int
	bytes             int // estimate, of the last block
}

// NewBlocks returns Blocks without rows. A block is full with so many rows, or when they take so many bytes, about.
func NewBlocks(maxRows, maxBytes int) Blocks {
	return Blocks{maxRows: maxRows, maxBytes: maxBytes}
}

// Reset forgets all blocks, which are the caller's from then on.
func (w *Blocks) Reset() {
	clear(w.Blocks)
	w.Blocks, w.bytes = w.Blocks[:0], 0
}

const rowBytes = 96 // of a row's fixed columns, low-cardinality indexes included

// Add appends a row of the part, which names who has seen the events: a partition, or a set of files.
func (w *Blocks) Add(part string, c Closed) {
	s, e := c.store, c.emission
	key := []byte(e.Key)
	measured, metric, labels, err := series.ParseKey(key)
	if err != nil {
		panic(fmt.Sprintf("BUG: series key %x: %v", key, err))
	}
	b := w.block()
	v := e.Value
	if v == nil {
		v = new(contents)
	}
	v.begin()
	before := len(b.Sketch)
	b.Tenant = append(b.Tenant, e.Tenant)
	b.Metric = append(b.Metric, metric)
	b.Service = append(b.Service, labels.Get("service"))
	b.Series = append(b.Series, series.Hash(key))
	b.Labels = append(b.Labels, labels)
	b.Start = append(b.Start, e.Window.Start/int64(time.Second))
	b.End = append(b.End, e.Window.End/int64(time.Second))
	b.SeriesKind = append(b.SeriesKind, measured)
	b.Shape = append(b.Shape, s.shape)
	b.Rule = append(b.Rule, s.id)
	b.Part = append(b.Part, part)
	b.Version = append(b.Version, e.Version)
	b.Kind = append(b.Kind, c.kind)
	b.Delta = append(b.Delta, c.delta)
	b.Count = append(b.Count, v.Count)
	b.Sum = append(b.Sum, v.Sum)
	b.Min = append(b.Min, v.Min)
	b.Max = append(b.Max, v.Max)
	b.Sketch = v.Sketch.AppendDD(b.Sketch)
	w.bytes += rowBytes + len(e.Key) + len(metric) + len(part) + len(b.Sketch) - before + b.keep(s.keep, v.more)
}

// block returns the block to append a row to.
func (w *Blocks) block() *Rows {
	if n := len(w.Blocks); n > 0 {
		if b := w.Blocks[n-1]; len(b.Tenant) < w.maxRows && w.bytes < w.maxBytes {
			return b
		}
	}
	b := new(Rows)
	w.Blocks, w.bytes = append(w.Blocks, b), 0
	return b
}
