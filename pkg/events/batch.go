package events

import "github.com/vigie-io/vigie/pkg/series"

// keepBytes is how large an arena may stay: one giant record must not pin its memory in every later batch.
const keepBytes = 4 << 20

// maxRecordLabels bounds the labels of one record, 32 MiB of them: a data point of an OTLP histogram brings its labels
// once and each of its buckets needs them again.
const maxRecordLabels = 1 << 20

// scratch is the memory a Batch keeps from one Decode to the next. Events hold slices of labels and counts;
// growing leaves the old arrays to the events that point to them.
type scratch struct {
	scan   scanner
	labels []series.Label
	hists  []Histogram
	counts []float64
	bounds []float64
	text   []byte // texts that stand in no record: keys, joined values
	names  names
}

// reset forgets the last record.
func (b *Batch) reset() {
	b.Metrics, b.MetricIndex, b.Repeats = b.Metrics[:0], b.MetricIndex[:0], b.Repeats[:0]
	b.Spans, b.SpanIndex = b.Spans[:0], b.SpanIndex[:0]
	b.Logs, b.LogIndex = b.Logs[:0], b.LogIndex[:0]
	clear(b.Rejects) // their details are of the heap
	b.Rejects = b.Rejects[:0]
	b.Events, b.NoTime, b.Stale, b.Coarse = 0, 0, 0, 0
	c := &b.scratch
	c.labels, c.hists = shrink(c.labels, 32), shrink(c.hists, 160)
	c.counts, c.bounds, c.text = shrink(c.counts, 8), shrink(c.bounds, 8), c.text[:0]
	if cap(b.Metrics) > keepBytes/208 {
		b.Metrics, b.MetricIndex = nil, nil
	}
	b.Repeats = shrink(b.Repeats, 32)
}

// empty forgets the metrics of the record, and what was refused of them.
func (b *Batch) empty() {
	clear(b.Rejects)
	b.MetricIndex, b.Repeats, b.Rejects = b.MetricIndex[:0], b.Repeats[:0], b.Rejects[:0]
	b.Events, b.NoTime, b.Stale, b.Coarse = 0, 0, 0, 0
	b.rewind(mark{})
}

// shrink empties an arena of elements of so many bytes, and drops it when it grew beyond what is worth keeping.
func shrink[T any](arena []T, size int) []T {
	if cap(arena)*size > keepBytes {
		return nil
	}
	return arena[:0]
}

// mark is how full the arenas are.
type mark struct{ labels, hists, counts, bounds int }

func (c *scratch) mark() mark { return mark{len(c.labels), len(c.hists), len(c.counts), len(c.bounds)} }

// rewind forgets the event at hand, which has not been taken: it has no index, and gives back what it took of the
// arenas.
func (b *Batch) rewind(m mark) {
	b.Metrics, b.Spans, b.Logs = b.Metrics[:len(b.MetricIndex)], b.Spans[:len(b.SpanIndex)], b.Logs[:len(b.LogIndex)]
	c := &b.scratch
	c.labels, c.hists, c.counts, c.bounds = c.labels[:m.labels], c.hists[:m.hists], c.counts[:m.counts], c.bounds[:m.bounds]
}
