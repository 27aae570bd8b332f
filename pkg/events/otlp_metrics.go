package events

import (
	"fmt"
	"math"
	"strconv"

	"github.com/prometheus/otlptranslator"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/vigie-io/vigie/pkg/series"
)

// instrument is what the data points of one OTLP metric share.
type instrument struct {
	resource
	name string
	unit string
	help string
	kind Kind
}

// otlpMetrics decodes a request. It returns false when the record ends before it does.
func (w *work) otlpMetrics(all pmetric.Metrics) bool {
	in := &w.s.instrument
	for _, rm := range all.ResourceMetrics().All() {
		w.resource(&in.resource, rm.Resource().Attributes())
		ofResource := in.fault
		for _, sm := range rm.ScopeMetrics().All() {
			for _, m := range sm.Metrics().All() {
				in.fault = ofResource
				w.instrument(in, m)
				if !w.pointsOf(in, m) {
					return false
				}
			}
		}
	}
	return true
}

// instrument translates name, type and temporality; a fault in them is every point's.
func (w *work) instrument(in *instrument, m pmetric.Metric) {
	s := w.s
	s.fault = in.fault
	in.unit = w.text("unit", m.Unit(), w.opts.MaxName)
	in.help = w.text("help", m.Description(), w.opts.MaxValue)
	kind := otlptranslator.MetricType(otlptranslator.MetricTypeGauge)
	in.kind = Gauge
	switch m.Type() {
	case pmetric.MetricTypeSum:
		kind = otlptranslator.MetricTypeNonMonotonicCounter
		if m.Sum().IsMonotonic() {
			kind = otlptranslator.MetricTypeMonotonicCounter
		}
		in.kind = w.temporality(m.Sum().AggregationTemporality())
		if in.kind == Cumulative && !m.Sum().IsMonotonic() {
			in.kind = Gauge // an up-down counter's total is a level
		}
	case pmetric.MetricTypeHistogram:
		kind = otlptranslator.MetricTypeHistogram
		in.kind = w.temporality(m.Histogram().AggregationTemporality())
	case pmetric.MetricTypeExponentialHistogram:
		kind = otlptranslator.MetricTypeExponentialHistogram
		if in.kind = w.temporality(m.ExponentialHistogram().AggregationTemporality()); in.kind == Delta {
			in.kind = Observation // the distribution of one interval merges like single measurements
		}
	case pmetric.MetricTypeSummary:
		kind = otlptranslator.MetricTypeSummary
	}
	w.required("name", m.Name())
	w.bounded("name", m.Name(), w.opts.MaxName)
	if s.fault.reason == "" {
		if in.name = w.out.scratch.names.metric(m.Name(), m.Unit(), kind); in.name == "" {
			s.field = "name"
			s.refuse(ReasonInvalidUTF8, "the name makes no metric name: "+quoted([]byte(m.Name())))
		}
	}
	in.fault = s.fault
}

func (w *work) temporality(t pmetric.AggregationTemporality) Kind {
	switch t {
	case pmetric.AggregationTemporalityDelta:
		return Delta
	case pmetric.AggregationTemporalityCumulative:
		return Cumulative
	}
	w.s.field = "aggregation_temporality"
	w.s.refuse(ReasonUnknownWord, fmt.Sprintf("want delta or cumulative, got %d", t))
	return Delta
}

// pointsOf decodes the data points of one metric; false ends the record.
func (w *work) pointsOf(in *instrument, m pmetric.Metric) bool {
	if !w.takeKnown() {
		return false
	}
	if next := w.next(); next != nil && next.plain {
		return w.plainPoints(in, next.end)
	}
	switch m.Type() {
	case pmetric.MetricTypeGauge:
		return w.numbers(in, m.Gauge().DataPoints())
	case pmetric.MetricTypeSum:
		return w.numbers(in, m.Sum().DataPoints())
	case pmetric.MetricTypeHistogram:
		for _, p := range m.Histogram().DataPoints().All() {
			if !w.pointOf(in, p, p.StartTimestamp(), func(base Metric) { w.explicit(base, p) }) {
				return false
			}
		}
	case pmetric.MetricTypeExponentialHistogram:
		for _, p := range m.ExponentialHistogram().DataPoints().All() {
			if !w.pointOf(in, p, p.StartTimestamp(), func(base Metric) { w.exponential(base, p) }) {
				return false
			}
		}
	case pmetric.MetricTypeSummary:
		for _, p := range m.Summary().DataPoints().All() {
			if !w.pointOf(in, p, p.StartTimestamp(), func(base Metric) { w.summary(base, p) }) {
				return false
			}
		}
	}
	return true
}

func (w *work) numbers(in *instrument, points pmetric.NumberDataPointSlice) bool {
	for _, p := range points.All() {
		if !w.pointOf(in, p, p.StartTimestamp(), func(base Metric) {
			switch p.ValueType() {
			case pmetric.NumberDataPointValueTypeDouble:
				w.number(base, p.DoubleValue(), true)
			case pmetric.NumberDataPointValueTypeInt:
				w.number(base, float64(p.IntValue()), true)
			default:
				w.number(base, 0, false)
			}
		}) {
			return false
		}
	}
	return true
}

// dataPoint is what pdata's four kinds of points have in common.
type dataPoint interface {
	Attributes() pcommon.Map
	Timestamp() pcommon.Timestamp
	Flags() pmetric.DataPointFlags
}

// pointOf decodes a data point of pdata's.
func (w *work) pointOf(in *instrument, p dataPoint, start pcommon.Timestamp, emit func(Metric)) bool {
	labels := func() series.Labels { return w.pointLabels(&in.resource, p.Attributes()) }
	return w.point(in, pointTimes{p.Timestamp(), start, p.Flags().NoRecordedValue()}, labels, emit)
}

// pointTimes are those of a data point, and whether it says that there is no value any more.
type pointTimes struct {
	at, start pcommon.Timestamp
	stale     bool
}

// point decodes one data point: emit turns the metric made of what all kinds share into one or more. A
// fault in any of them refuses all. It returns false when the record ends here.
func (w *work) point(in *instrument, p pointTimes, labels func() series.Labels, emit func(Metric)) bool {
	b, s := w.out, w.s
	index, ok := w.begin(&in.resource)
	if !ok {
		return false
	}
	if p.stale && in.kind != Gauge && in.kind != Cumulative { // in an interval nothing happened
		b.Stale++
		return true
	}
	kept := b.scratch.mark()
	base := Metric{Tenant: w.agree(in.tenant), Time: w.otlpTime(p.at), Name: in.name, Kind: in.kind, Unit: in.unit,
		Help: in.help, Stale: p.stale}
	if p.start <= math.MaxInt64 {
		base.Start = int64(p.start)
	}
	base.Labels = labels()
	if s.fault.reason == "" {
		emit(base)
	}
	if s.fault.reason != "" {
		b.rewind(kept)
		w.refuseEvent(index, s.fault)
		return true
	}
	for len(b.MetricIndex) < len(b.Metrics) {
		b.MetricIndex = append(b.MetricIndex, index)
	}
	if !s.has(fieldTime) {
		b.NoTime++
	}
	return true
}

func (w *work) emit(m Metric) { w.out.Metrics = append(w.out.Metrics, m) }

// emitValue adds a metric called name+suffix of base with one value, or says that it has ended.
func (w *work) emitValue(base Metric, suffix string, v float64) {
	base.Name += suffix
	if !base.Stale {
		base.Value = w.finite("value", v)
	}
	w.emit(base)
}

func (w *work) finite(field string, v float64) float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		w.s.field = field
		w.s.refuse(ReasonNotFinite, fmt.Sprintf("%v cannot be summed; leave the data point out", v))
	}
	return v
}

// number emits a data point of a gauge or sum, if it has a value.
func (w *work) number(base Metric, v float64, has bool) {
	if base.Stale {
		w.emit(base)
		return
	}
	if base.Value = w.finite("value", v); !has {
		w.s.field = "value"
		w.s.refuse(ReasonMissing, "the data point has no value")
	}
	if index := w.out.Events - 1; index < len(w.s.digests) {
		base.Digest = w.s.digests[index]
	}
	w.emit(base)
}

// explicit takes an explicit-bucket histogram apart into the classic series of Prometheus: m_bucket with le, m_count
// and m_sum.
func (w *work) explicit(base Metric, p pmetric.HistogramDataPoint) {
	s := w.s
	s.field = "histogram"
	if n := p.ExplicitBounds().Len(); n > w.opts.MaxBounds {
		s.refuse(ReasonBadHistogram, fmt.Sprintf("%d bounds, the limit is %d", n, w.opts.MaxBounds))
		return
	}
	if base.Stale {
		for i := range p.ExplicitBounds().Len() {
			w.boundBucket(base, p.ExplicitBounds(), i, 0)
		}
	} else if !w.counts(base, p) {
		return
	}
	w.bucket(base, "+Inf", float64(p.Count()))
	w.emitValue(base, "_count", float64(p.Count()))
	if p.HasSum() || base.Stale {
		w.emitValue(base, "_sum", p.Sum())
	}
}

// counts emits the buckets of an explicit-bucket histogram with finite bounds, unless they contradict one another.
func (w *work) counts(base Metric, p pmetric.HistogramDataPoint) bool {
	counts, bounds, s := p.BucketCounts(), p.ExplicitBounds(), w.s
	if counts.Len() != 0 && counts.Len() != bounds.Len()+1 || counts.Len() == 0 && bounds.Len() != 0 {
		s.refuse(ReasonBadHistogram,
			fmt.Sprintf("%d bucket counts for %d bounds; want one more, or none of either", counts.Len(), bounds.Len()))
		return false
	}
	total := uint64(0)
	for i := range counts.Len() {
		next := total + counts.At(i)
		if next < total {
			s.refuse(ReasonBadHistogram, "bucket counts add up beyond 2^64")
			return false
		}
		total = next
		if i < bounds.Len() {
			w.boundBucket(base, bounds, i, total)
		}
	}
	if counts.Len() > 0 && total != p.Count() {
		s.refuse(ReasonBadHistogram, fmt.Sprintf("bucket counts add up to %d, count says %d", total, p.Count()))
		return false
	}
	return true
}

func (w *work) boundBucket(base Metric, bounds pcommon.Float64Slice, i int, total uint64) {
	bound := bounds.At(i)
	if math.IsNaN(bound) || math.IsInf(bound, 0) || i > 0 && !(bound > bounds.At(i-1)) {
		w.s.refuse(ReasonBadHistogram, "bounds are finite and ascending")
		return
	}
	w.bucket(base, strconv.FormatFloat(bound, 'f', -1, 64), float64(total))
}

func (w *work) bucket(base Metric, le string, count float64) {
	base.Labels = w.with(base.Labels, "le", le)
	w.emitValue(base, "_bucket", count)
}

// with copies labels into the arena with one more (or another value for one it has).
func (w *work) with(labels series.Labels, name, value string) series.Labels {
	c := &w.out.scratch
	from, placed := len(c.labels), false
	for _, l := range labels {
		if !placed && l.Name >= name {
			c.labels = append(c.labels, series.Label{Name: name, Value: value})
			placed = true
		}
		if l.Name != name {
			c.labels = append(c.labels, l)
		}
	}
	if !placed {
		c.labels = append(c.labels, series.Label{Name: name, Value: value})
	}
	return c.labels[from:len(c.labels):len(c.labels)]
}

// exponential keeps an exponential histogram as one metric.
func (w *work) exponential(base Metric, p pmetric.ExponentialHistogramDataPoint) {
	if base.Stale {
		w.emit(base)
		return
	}
	c := &w.out.scratch
	h := Histogram{
		Scale: p.Scale(), ZeroThreshold: p.ZeroThreshold(), ZeroCount: float64(p.ZeroCount()),
		Count: float64(p.Count()), Sum: p.Sum(), Min: math.NaN(), Max: math.NaN(),
	}
	if p.HasMin() {
		h.Min = p.Min()
	}
	if p.HasMax() {
		h.Max = p.Max()
	}
	h.Positive = w.side(p.Positive())
	h.Negative = w.side(p.Negative())
	w.s.field = "histogram"
	if h.Scale == CustomScale { // OpenTelemetry knows none
		w.s.refuse(ReasonNumberRange, scaleRule(h.Scale))
		return
	}
	if reason, detail := h.Check(w.opts.MaxBuckets); reason != "" {
		w.s.refuse(reason, detail)
		return
	}
	c.hists = append(c.hists, h)
	base.Histogram = &c.hists[len(c.hists)-1]
	w.countCoarse(&base)
	w.emit(base)
}

func (w *work) side(b pmetric.ExponentialHistogramDataPointBuckets) Buckets {
	c := &w.out.scratch
	from := len(c.counts)
	for i := range b.BucketCounts().Len() {
		c.counts = append(c.counts, float64(b.BucketCounts().At(i)))
	}
	return Buckets{Offset: b.Offset(), Counts: c.counts[from:len(c.counts):len(c.counts)]}
}

// summary takes a summary apart into a gauge for each quantile, m_count and m_sum. A quantile of NaN is how
// a summary says that nothing was observed lately: it is passed over.
func (w *work) summary(base Metric, p pmetric.SummaryDataPoint) {
	quantiles := p.QuantileValues()
	if quantiles.Len() > w.opts.MaxBounds {
		w.s.field = "quantile_values"
		w.s.refuse(ReasonBadHistogram, fmt.Sprintf("%d quantiles, the limit is %d", quantiles.Len(), w.opts.MaxBounds))
		return
	}
	for _, q := range quantiles.All() {
		if math.IsNaN(q.Value()) && !base.Stale {
			w.out.Stale++
			continue
		}
		one := base
		one.Labels = w.with(base.Labels, "quantile", strconv.FormatFloat(q.Quantile(), 'f', -1, 64))
		w.emitValue(one, "", q.Value())
	}
	base.Kind = Cumulative
	w.emitValue(base, "_count", float64(p.Count()))
	w.emitValue(base, "_sum", p.Sum())
}
