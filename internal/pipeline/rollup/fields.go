package rollup

import (
	"strconv"

	"github.com/vigie-io/vigie/pkg/events"
)

// MetricFields are a metric as conditions see it: name, unit, and labels by their names.
type MetricFields struct{ *events.Metric }

// Text implements rules.Fields.
func (f *MetricFields) Text(field string) string {
	switch field {
	case "name":
		return f.Name
	case "unit":
		return f.Unit
	}
	return f.Labels.Get(field)
}

// Number implements rules.Fields.
func (f *MetricFields) Number(field string) (float64, bool) {
	if field == measureValue {
		return f.Value, f.Histogram == nil
	}
	return numeric(f.Text(field))
}

// SpanFields are a span as conditions see it: its own fields, and attributes by their names.
type SpanFields struct{ *events.Span }

// Text implements rules.Fields.
func (f *SpanFields) Text(field string) string {
	switch field {
	case "service":
		return f.Service
	case "name":
		return f.Name
	case "kind":
		return f.Kind
	case "status":
		return f.Status
	case "status_class":
		return StatusClass(f.StatusCode)
	case "status_code":
		if f.StatusCode == 0 {
			return ""
		}
		return statusText(f.StatusCode)
	case "route":
		return f.Route
	case "peer":
		return f.Peer
	}
	return f.Attributes.Get(field)
}

// Number implements rules.Fields.
func (f *SpanFields) Number(field string) (float64, bool) {
	switch field {
	case measureDuration:
		return float64(f.Duration) / 1e9, true
	case "status_code":
		return float64(f.StatusCode), f.StatusCode != 0
	}
	return numeric(f.Text(field))
}

// LogFields are a log record as conditions see it: its own fields, and attributes by their names.
type LogFields struct{ *events.Log }

// Text implements rules.Fields.
func (f *LogFields) Text(field string) string {
	switch field {
	case "service":
		return f.Service
	case "severity":
		return f.Severity
	case "body":
		return f.Body
	}
	return f.Attributes.Get(field)
}

// Number implements rules.Fields.
func (f *LogFields) Number(field string) (float64, bool) { return numeric(f.Text(field)) }

func numeric(text string) (float64, bool) {
	if text == "" {
		return 0, false
	}
	v, err := strconv.ParseFloat(text, 64)
	return v, err == nil && v == v
}

// statusTexts spells the HTTP statuses, so that none is spelled anew for each span.
var statusTexts = func() (texts [600]string) {
	for code := range texts {
		texts[code] = strconv.Itoa(code)
	}
	return texts
}()

func statusText(code int) string {
	if code > 0 && code < len(statusTexts) {
		return statusTexts[code]
	}
	return strconv.Itoa(code)
}
