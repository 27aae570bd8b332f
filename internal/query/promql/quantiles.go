package promql

import (
	"fmt"
	"math"
	"math/bits"
	"slices"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/vigie-io/vigie/pkg/sketches"
)

// bucketCounts is what the windows of a series counted by bucket, without what is empty.
type bucketCounts struct {
	ends    []int // of each window in slots and counts
	slots   []uint16
	counts  []float64
	total   float64
	partial bool // some count is no whole number
	windows int  // about how many there will be
}

// Slots are places of buckets: those of positive values, then those of negative ones, then that of zeros. Those of a
// sign begin at a multiple of 64.
const (
	sideSlots = (sketches.MaxIndex - sketches.MinIndex + 64) &^ 63
	zeroSlot  = 2 * sideSlots
	allSlots  = zeroSlot + 1
)

// add appends a window, the sum of states one after another, and returns how many buckets it has.
func (b *bucketCounts) add(states []byte) (n int, err error) {
	before := len(b.slots)
	positive := func(i int32, n float64) { b.put(int(i-sketches.MinIndex), n) }
	negative := func(i int32, n float64) { b.put(sideSlots+int(i-sketches.MinIndex), n) }
	for len(states) > 0 {
		zeros, length, err := sketches.WalkDD(states, positive, negative)
		if err != nil {
			return 0, fmt.Errorf("decode sketch: %w", err)
		}
		if zeros > 0 {
			b.put(zeroSlot, zeros)
		}
		states = states[length:]
	}
	if len(b.ends) == 0 { // the others will be much the same
		b.ends = make([]int, 0, b.windows)
		b.slots, b.counts = slices.Grow(b.slots, b.windows*len(b.slots)), slices.Grow(b.counts, b.windows*len(b.counts))
	}
	b.ends = append(b.ends, len(b.slots))
	return len(b.slots) - before, nil
}

func (b *bucketCounts) put(slot int, n float64) {
	b.slots, b.counts = append(b.slots, uint16(slot)), append(b.counts, n)
	b.total += n
	b.partial = b.partial || n != math.Trunc(n)
}

// exact tells whether any sum and difference of counts is right to the last digit.
func (b *bucketCounts) exact() bool { return !b.partial && b.total < 1<<53 }

// quantiles evaluates histogram_quantile of sums of windows. A window is added when a range reaches it and taken out
// again when one has left it behind, so that it costs the same in however many ranges it lies. Not safe for concurrent
// use.
type quantiles struct {
	part *stepped
	lb   *labels.Builder

	of        *bucketCounts // the series at hand
	windows   []int         // by sample: which of its windows, or -1 for one without events
	sums      []float64     // by sample: of the values
	low, high int           // samples that are in total

	total     [allSlots]float64
	filled    [(allSlots + 63) / 64]uint64 // which of total are not zero
	histogram histogram.FloatHistogram     // total as upstream has it
}

func newQuantiles(part *stepped) *quantiles {
	return &quantiles{part: part, lb: labels.NewBuilder(labels.EmptyLabels()), histogram: histogram.FloatHistogram{
		Schema: sketchSchema, ZeroThreshold: empty.ZeroThreshold, CounterResetHint: histogram.GaugeType,
	}}
}

// begin takes up a series.
func (q *quantiles) begin(of *deltas) {
	q.of, q.windows, q.sums = of.counts, q.windows[:0], q.sums[:0]
	q.clear()
}

// sample takes the next sample of the series.
func (q *quantiles) sample(it *windowIterator) {
	q.windows, q.sums = append(q.windows, it.window), append(q.sums, it.f)
}

// labels are those that the sum leaves of a series.
func (q *quantiles) labels(of labels.Labels) labels.Labels {
	keepLabels(q.lb, of, q.part.aggregate)
	return q.lb.Labels()
}

// over is the quantile of the samples from low to high, times a factor. Neither may be less than it was for the same
// series.
func (q *quantiles) over(low, high int, factor float64) (float64, annotations.Annotations) {
	q.move(low, high)
	h, n := &q.histogram, 0.
	h.PositiveSpans, h.PositiveBuckets = q.buckets(h.PositiveSpans[:0], h.PositiveBuckets[:0], 0, factor, &n)
	h.NegativeSpans, h.NegativeBuckets = q.buckets(h.NegativeSpans[:0], h.NegativeBuckets[:0], sideSlots, factor, &n)
	h.ZeroCount, h.Count, h.Sum = q.total[zeroSlot]*factor, (n+q.total[zeroSlot])*factor, 0
	for _, sum := range q.sums[low:high] {
		h.Sum += sum
	}
	h.Sum *= factor
	return promql.HistogramQuantile(q.part.phi, h, "", q.part.quantile.Args[1].PositionRange())
}

// move makes total the sum of the samples from low to high. What is not exact would leave something of a window behind.
func (q *quantiles) move(low, high int) {
	if low >= q.high || !q.of.exact() {
		q.clear()
		q.low, q.high = low, low
	}
	for ; q.high < high; q.high++ {
		q.add(q.windows[q.high], 1)
	}
	for ; q.low < low; q.low++ {
		q.add(q.windows[q.low], -1)
	}
}

func (q *quantiles) add(window int, times float64) {
	if window < 0 {
		return
	}
	from, to := 0, q.of.ends[window]
	if window > 0 {
		from = q.of.ends[window-1]
	}
	counts := q.of.counts[from:to]
	for i, slot := range q.of.slots[from:to] {
		q.total[slot] += times * counts[i]
		if word, bit := slot/64, uint64(1)<<(slot%64); q.total[slot] != 0 {
			q.filled[word] |= bit
		} else {
			q.filled[word] &^= bit
		}
	}
}

func (q *quantiles) clear() {
	q.low, q.high = 0, 0
	clear(q.total[:])
	clear(q.filled[:])
}

// buckets appends those of one sign, whose slots begin at first, to a histogram's, times a factor, and adds what they
// count to n.
func (q *quantiles) buckets(spans []histogram.Span, counts []float64, first int, factor float64, n *float64) (
	[]histogram.Span, []float64) {
	next := int32(0) // after the last one, by upstream's number
	for word := first / 64; word < (first+sideSlots)/64; word++ {
		for set := q.filled[word]; set != 0; set &= set - 1 {
			slot := 64*word + bits.TrailingZeros64(set)
			i := int32(slot-first) + sketches.MinIndex + 1
			if len(spans) == 0 || i != next {
				spans = append(spans, histogram.Span{Offset: i - next})
			}
			spans[len(spans)-1].Length++
			counts = append(counts, q.total[slot]*factor)
			*n += q.total[slot]
			next = i + 1
		}
	}
	return spans, counts
}
