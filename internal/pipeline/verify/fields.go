package verify

import (
	"strconv"

	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/rules"
	"github.com/vigie-io/vigie/pkg/series"
)

var (
	_ rules.Fields = metricFields{}
	_ rules.Fields = spanFields{}
	_ rules.Fields = logFields{}
)

// The fields of events, as docs/rollups.md lists them.
type (
	metricFields struct{ *events.Metric }
	spanFields   struct{ *events.Span }
	logFields    struct{ *events.Log }
)

// Text implements rules.Fields.
func (f metricFields) Text(field string) string {
	return named(f.Labels, field, map[string]string{"name": f.Name, "unit": f.Unit})
}

// Number implements rules.Fields.
func (f metricFields) Number(field string) (float64, bool) {
	if field == "value" {
		return f.Value, f.Histogram == nil
	}
	return parsed(f.Text(field))
}

// Text implements rules.Fields.
func (f spanFields) Text(field string) string {
	code := ""
	if f.StatusCode != 0 {
		code = strconv.Itoa(f.StatusCode)
	}
	return named(f.Attributes, field, map[string]string{
		"service": f.Service, "name": f.Name, "kind": f.Kind, "status": f.Status, "status_code": code,
		"status_class": classOf(f.StatusCode), "route": f.Route, "peer": f.Peer,
	})
}

// Number implements rules.Fields.
func (f spanFields) Number(field string) (float64, bool) {
	if field == "duration_seconds" {
		return float64(f.Duration) / 1e9, true
	}
	return parsed(f.Text(field))
}

// Text implements rules.Fields.
func (f logFields) Text(field string) string {
	return named(f.Attributes, field, map[string]string{"service": f.Service, "severity": f.Severity, "body": f.Body})
}

// Number implements rules.Fields.
func (f logFields) Number(field string) (float64, bool) { return parsed(f.Text(field)) }

// named is a field of its own, or else an attribute.
func named(attributes series.Labels, field string, own map[string]string) string {
	if value, is := own[field]; is {
		return value
	}
	return attributes.Get(field)
}

func parsed(text string) (float64, bool) {
	v, err := strconv.ParseFloat(text, 64)
	return v, err == nil && v == v
}

// classOf is "4xx" for 404, and "" for what is no HTTP status.
func classOf(code int) string {
	if code < 100 || code >= 600 {
		return ""
	}
	return strconv.Itoa(code/100) + "xx"
}
