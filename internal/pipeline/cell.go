package pipeline

import (
	"bytes"
	"math"

	"github.com/vigie-io/vigie/internal/pipeline/aggregate"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/sketches"
)

// cell accumulates what one series got in ten seconds of event time, in 96 bytes without pointers: what is more than a
// few values is kept by the task. Of a dense one nothing is touched but the fields before few: the first of the two
// cache lines of an entry.
type cell struct {
	start uint32
	next  uint32 // another cell of the series, as add gave it; 0 for none
	aggregate.Numbers
	number uint32 // what form says
	form   form
	few    [fewValues]sketches.Bucket // what form says
}

// form is what a cell keeps beside its numbers.
type form uint8

const (
	unused  form = iota // the cell is of no pane
	plain               // nothing: a sum
	few                 // an observation of each count, as buckets
	many                // the same; what does not fit has number in Task.lists
	dense               // a sketch, which has number in Task.sketches
	level               // the last value: time and value in words 0 and 1
	levelOf             // the same of a histogram, which has number in Task.histograms
)

// The level of a series that has ended. Samples are finite, so that of those with one time it is the least.
var (
	endedValue = math.Inf(-1)
	ended      = []byte{0} // in the place of a histogram, of which no version is 0
)

const (
	// fewValues are kept in place. Most series get no more between two drains.
	fewValues = 24
	// manyValues are kept as they come. A sketch of so many is no smaller, and to count in it is to wait for three
	// places in memory.
	manyValues = fewValues + 64
)

// further are the values of a cell behind the first few: two cache lines.
type further [manyValues - fewValues]sketches.Bucket

// word returns the i-th eight bytes of few.
func (c *cell) word(i int) uint64 {
	w := c.few[4*i : 4*i+4 : 4*i+4]
	return uint64(uint16(w[0])) | uint64(uint16(w[1]))<<16 | uint64(uint16(w[2]))<<32 | uint64(uint16(w[3]))<<48
}

func (c *cell) setWord(i int, v uint64) {
	w := c.few[4*i : 4*i+4 : 4*i+4]
	w[0], w[1], w[2], w[3] = sketches.Bucket(v), sketches.Bucket(v>>16), sketches.Bucket(v>>32), sketches.Bucket(v>>48)
}

// begin empties the cell for a pane of a series of the kind.
func (c *cell) begin(start uint32, kind events.Kind) {
	c.start, c.next, c.Numbers = start, 0, aggregate.NoNumbers()
	switch kind {
	case events.Observation:
		c.form = few
	case events.Delta:
		c.form = plain
	default:
		c.form = level
		c.setWord(0, 0)
		c.setWord(1, 0)
	}
}

// number takes one number of a series. Of which kind that is, the cell's form tells: to ask the series' class would be
// to wait for two more places in memory.
func (t *Task) number(c *cell, time int64, v float64) {
	switch c.form {
	case few, many, dense:
		t.observation(c, v)
	case plain:
		c.Add(v)
	default:
		c.Add(v)
		t.level(c, time, v, nil)
	}
}

// observation takes one value of a distribution.
func (t *Task) observation(c *cell, v float64) {
	if b, ok := sketches.BucketOf(v); ok && t.list(c, b) {
		c.Add(v)
		return
	}
	t.sketch(c).Add(v)
	c.Add(v)
}

// list puts a value, which counts next, on the cell's list, if it has one with room.
func (t *Task) list(c *cell, b sketches.Bucket) bool {
	switch {
	case c.form == few && c.Count < fewValues:
		c.few[c.Count] = b
		return true
	case c.form == dense || c.Count >= manyValues:
		return false
	case c.form == few:
		c.form = many
		c.number, _ = t.lists.add()
	}
	t.lists.at(c.number)[c.Count-fewValues] = b
	return true
}

// listed are the values of a cell that has no sketch, those in place and those that are not.
func (t *Task) listed(c *cell) (first, rest []sketches.Bucket) {
	switch c.form {
	case few:
		return c.few[:c.Count], nil
	case many:
		return c.few[:], t.lists.at(c.number)[:c.Count-fewValues]
	}
	return nil, nil
}

// observe takes a pre-aggregated distribution. Fractional counts are rounded in count, not in the sketch.
func (t *Task) observe(c *cell, h *events.Histogram) {
	t.epoch.values += len(h.Positive.Counts) + len(h.Negative.Counts)
	aggregate.Observe(t.sketch(c), h)
	c.AddHistogram(h)
}

// sketch returns that of a cell of observations, which is dense from now on.
func (t *Task) sketch(c *cell) *sketches.Sketch {
	if c.form == dense {
		return t.sketches.at(c.number)
	}
	number, s := t.sketches.add()
	s.Reset()
	first, rest := t.listed(c)
	s.AddBuckets(first)
	s.AddBuckets(rest)
	c.form, c.number = dense, number
	return s
}

// level keeps v when it is the last of the pane. Of samples with one time the greater counts, as in storage
// (the maximum of time, value, histogram), so that order of arrival does not matter.
func (t *Task) level(c *cell, time int64, v float64, hist []byte) {
	lastTime, last := int64(c.word(0)), math.Float64frombits(c.word(1))
	switch {
	case time < lastTime || time == lastTime && v < last:
		return
	case time == lastTime && v == last && bytes.Compare(hist, t.histogram(c)) <= 0:
		return
	}
	c.setWord(0, uint64(time))
	c.setWord(1, math.Float64bits(v))
	if len(hist) == 0 && c.form == level {
		return
	}
	if c.form == level {
		c.form = levelOf
		number, at := t.histograms.add()
		c.number, *at = number, (*at)[:0]
	}
	at := t.histograms.at(c.number)
	t.epoch.histograms += len(hist) - len(*at)
	*at = append((*at)[:0], hist...)
}

// histogram is that of a level.
func (t *Task) histogram(c *cell) []byte {
	if c.form != levelOf {
		return nil
	}
	return *t.histograms.at(c.number)
}

// appendSketch appends the state of the cell's sketch. It may sort the values in place.
func (t *Task) appendSketch(dst []byte, c *cell) []byte {
	if c.form == dense {
		return t.sketch(c).AppendDD(dst)
	}
	first, rest := t.listed(c)
	if len(rest) > 0 {
		t.values = append(append(t.values[:0], first...), rest...)
		first = t.values
	}
	return sketches.AppendBuckets(dst, first)
}

// mergeCell adds a cell of the same start to a pane.
func (t *Task) mergeCell(p *pane, c *cell) {
	p.Numbers.Merge(&c.Numbers)
	if c.form == dense {
		p.Sketch.Merge(t.sketch(c))
		return
	}
	first, rest := t.listed(c)
	p.Sketch.AddBuckets(first)
	p.Sketch.AddBuckets(rest)
}
