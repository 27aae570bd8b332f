package events

import (
	"fmt"
	"math"
)

// CustomScale is the scale of a histogram whose buckets have bounds of their own: Prometheus' schema of custom buckets.
const CustomScale = -53

// Scales of exponential histograms: OpenTelemetry's −10 to 20 include Prometheus' schemas −4 to 8.
const (
	minScale = -10
	maxScale = 20
	// exactScale is the scale of Vigie's own sketches; coarser histograms merge with their own error.
	exactScale = 6
)

const (
	fieldScale uint64 = 1 << iota
	fieldZeroThreshold
	fieldZeroCount
	fieldCount
	fieldSum
	fieldMin
	fieldMax
	fieldPositive
	fieldNegative
	fieldBounds
	fieldOffset
	fieldCounts
)

// histogram reads the field histogram into the arena.
func (w *work) histogram(dst **Histogram) bool {
	s := w.s
	if b := s.space(); b != '{' {
		return s.other(b, "an object: scale, count, sum, positive {offset, counts}")
	}
	s.pos++
	outer := s.seen
	s.seen = 0
	var scale int64
	h := Histogram{Min: math.NaN(), Max: math.NaN()}
	var at *memo
	for first := true; ; first = false {
		key, more, ok := s.nextKey(first, &at)
		if !ok {
			return false
		}
		if !more {
			break
		}
		switch key {
		case "scale":
			s.enter("histogram.scale", fieldScale)
			ok = s.whole(&scale, math.MinInt32, math.MaxInt32)
			h.Scale = s.scale(int32(scale))
		case "zero_threshold":
			s.enter("histogram.zero_threshold", fieldZeroThreshold)
			ok = s.float(&h.ZeroThreshold)
		case "zero_count":
			s.enter("histogram.zero_count", fieldZeroCount)
			ok = s.float(&h.ZeroCount)
		case "count":
			s.enter("histogram.count", fieldCount)
			ok = s.float(&h.Count)
		case "sum":
			s.enter("histogram.sum", fieldSum)
			ok = s.float(&h.Sum)
		case "min":
			s.enter("histogram.min", fieldMin)
			ok = s.float(&h.Min)
		case "max":
			s.enter("histogram.max", fieldMax)
			ok = s.float(&h.Max)
		case "positive":
			s.enter("histogram.positive", fieldPositive)
			ok = w.buckets(&h.Positive)
		case "negative":
			s.enter("histogram.negative", fieldNegative)
			ok = w.buckets(&h.Negative)
		case "bounds":
			s.enter("histogram.bounds", fieldBounds)
			ok = w.floats(&h.Bounds)
		default:
			ok = s.skip(2)
		}
		if !ok {
			return false
		}
	}
	*dst = w.endHistogram(&h, outer)
	return true
}

// endHistogram checks a histogram whose fields have been read, and puts it into the arena. outer are the fields seen of
// the metric.
func (w *work) endHistogram(h *Histogram, outer uint64) *Histogram {
	s := w.s
	for _, need := range [...]struct {
		bit  uint64
		name string
	}{{fieldScale, "histogram.scale"}, {fieldCount, "histogram.count"}, {fieldSum, "histogram.sum"}} {
		if !s.has(need.bit) {
			s.field = need.name
			s.refuse(ReasonMissing, "a histogram needs scale, count and sum")
		}
	}
	s.seen = outer
	s.field = "histogram"
	if reason, detail := h.Check(w.opts.MaxBuckets); reason != "" {
		s.refuse(reason, detail)
	}
	c := &w.out.scratch
	c.hists = append(c.hists, *h)
	return &c.hists[len(c.hists)-1]
}

// buckets reads {offset, counts} of one side.
func (w *work) buckets(dst *Buckets) bool {
	s := w.s
	if b := s.space(); b != '{' {
		return s.other(b, "an object: offset, counts")
	}
	s.pos++
	outer := s.seen
	s.seen = 0
	side := s.field
	var offset int64
	var at *memo
	for first := true; ; first = false {
		key, more, ok := s.nextKey(first, &at)
		if !ok {
			return false
		}
		if !more {
			break
		}
		s.field = side
		switch key {
		case "offset":
			s.enter(side, fieldOffset)
			ok = s.whole(&offset, math.MinInt32, math.MaxInt32)
		case "counts":
			s.enter(side, fieldCounts)
			ok = w.floats(&dst.Counts)
		default:
			ok = s.skip(3)
		}
		if !ok {
			return false
		}
	}
	s.seen = outer
	dst.Offset = int32(offset)
	return true
}

// floats reads an array of numbers into the arena. What is too many is known by one too many.
func (w *work) floats(dst *[]float64) bool {
	s, c := w.s, &w.out.scratch
	if b := s.space(); b != '[' {
		return s.other(b, "an array of numbers")
	}
	s.pos++
	if s.space() == ']' {
		s.pos++
		return true
	}
	for from := len(c.counts); ; {
		had := s.fault.reason
		var f float64
		start := s.pos
		if !s.float(&f) {
			return false
		}
		if string(s.buf[start:s.pos]) == "null" {
			s.refuse(ReasonWrongType, "want a number, got null")
		}
		if s.fault.reason == had && len(c.counts)-from <= w.opts.MaxBuckets {
			c.counts = append(c.counts, f)
		}
		switch s.space() {
		case ',':
			s.pos++
			s.space()
		case ']':
			s.pos++
			*dst = c.counts[from:len(c.counts):len(c.counts)]
			return true
		default:
			return s.broken("',' or ']'")
		}
	}
}

// Check says why a histogram is refused, "" when it is not: it contradicts itself, or has more than maxBuckets buckets
// on one side.
func (h *Histogram) Check(maxBuckets int) (Reason, string) {
	if h.Scale == CustomScale {
		if detail := h.checkBounds(maxBuckets); detail != "" {
			return ReasonBadHistogram, detail
		}
	} else if !exponential(h.Scale) {
		return ReasonNumberRange, scaleRule(h.Scale)
	} else if len(h.Bounds) > 0 {
		return ReasonBadHistogram, fmt.Sprintf("bounds go with scale %d, not with %d", CustomScale, h.Scale)
	}
	for _, f := range [...]float64{h.ZeroThreshold, h.ZeroCount, h.Count, h.Sum} {
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return ReasonNotFinite, "zero_threshold, zero_count, count and sum are finite numbers"
		}
	}
	if math.IsInf(h.Min, 0) || math.IsInf(h.Max, 0) {
		return ReasonNotFinite, "min and max are finite numbers, or left out"
	}
	if h.ZeroThreshold < 0 || h.ZeroCount < 0 || h.Count < 0 {
		return ReasonBadHistogram, "zero_threshold, zero_count and count are not negative"
	}
	total := h.ZeroCount
	for _, side := range [...]*Buckets{&h.Positive, &h.Negative} {
		if len(side.Counts) > maxBuckets {
			return ReasonBadHistogram, fmt.Sprintf("one side has more than %d buckets; lower the scale", maxBuckets)
		}
		if int64(side.Offset)+int64(len(side.Counts)) > math.MaxInt32 {
			return ReasonBadHistogram, "offset plus number of buckets is beyond 2147483647"
		}
		for _, n := range side.Counts {
			if !(n >= 0) || math.IsInf(n, 1) {
				return ReasonBadHistogram, "bucket counts are finite and not negative"
			}
			total += n
		}
	}
	// Whole counts add up exactly; those of Prometheus' float histograms went through rates.
	if math.Abs(total-h.Count) > 1e-9*math.Max(total, h.Count) {
		return ReasonBadHistogram, fmt.Sprintf("zero_count and bucket counts add up to %v, count says %v", total, h.Count)
	}
	return "", ""
}

// PrometheusIndex is the index that Prometheus gives the bucket that has index 0 in a Histogram of the scale.
func PrometheusIndex(scale int32) int32 {
	if scale == CustomScale {
		return 0
	}
	return 1
}

func exponential(scale int32) bool { return minScale <= scale && scale <= maxScale }

func scaleRule(scale int32) string {
	return fmt.Sprintf("want a scale from %d to %d, or %d for bounds; got %d", minScale, maxScale, CustomScale, scale)
}

// scale refuses a scale that no histogram has.
func (s *scanner) scale(scale int32) int32 {
	if scale != CustomScale && !exponential(scale) {
		s.refuse(ReasonNumberRange, scaleRule(scale))
	}
	return scale
}

// checkBounds is about what a histogram of CustomScale has instead of a scale.
func (h *Histogram) checkBounds(maxBuckets int) string {
	if len(h.Bounds) >= maxBuckets {
		return fmt.Sprintf("more than %d bounds", maxBuckets-1)
	}
	before := math.Inf(-1)
	for i, bound := range h.Bounds {
		if !(bound > before) || math.IsInf(bound, 1) {
			return fmt.Sprintf("bound %d is %v: want finite numbers, each above the one before", i, bound)
		}
		before = bound
	}
	switch first, end := int64(h.Positive.Offset), int64(h.Positive.Offset)+int64(len(h.Positive.Counts)); {
	case first < 0 || end > int64(len(h.Bounds))+1:
		return fmt.Sprintf("%d bounds make %d buckets; those counted are %d to %d", len(h.Bounds), len(h.Bounds)+1, first, end-1)
	case len(h.Negative.Counts) > 0 || h.ZeroCount != 0 || h.ZeroThreshold != 0:
		return "a histogram with bounds counts everything in positive: it has no zero bucket and nothing negative"
	}
	return ""
}

// countCoarse counts an accepted pre-aggregated distribution that is coarser than Vigie's sketches.
func (w *work) countCoarse(m *Metric) {
	if (m.Kind == Observation || m.Kind == Delta) && m.Histogram.Scale < exactScale {
		w.out.Coarse++
	}
}
