package events

import (
	"strings"
	"unicode/utf8"

	"github.com/prometheus/otlptranslator"
)

// maxNames bounds each cache of translated names; a full one starts anew. Names are few where they are not hostile.
const maxNames = 8192

// names translates OTLP names as a Prometheus server does by default (dots to underscores, unit and _total
// suffixes), so that dashboards written for it fit, and remembers what it translated.
type names struct {
	metrics map[otlptranslator.Metric]string
	labels  map[string]string
}

var (
	metricNamer = otlptranslator.MetricNamer{WithMetricSuffixes: true}
	labelNamer  = otlptranslator.LabelNamer{}
)

// metric is the Prometheus name of an OTLP metric, "" when it has none.
func (n *names) metric(name, unit string, kind otlptranslator.MetricType) string {
	key := otlptranslator.Metric{Name: name, Unit: unit, Type: kind}
	if translated, ok := n.metrics[key]; ok {
		return translated
	}
	translated, err := metricNamer.Build(key)
	if err != nil || !utf8.ValidString(name) || !utf8.ValidString(unit) {
		return ""
	}
	if n.metrics == nil || len(n.metrics) >= maxNames {
		n.metrics = make(map[otlptranslator.Metric]string)
	}
	n.metrics[key] = translated
	return translated
}

// label is the Prometheus name of an OTLP attribute, "" when it has none.
func (n *names) label(name string) string {
	if translated, ok := n.labels[name]; ok {
		return translated
	}
	name = strings.Clone(name) // it may be a view, and its translation may be itself
	translated, err := labelNamer.Build(name)
	if err != nil || !utf8.ValidString(name) {
		return ""
	}
	if n.labels == nil || len(n.labels) >= maxNames {
		n.labels = make(map[string]string)
	}
	n.labels[name] = translated
	return translated
}
