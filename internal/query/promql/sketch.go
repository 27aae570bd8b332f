package promql

import (
	"fmt"
	"math"
	"strconv"

	"github.com/prometheus/prometheus/model/histogram"

	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/sketches"
)

const sketchSchema = sketches.Scale

// empty is a window in which a histogram series saw nothing. Shared: never changed.
var empty = &histogram.FloatHistogram{
	Schema: sketchSchema, ZeroThreshold: math.SmallestNonzeroFloat64, CounterResetHint: histogram.CounterReset,
}

// windowHistogram is what one window counted. The hint says that it has nothing in common with the window before.
func windowHistogram(s *sketches.Sketch, sum float64) *histogram.FloatHistogram {
	n := s.Prometheus()
	return &histogram.FloatHistogram{
		CounterResetHint: histogram.CounterReset,
		Schema:           n.Schema,
		ZeroThreshold:    n.ZeroThreshold,
		ZeroCount:        n.ZeroCount,
		Count:            n.Count,
		Sum:              sum,
		PositiveSpans:    spans(n.PositiveSpans),
		NegativeSpans:    spans(n.NegativeSpans),
		PositiveBuckets:  n.PositiveBuckets,
		NegativeBuckets:  n.NegativeBuckets,
	}
}

func spans(from []sketches.Span) []histogram.Span {
	to := make([]histogram.Span, len(from))
	for i, s := range from {
		to[i] = histogram.Span{Offset: s.Offset, Length: s.Length}
	}
	return to
}

// decoder reads sketches into memory that it keeps.
type decoder struct{ sum, one sketches.Sketch }

// decode reads the sum of states; of none it is an empty sketch. What it returns is valid until the next call.
func (d *decoder) decode(states []byte) (*sketches.Sketch, error) {
	d.sum.Reset()
	for at, into := 0, &d.sum; at < len(states); into = &d.one {
		n, err := into.DecodeDD(states[at:])
		if err != nil {
			return nil, fmt.Errorf("decode sketch: %w", err)
		}
		if at > 0 {
			d.sum.Merge(into)
		}
		at += n
	}
	return &d.sum, nil
}

// cumulate appends to dst, for each ascending bound, how many values are at most that bound. A bucket that a
// bound cuts counts as a whole on the side where its middle is, so that the counts stay whole numbers; the bound
// is then off by at most α.
func cumulate(dst []float64, s *sketches.Sketch, bounds []float64) []float64 {
	negative, positive := s.Negative(), s.Positive()
	for _, bound := range bounds {
		var n float64
		switch {
		case bound < 0:
			n = from(negative, -bound)
		default:
			n = total(negative) + s.Zero() + upTo(positive, bound)
		}
		dst = append(dst, n)
	}
	return dst
}

// middleOf is the geometric middle of a bucket.
func middleOf(i int32) float64 { return math.Sqrt(sketches.Bound(i) * sketches.Bound(i+1)) }

func upTo(b sketches.Buckets, bound float64) (n float64) {
	for j, c := range b.Counts {
		if middleOf(b.Offset+int32(j)) > bound {
			break
		}
		n += c
	}
	return n
}

func from(b sketches.Buckets, magnitude float64) (n float64) {
	for j, c := range b.Counts {
		if middleOf(b.Offset+int32(j)) >= magnitude {
			n += c
		}
	}
	return n
}

func total(b sketches.Buckets) (n float64) {
	for _, c := range b.Counts {
		n += c
	}
	return n
}

// formatBound is the value of an le label.
func formatBound(bound float64) string {
	if math.IsInf(bound, 1) {
		return "+Inf"
	}
	return strconv.FormatFloat(bound, 'f', -1, 64)
}

// levelHistogram is a sample of a cumulative or gauge histogram, which keeps its own schema.
func levelHistogram(h *events.Histogram, kind events.Kind) *histogram.FloatHistogram {
	out := &histogram.FloatHistogram{
		Schema:        h.Scale,
		ZeroThreshold: h.ZeroThreshold,
		ZeroCount:     h.ZeroCount,
		Count:         h.Count,
		Sum:           h.Sum,
		CustomValues:  h.Bounds,
	}
	if kind == events.Gauge {
		out.CounterResetHint = histogram.GaugeType
	}
	first := events.PrometheusIndex(h.Scale)
	out.PositiveSpans, out.PositiveBuckets = oneSpan(h.Positive, first)
	out.NegativeSpans, out.NegativeBuckets = oneSpan(h.Negative, first)
	return out.Compact(2)
}

func oneSpan(b events.Buckets, first int32) ([]histogram.Span, []float64) {
	if len(b.Counts) == 0 {
		return nil, nil
	}
	return []histogram.Span{{Offset: b.Offset + first, Length: uint32(len(b.Counts))}}, b.Counts
}
