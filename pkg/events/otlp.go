package events

import (
	"bytes"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"

	"github.com/vigie-io/vigie/pkg/series"
)

// Resource attributes that mean something of their own.
const (
	attrService = "service.name"
	attrTenant  = "vigie.tenant" // the payload's word about the tenant, as the field tenant of a JSON event
	// unknownService is what OpenTelemetry calls a service that does not say its name.
	unknownService = "unknown_service"
)

// unmarshaler is what pdata's three export requests have in common.
type unmarshaler interface {
	UnmarshalProto([]byte) error
	UnmarshalJSON([]byte) error
}

// otlp decodes the record as an OTLP export request of its signal, in protobuf.
func (w *work) otlp() {
	if w.src.Repeats != nil && w.src.Signal == Metrics && w.repeatOTLP() {
		return
	}
	w.request(w.src.Value, unmarshaler.UnmarshalProto)
	w.s.digests = w.s.digests[:0]
}

// otlpJSON decodes raw, an OTLP request in JSON that stands in an event's place.
func (w *work) otlpJSON(raw []byte) {
	name, _, _ := bytes.Cut(bytes.TrimLeft(raw[1:], " \t\r\n")[1:], []byte{'"'})
	if got := requestSignal(name); got != w.src.Signal {
		w.refuseRequest(raw, ReasonWrongSignal,
			"an OTLP request of "+string(got)+" where "+string(w.src.Signal)+" belong; send it to its own topic or path")
		return
	}
	w.request(raw, unmarshaler.UnmarshalJSON)
}

func requestSignal(key []byte) Signal {
	switch string(key) {
	case "resourceMetrics", "resource_metrics":
		return Metrics
	case "resourceSpans", "resource_spans":
		return Spans
	}
	return Logs
}

func (w *work) request(raw []byte, unmarshal func(unmarshaler, []byte) error) {
	parsed := func(req unmarshaler) bool {
		if err := unmarshal(req, raw); err != nil {
			w.refuseRequest(raw, ReasonBadOTLP,
				"not an OTLP export request of "+string(w.src.Signal)+": "+quoted([]byte(err.Error())))
			return false
		}
		return true
	}
	switch w.src.Signal {
	case Metrics:
		if req := pmetricotlp.NewExportRequest(); parsed(req) {
			w.otlpMetrics(req.Metrics())
		}
	case Spans:
		if req := ptraceotlp.NewExportRequest(); parsed(req) {
			w.otlpSpans(req.Traces())
		}
	case Logs:
		if req := plogotlp.NewExportRequest(); parsed(req) {
			w.otlpLogs(req.Logs())
		}
	}
}

// refuseRequest refuses an OTLP request: the record, or the one event it stands for among others.
func (w *work) refuseRequest(raw []byte, reason Reason, detail string) {
	if len(raw) == len(w.src.Value) || len(raw) == len(bytes.TrimSpace(w.src.Value)) {
		w.refuseRecord(reason, "", detail)
		return
	}
	w.refuseEvent(w.out.Events, fault{reason, "", detail})
	w.out.Events++
}

// resource is what every event of one OTLP resource shares.
type resource struct {
	service string
	tenant  string
	labels  []series.Label // Prometheus names, unsorted
	from    []string       // the attribute each label comes from
	attrs   []series.Label // the same under their OpenTelemetry names, without service.name
	fault   fault
}

func (w *work) resource(r *resource, attrs pcommon.Map) {
	*r = resource{labels: r.labels[:0], from: r.from[:0], attrs: r.attrs[:0]}
	s := w.s
	s.fault, s.field = fault{}, "resource"
	for name, v := range attrs.All() {
		label, keep := w.opts.ResourceLabels[name]
		if !keep && name != attrTenant && name != attrService {
			continue
		}
		value := v.AsString()
		if !utf8.ValidString(value) {
			s.refuse(ReasonInvalidUTF8, "resource attribute "+name+" is not UTF-8")
		}
		w.bounded("resource", value, w.opts.MaxValue)
		switch {
		case name == attrTenant:
			r.tenant = value
			continue
		case value == "":
			continue
		case name == attrService:
			r.service, label = value, "service"
		default:
			r.attrs = append(r.attrs, series.Label{Name: name, Value: value})
		}
		r.label(name, series.Label{Name: label, Value: value})
	}
	r.fault = s.fault
}

// label adds a label. Of two attributes that make the same one, the longer name wins:
// deployment.environment.name over the deployment.environment it replaced.
func (r *resource) label(attr string, l series.Label) {
	if i := indexLabel(r.labels, l.Name); i < 0 {
		r.labels, r.from = append(r.labels, l), append(r.from, attr)
	} else if len(attr) > len(r.from[i]) {
		r.labels[i], r.from[i] = l, attr
	}
}

// begin opens the event of one OTLP item; false ends the record.
func (w *work) begin(r *resource) (index int, ok bool) {
	if !w.takeKnown() || !w.room() {
		return 0, false
	}
	w.out.Events++
	w.s.fault, w.s.field, w.s.seen = r.fault, "", 0
	return w.out.Events - 1, true
}

// otlpTime is an OTLP time, or the record's when the producer left it 0.
func (w *work) otlpTime(nanos pcommon.Timestamp) int64 {
	s := w.s
	s.field = "time"
	switch {
	case nanos > math.MaxInt64:
		s.refuse(ReasonTooNew, "the time is after 2262-04-11")
	case nanos != 0:
		s.seen |= fieldTime
	}
	t := int64(nanos)
	w.eventTime(&t)
	return t
}

// text checks a text that came by OTLP.
func (w *work) text(field, text string, limit int) string {
	if !utf8.ValidString(text) {
		w.s.field = field
		w.s.refuse(ReasonInvalidUTF8, "the text is not UTF-8: "+quoted([]byte(text)))
	}
	w.bounded(field, text, limit)
	return text
}

// pointLabels is labelsOf of a data point's attributes.
func (w *work) pointLabels(r *resource, attrs pcommon.Map) series.Labels {
	list := w.s.attributes[:0]
	for name, v := range attrs.All() {
		list = append(list, series.Label{Name: name, Value: v.AsString()})
	}
	w.s.attributes = list
	return w.labelsOf(r, list)
}

// labelsOf puts the labels of a data point into the arena: its attributes, and those of its resource that it does not
// name itself.
func (w *work) labelsOf(r *resource, attrs []series.Label) series.Labels {
	s, c := w.s, &w.out.scratch
	from := len(c.labels)
	s.field = "labels"
	for i := range attrs {
		name := attrs[i].Name
		if !w.otlpName(name) {
			return nil
		}
		label := c.names.label(name)
		if label == "" {
			s.refuse(ReasonBadLabel, "attribute "+quoted([]byte(name))+" makes no label name")
			return nil
		}
		value := w.otlpValue(name, attrs[i].Value, w.opts.MaxValue)
		if i := indexLabel(c.labels[from:], label); i >= 0 {
			c.labels[from+i].Value = w.collided(attrs, name, label)
			continue
		}
		if value == "" {
			continue
		}
		if len(c.labels)-from >= w.opts.MaxLabels {
			w.tooMany("labels", w.opts.MaxLabels)
			return nil
		}
		c.labels = append(c.labels, series.Label{Name: label, Value: value})
	}
	own := len(c.labels)
	for _, l := range r.labels {
		if indexLabel(c.labels[from:own], l.Name) < 0 {
			c.labels = append(c.labels, l)
		}
	}
	if len(c.labels)-from > w.opts.MaxLabels {
		w.tooMany("labels", w.opts.MaxLabels)
	}
	return w.sorted(from)
}

func indexLabel(labels []series.Label, name string) int {
	for i := range labels {
		if labels[i].Name == name {
			return i
		}
	}
	return -1
}

func (w *work) otlpName(name string) bool {
	switch {
	case name == "":
		w.s.refuse(ReasonBadLabel, "an attribute has no name")
	case len(name) > w.opts.MaxName:
		w.s.refuse(ReasonTooLong, "attribute name "+quoted([]byte(name))+" is too long")
	case name == "__name__":
		w.s.refuse(ReasonBadLabel, `attribute "__name__" is reserved`)
	default:
		return true
	}
	return false
}

func (w *work) otlpValue(name, value string, limit int) string {
	switch {
	case len(value) > limit:
		w.s.refuse(ReasonTooLong, "attribute "+quoted([]byte(name))+" has a value over the limit")
	case !utf8.ValidString(value):
		w.s.refuse(ReasonInvalidUTF8, "attribute "+quoted([]byte(name))+" has a value that is not UTF-8")
	}
	return value
}

// collided joins the values of attributes whose names make the same label ("a.b", "a_b"), in the order of
// their names, with ';', as Prometheus does. The same name twice is a fault.
func (w *work) collided(attrs []series.Label, name, label string) string {
	var same []string
	for i := range attrs {
		if w.out.scratch.names.label(attrs[i].Name) == label {
			same = append(same, attrs[i].Name)
		}
	}
	slices.Sort(same)
	if len(slices.Compact(slices.Clone(same))) != len(same) {
		w.s.refuse(ReasonDuplicateLabel, "attribute "+quoted([]byte(name))+" stands twice in one data point")
		return ""
	}
	values := make([]string, len(same))
	for i, other := range same {
		values[i] = attrs[indexLabel(attrs, other)].Value
	}
	joined := strings.Join(values, ";")
	w.bounded("labels", joined, w.opts.MaxValue)
	return joined
}

// eventAttributes puts the attributes of a span or log into the arena under their OpenTelemetry names, and
// those of its resource.
func (w *work) eventAttributes(r *resource, attrs pcommon.Map) attributeReader {
	a := w.attributes()
	w.s.field = "attributes"
	for name, v := range attrs.All() {
		if w.otlpName(name) {
			w.text("attributes", name, w.opts.MaxName)
			a.add(name, w.otlpValue(name, v.AsString(), w.opts.MaxAttribute))
		}
	}
	c := &w.out.scratch
	own := len(c.labels)
	for _, l := range r.attrs {
		if indexLabel(c.labels[a.from:own], l.Name) < 0 {
			c.labels = append(c.labels, l)
		}
	}
	return a
}
