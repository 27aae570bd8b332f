package ingest

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"unicode/utf8"

	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
)

const (
	nameLabel = "__name__"
	// staleNaN is the value by which Prometheus says that a series has ended.
	staleNaN = 0x7ff0000000000002
)

// take turns one series into events; version 2 brings its type along.
func (w *writer) take(s *writeSeries, typed bool) {
	w.exemplars += s.exemplars
	if len(s.samples)+len(s.histograms) == 0 {
		return
	}
	if reason, field, detail := w.identify(s); reason != "" {
		for range len(s.samples) + len(s.histograms) {
			w.refuse(reason, field, detail)
		}
		return
	}
	w.metric.Kind = kindOf(s.kind, w.metric.Name)
	if !typed {
		w.metric.Kind = kindOf(typeUnknown, w.metric.Name)
	}
	for i := range s.samples {
		w.takeSample(&s.samples[i], s)
	}
	for i := range s.histograms {
		w.takeHistogram(&s.histograms[i], s)
	}
}

// identify fills name and labels of w.metric from s, or says why it has none.
func (w *writer) identify(s *writeSeries) (reason events.Reason, field, detail string) {
	if s.invalid != "" {
		return reasonBadSeries, "labels", s.invalid
	}
	w.metric = events.Metric{}
	w.labels = w.labels[:0]
	for _, l := range s.labels {
		switch {
		case !utf8.ValidString(l.Name) || !utf8.ValidString(l.Value):
			return events.ReasonInvalidUTF8, "labels", fmt.Sprintf("label %q is not UTF-8", clip(l.Name))
		case l.Name == nameLabel && w.metric.Name != "":
			return events.ReasonDuplicateLabel, "labels", "label \"__name__\" is there twice"
		case l.Name == nameLabel:
			w.metric.Name = l.Value
		case len(l.Name) > int(w.limits.MaxLabelName):
			return events.ReasonTooLong, "labels",
				fmt.Sprintf("label name %q has %d bytes, the limit is %s", clip(l.Name), len(l.Name), w.limits.MaxLabelName)
		case len(l.Value) > int(w.limits.MaxLabelValue):
			return events.ReasonTooLong, "labels",
				fmt.Sprintf("label %q has a value of %d bytes, the limit is %s", l.Name, len(l.Value), w.limits.MaxLabelValue)
		case l.Value != "" || l.Name == "":
			w.labels = append(w.labels, l)
		}
	}
	if w.metric.Name == "" {
		return events.ReasonMissing, "name", "the series has no label \"__name__\""
	}
	if len(w.metric.Name) > int(w.limits.MaxLabelName) {
		return events.ReasonTooLong, "name",
			fmt.Sprintf("the name has %d bytes, the limit is %s", len(w.metric.Name), w.limits.MaxLabelName)
	}
	return w.sortLabels()
}

func (w *writer) sortLabels() (reason events.Reason, field, detail string) {
	if len(w.labels) > w.limits.MaxLabels {
		return events.ReasonTooManyLabels, "labels",
			fmt.Sprintf("metric %q has %d labels, the limit is %d", w.metric.Name, len(w.labels), w.limits.MaxLabels)
	}
	sorted, err := series.Sort(w.labels)
	switch {
	case errors.Is(err, series.ErrDuplicateName):
		return events.ReasonDuplicateLabel, "labels", fmt.Sprintf("metric %q: %v", w.metric.Name, err)
	case err != nil:
		return events.ReasonBadLabel, "labels", fmt.Sprintf("metric %q: %v", w.metric.Name, err)
	}
	w.metric.Labels = sorted
	return "", "", ""
}

func clip(s string) string {
	if len(s) > 64 {
		return s[:64] + "…"
	}
	return s
}

// kindOf maps a Prometheus type to how samples combine. Without a type the name's ending tells: the
// conventions of Prometheus and OpenMetrics give those of counters and of histograms' parts.
func kindOf(t metricType, name string) events.Kind {
	cumulative := strings.HasSuffix(name, "_count") || strings.HasSuffix(name, "_sum") || strings.HasSuffix(name, "_bucket")
	switch t {
	case typeCounter:
		return events.Cumulative
	case typeHistogram, typeSummary:
	case typeUnknown:
		cumulative = cumulative || strings.HasSuffix(name, "_total")
	default:
		return events.Gauge
	}
	if cumulative {
		return events.Cumulative
	}
	return events.Gauge
}

func (w *writer) takeSample(s *writeSample, from *writeSeries) {
	switch {
	case math.Float64bits(s.value) == staleNaN:
		if w.ends(s.time, s.start, from) {
			w.samples++
			w.index++
		}
	case math.IsNaN(s.value):
		// "No value", as the quantile of an idle summary has it: as common as it is meaningless.
		w.nan++
		w.index++
	case math.IsInf(s.value, 0):
		w.refuse(events.ReasonNotFinite, "value", fmt.Sprintf("metric %q: the value is %v", w.metric.Name, s.value))
	default:
		w.metric.Value, w.metric.Histogram, w.metric.Stale = s.value, nil, false
		if w.setTimes(s.time, s.start) && w.emit(&w.metric, from) {
			w.samples++
			w.index++
		}
	}
}

func (w *writer) takeHistogram(h *writeHistogram, from *writeSeries) {
	w.metric.Kind = events.Cumulative
	if h.gauge || from.kind == typeGaugeHistogram {
		w.metric.Kind = events.Gauge
	}
	if math.Float64bits(h.sum) == staleNaN {
		if w.ends(h.time, h.start, from) {
			w.histograms++
			w.index++
		}
		return
	}
	if !w.setTimes(h.time, h.start) {
		return
	}
	if err := h.event(&w.hist); err != nil {
		w.refuse(events.ReasonBadHistogram, "histogram", fmt.Sprintf("metric %q: %v", w.metric.Name, err))
		return
	}
	if reason, detail := w.hist.Check(maxBuckets); reason != "" {
		w.refuse(reason, "histogram", fmt.Sprintf("metric %q: %s", w.metric.Name, detail))
		return
	}
	w.metric.Value, w.metric.Histogram, w.metric.Stale = 0, &w.hist, false
	if w.emit(&w.metric, from) {
		w.histograms++
		w.index++
	}
}

// ends takes a stale marker.
func (w *writer) ends(millis, startMillis int64, from *writeSeries) bool {
	w.metric.Value, w.metric.Histogram, w.metric.Stale = 0, nil, true
	return w.setTimes(millis, startMillis) && w.emit(&w.metric, from)
}

// setTimes fills the times, in milliseconds, of w.metric; false when it had to refuse the sample.
func (w *writer) setTimes(millis, startMillis int64) bool {
	const most = math.MaxInt64 / 1_000_000
	nanos := min(max(millis, -most), most) * 1_000_000
	if reason, detail := w.tooEarlyOrLate(nanos); reason != "" {
		w.refuse(reason, "time", fmt.Sprintf("metric %q: %s", w.metric.Name, detail))
		return false
	}
	w.metric.Time, w.metric.Start = nanos, 0
	if startMillis > 0 && startMillis <= millis {
		w.metric.Start = startMillis * 1_000_000
	}
	return true
}

func (w *writer) emit(m *events.Metric, from *writeSeries) bool {
	m.Help, m.Unit = w.metadata.announce(w.tenant, m.Name, from.help, from.unit, w.now, &w.limits)
	if !w.batcher.addMetric(m) {
		w.refuse(events.ReasonRecordTooLarge, "",
			fmt.Sprintf("metric %q: the sample is larger than a record may be (%s)", m.Name, w.config.RecordMax))
		return false
	}
	return true
}

func (w *writer) refuse(reason events.Reason, field, detail string) {
	// Details beyond those shown would only take memory: their strings are per sample.
	if len(w.rejects) >= shownErrors {
		detail = ""
	}
	w.rejects = append(w.rejects, events.Reject{Index: w.index, Reason: reason, Field: field, Detail: strings.Clone(detail)})
	w.index++
}
