package live

import (
	"fmt"
	"math"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
)

// Registry turns what a Prometheus registry holds into events, as a scrape of it would be stored: counters and
// classic histograms are cumulative, everything else is a gauge. Every event gets the labels service and job's
// equivalent, instance. Native histograms are sent by their classic buckets, count and sum.
func Registry(dst []events.Metric, from prometheus.Gatherer, service, instance string, now int64) ([]events.Metric, error) {
	families, err := from.Gather()
	if err != nil {
		return dst, fmt.Errorf("gather the metrics of %s: %w", service, err)
	}
	for _, family := range families {
		f := familyReader{name: family.GetName(), help: family.GetHelp(), service: service, instance: instance, now: now}
		for _, metric := range family.GetMetric() {
			dst = f.append(dst, family.GetType(), metric)
		}
	}
	return dst, nil
}

type familyReader struct {
	name, help        string
	service, instance string
	now               int64
}

func (f *familyReader) append(dst []events.Metric, kind dto.MetricType, m *dto.Metric) []events.Metric {
	switch kind {
	case dto.MetricType_COUNTER:
		return f.add(dst, "", events.Cumulative, m.GetCounter().GetValue(), m)
	case dto.MetricType_GAUGE:
		return f.add(dst, "", events.Gauge, m.GetGauge().GetValue(), m)
	case dto.MetricType_UNTYPED:
		return f.add(dst, "", events.Gauge, m.GetUntyped().GetValue(), m)
	case dto.MetricType_SUMMARY:
		s := m.GetSummary()
		for _, q := range s.GetQuantile() {
			dst = f.add(dst, "", events.Gauge, q.GetValue(), m, series.Label{Name: "quantile", Value: number(q.GetQuantile())})
		}
		dst = f.add(dst, "_sum", events.Cumulative, s.GetSampleSum(), m)
		return f.add(dst, "_count", events.Cumulative, float64(s.GetSampleCount()), m)
	case dto.MetricType_HISTOGRAM, dto.MetricType_GAUGE_HISTOGRAM:
		h := m.GetHistogram()
		for _, b := range h.GetBucket() {
			if !math.IsInf(b.GetUpperBound(), 1) {
				dst = f.add(dst, "_bucket", events.Cumulative, float64(b.GetCumulativeCount()), m,
					series.Label{Name: "le", Value: number(b.GetUpperBound())})
			}
		}
		dst = f.add(dst, "_bucket", events.Cumulative, float64(h.GetSampleCount()), m, series.Label{Name: "le", Value: "+Inf"})
		dst = f.add(dst, "_sum", events.Cumulative, h.GetSampleSum(), m)
		return f.add(dst, "_count", events.Cumulative, float64(h.GetSampleCount()), m)
	}
	return dst
}

// add appends one event; values that are not numbers (an empty summary's quantiles) are left out.
func (f *familyReader) add(dst []events.Metric, suffix string, kind events.Kind, value float64, m *dto.Metric,
	extra ...series.Label) []events.Metric {
	if math.IsNaN(value) || math.IsInf(value, 0) {
		return dst
	}
	labels := append(extra, series.Label{Name: "service", Value: f.service}, series.Label{Name: "instance", Value: f.instance})
	for _, pair := range m.GetLabel() {
		name := pair.GetName()
		if name == "service" || name == "instance" {
			name = "exported_" + name
		}
		labels = append(labels, series.Label{Name: name, Value: pair.GetValue()})
	}
	sorted, err := series.Sort(labels)
	if err != nil {
		return dst
	}
	return append(dst, events.Metric{Time: f.now, Name: f.name + suffix, Kind: kind, Value: value, Labels: sorted, Help: f.help})
}

func number(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
