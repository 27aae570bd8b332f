package events_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	stdjson "encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
	vigiev1 "github.com/vigie-io/vigie/proto/vigie/v1"
)

// Whatever an event says, its spelling in JSON and the one that Go's protobuf library writes become the same event, or
// are refused for the same reason.
func TestProtobufEqualsJSON(t *testing.T) {
	accepted := 0
	rapid.Check(t, func(t *rapid.T) {
		for _, signal := range signals {
			all, text := &vigiev1.Events{}, []byte("[")
			for range rapid.IntRange(1, 3).Draw(t, "events") {
				switch signal {
				case events.Metrics:
					m := drawMetricMessage(t)
					all.Metrics, text = append(all.Metrics, m), appendMetricJSON(text, m)
				case events.Spans:
					p := drawSpanMessage(t)
					all.Spans, text = append(all.Spans, p), appendSpanJSON(text, p)
				default:
					l := drawLogMessage(t)
					all.Logs, text = append(all.Logs, l), appendLogJSON(text, l)
				}
				text = append(text, ',')
			}
			text[len(text)-1] = ']'
			raw := marshal(t, all)
			want := outcomeOf(events.Source{Signal: signal, Key: []byte("acme"), Value: text, Timestamp: now})
			for _, contentType := range []string{"", events.ContentTypeProtobuf, "application/x-protobuf",
				"Application/vnd.Vigie.v1+protobuf; charset=x"} {
				got := outcomeOf(events.Source{Signal: signal, Key: []byte("acme"), Value: raw, Timestamp: now,
					ContentType: strings.ToLower(contentType)})
				if got != want {
					t.Fatalf("%s\n got %s\nwant %s", text, got, want)
				}
			}
			accepted += strings.Count(want, "0 {")
		}
	})
	if accepted == 0 {
		t.Errorf("no event was accepted")
	}
}

// outcomeOf is what a record decodes to, but for what refusals tell people.
func outcomeOf(src events.Source) string {
	b := new(events.Batch)
	events.NewDecoder(events.Options{MaxLabels: 5, MaxAttributes: 5, MaxBuckets: 4}).Decode(b, src)
	for i := range b.Rejects {
		b.Rejects[i].Detail = ""
	}
	return fmt.Sprintf("%s%+v of %d", dump(b), b.Rejects, b.Events)
}

func marshal(t interface{ Fatalf(string, ...any) }, m proto.Message) []byte {
	raw, err := proto.Marshal(m)
	if err != nil {
		t.Fatalf("marshal: %v", err)
	}
	return raw
}

// drawFault says which one thing is wrong with an event, mostly none.
func drawFault(t *rapid.T, faults ...string) string {
	if rapid.IntRange(0, 2).Draw(t, "faulty") > 0 {
		return ""
	}
	return rapid.SampledFrom(append(faults, "tenant", "no tenant", "old", "new", "labels", "double label", "long label", "no label name")).Draw(t, "fault")
}

func drawText(t *rapid.T) string {
	return rapid.SampledFrom([]string{"", "a", "checkout", "é\n\"\\😀", strings.Repeat("x", 200), "\x00"}).Draw(t, "text")
}

func drawTime(t *rapid.T, fault string) int64 {
	switch fault {
	case "old":
		return -rapid.Int64Range(1, math.MaxInt64).Draw(t, "old")
	case "new":
		return rapid.SampledFrom([]int64{1e11 - 1, 1e14 - 1, 99_999_999_999_999_999 - 1e3}).Draw(t, "new")
	}
	return rapid.SampledFrom([]int64{0, 1, 1795428000, 1795428000123, 1795428000123456, 1795428000123456789, math.MaxInt64, 99_999_999_999_999_999}).Draw(t, "time")
}

func drawTenant(t *rapid.T, fault string) string {
	switch fault {
	case "tenant":
		return "other"
	case "no tenant":
		return "a b"
	}
	return rapid.SampledFrom([]string{"", "acme"}).Draw(t, "tenant")
}

func drawLabelMessages(t *rapid.T, fault string) (labels []*vigiev1.Label) {
	for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"service", "b", "http.route", "é", "service.name", "http.status_code", "peer.service"}), 0, 4, rapid.ID).Draw(t, "names") {
		labels = append(labels, &vigiev1.Label{Name: name, Value: rapid.SampledFrom([]string{"", "1", "503", "é\""}).Draw(t, "value")})
	}
	switch fault {
	case "labels":
		for i := range 6 {
			labels = append(labels, &vigiev1.Label{Name: fmt.Sprint("n", i), Value: "v"})
		}
	case "double label":
		labels = append([]*vigiev1.Label{{Name: "twice", Value: "1"}, {Name: "twice", Value: "2"}},
			labels[:min(1, len(labels))]...)
	case "long label":
		labels = append(labels[:min(1, len(labels))], &vigiev1.Label{Name: strings.Repeat("n", 257), Value: "1"})
	case "no label name":
		labels = append(labels[:min(1, len(labels))], &vigiev1.Label{Value: "1"})
	}
	return labels
}

func drawMetricMessage(t *rapid.T) *vigiev1.Metric {
	fault := drawFault(t, "no name", "no value", "not finite", "kind", "help", "histogram", "scale",
		"__name__", "bucket", "bounds", "stale")
	m := &vigiev1.Metric{
		Time: drawTime(t, fault), Name: "m" + drawText(t), Kind: vigiev1.Kind(rapid.IntRange(0, 4).Draw(t, "kind")),
		Labels: drawLabelMessages(t, fault),
		Unit:   drawText(t), Help: drawText(t), Tenant: drawTenant(t, fault),
		Data: &vigiev1.Metric_Value{Value: rapid.SampledFrom([]float64{0, math.Copysign(0, -1), 1, -0.25, 1e300, 5e-324}).Draw(t, "value")},
	}
	if rapid.Bool().Draw(t, "start") {
		m.Start = drawTime(t, "")
	}
	if fault == "histogram" || fault == "scale" || fault == "bucket" || fault == "bounds" ||
		rapid.IntRange(0, 3).Draw(t, "histogram") == 0 {
		h := drawHistogramMessage(t, fault)
		m.Data = &vigiev1.Metric_Histogram{Histogram: h}
		if fault == "bounds" || fault == "" && rapid.Bool().Draw(t, "bounded") {
			bound(t, m, h, fault)
		}
	}
	switch fault {
	case "no name":
		m.Name = ""
	case "no value":
		m.Data = nil
	case "not finite":
		m.Data = &vigiev1.Metric_Value{Value: rapid.SampledFrom([]float64{math.NaN(), math.Inf(1), math.Inf(-1)}).Draw(t, "what")}
	case "kind":
		m.Kind = vigiev1.Kind(rapid.SampledFrom([]int32{5, -1, 1 << 30}).Draw(t, "kind"))
	case "help":
		m.Help = strings.Repeat("h", 4097)
	case "stale":
		m.Data, m.Kind = &vigiev1.Metric_Stale{Stale: true}, vigiev1.Kind(rapid.IntRange(0, 2).Draw(t, "kind"))
	case "":
		if rapid.IntRange(0, 5).Draw(t, "stale") == 0 {
			m.Data, m.Kind = &vigiev1.Metric_Stale{Stale: true}, vigiev1.Kind(rapid.IntRange(3, 4).Draw(t, "kind"))
		}
	case "__name__":
		m.Labels = []*vigiev1.Label{{Name: "__name__", Value: "x"}}
	}
	return m
}

func drawHistogramMessage(t *rapid.T, fault string) *vigiev1.Histogram {
	h := &vigiev1.Histogram{Scale: proto.Int32(rapid.Int32Range(-10, 20).Draw(t, "scale")), Sum: proto.Float64(2.5),
		ZeroCount: 1, ZeroThreshold: 1e-9}
	count := 1.0
	for _, side := range []**vigiev1.Buckets{&h.Positive, &h.Negative} {
		if rapid.Bool().Draw(t, "side") {
			counts := rapid.SliceOfN(rapid.SampledFrom([]float64{0, 1, 7}), 0, 4).Draw(t, "counts")
			*side = &vigiev1.Buckets{Offset: rapid.Int32Range(-1000, 1000).Draw(t, "offset"), Counts: counts}
			for _, n := range counts {
				count += n
			}
		}
	}
	h.Count = &count
	if rapid.Bool().Draw(t, "extremes") {
		h.Min, h.Max = proto.Float64(-1), proto.Float64(0)
	}
	switch fault {
	case "histogram":
		rapid.SampledFrom([]func(){
			func() { h.Scale = nil }, func() { h.Count = nil }, func() { h.Sum = nil }, func() { *h.Count += 1 },
			func() { h.Min = proto.Float64(math.Inf(1)) }, func() { h.ZeroThreshold = -1 },
		}).Draw(t, "fault")()
	case "scale":
		h.Scale = proto.Int32(21)
	case "bucket":
		h.Positive = &vigiev1.Buckets{Counts: slices.Repeat([]float64{1}, 6)}
	}
	return h
}

// bound gives a histogram bounds of its own, and a fault with them.
func bound(t *rapid.T, m *vigiev1.Metric, h *vigiev1.Histogram, fault string) {
	m.Kind = rapid.SampledFrom([]vigiev1.Kind{vigiev1.Kind_KIND_GAUGE, vigiev1.Kind_KIND_CUMULATIVE}).Draw(t, "kind")
	h.Scale, h.ZeroCount, h.ZeroThreshold, h.Negative, h.Count = proto.Int32(events.CustomScale), 0, 0, nil, proto.Float64(3)
	h.Bounds = slices.Clone(rapid.SampledFrom([][]float64{{-1, 0.5}, {1, 2, 3}}).Draw(t, "bounds"))
	h.Positive = &vigiev1.Buckets{Offset: 1, Counts: []float64{1, 2}}
	if fault == "bounds" {
		rapid.SampledFrom([]func(){
			func() { h.Scale = proto.Int32(6) }, func() { h.Bounds = nil }, func() { h.Bounds[0] = 9 }, func() { h.Bounds = []float64{1, 1} },
			func() { h.Bounds = []float64{1, 2, 3, 4} }, func() { h.Positive.Offset = 3 }, func() { h.Positive.Offset = -1 }, func() { m.Kind = 2 },
			func() { h.ZeroThreshold = 1 }, func() { h.Negative = h.Positive },
		}).Draw(t, "fault")()
	}
}

func drawSpanMessage(t *rapid.T) *vigiev1.Span {
	fault := drawFault(t, "no service", "no name", "no duration", "negative", "kind", "status", "status code", "route")
	s := &vigiev1.Span{
		Time:     drawTime(t, fault),
		Duration: proto.Int64(rapid.SampledFrom([]int64{0, 1, 12_345_678, math.MaxInt64}).Draw(t, "duration")),
		Service:  "s" + drawText(t), Name: "n" + drawText(t),
		Kind:       vigiev1.SpanKind(rapid.IntRange(0, 5).Draw(t, "kind")),
		Status:     vigiev1.SpanStatus(rapid.IntRange(0, 2).Draw(t, "status")),
		StatusCode: rapid.SampledFrom([]int32{0, 100, 503, 599}).Draw(t, "code"), Route: drawText(t), Peer: drawText(t),
		TraceId: rapid.SampledFrom([]string{"", "ABcd", "01"}).Draw(t, "id"),
		SpanId:  "Ff", ParentId: drawText(t), Attributes: drawLabelMessages(t, fault), Tenant: drawTenant(t, fault),
	}
	switch fault {
	case "no service":
		s.Service, s.Attributes = "", nil
	case "no name":
		s.Name = ""
	case "no duration":
		s.Duration = nil
	case "negative":
		s.Duration = proto.Int64(-1)
	case "kind":
		s.Kind = 6
	case "status":
		s.Status = -1
	case "status code":
		s.StatusCode = rapid.SampledFrom([]int32{-1, 99, 600}).Draw(t, "code")
	case "route":
		s.Route = strings.Repeat("r", 4097)
	}
	return s
}

func drawLogMessage(t *rapid.T) *vigiev1.Log {
	fault := drawFault(t, "no body", "service", "trace")
	l := &vigiev1.Log{
		Time: drawTime(t, fault), Body: proto.String(drawText(t)), Service: drawText(t),
		Severity: rapid.SampledFrom([]string{"", "WARN", "Error", "loud"}).Draw(t, "severity"),
		TraceId:  drawText(t), SpanId: "AB", Attributes: drawLabelMessages(t, fault), Tenant: drawTenant(t, fault),
	}
	switch fault {
	case "no body":
		l.Body = nil
	case "service":
		l.Service = strings.Repeat("s", 4097)
	case "trace":
		l.TraceId = strings.Repeat("a", 257)
	}
	return l
}

// jsonObject writes an object field by field, as the contract says it in JSON. What is left out in protobuf is left
// out.
type jsonObject struct{ out []byte }

func newObject(dst []byte) *jsonObject { return &jsonObject{append(dst, '{')} }

func (o *jsonObject) raw(name, value string) {
	o.out = fmt.Appendf(o.out, "%q:%s,", name, value)
}

func (o *jsonObject) text(name, value string) {
	if value != "" {
		raw, _ := stdjson.Marshal(value)
		o.raw(name, string(raw))
	}
}

func (o *jsonObject) number(name string, v float64) {
	o.raw(name, strings.ReplaceAll(fmt.Sprint(v), "+", ""))
}

func (o *jsonObject) time(name string, v int64) {
	if v != 0 {
		o.raw(name, fmt.Sprint(v))
	}
}

func (o *jsonObject) labels(name string, labels []*vigiev1.Label) {
	inner := newObject(nil)
	for _, l := range labels {
		name, _ := stdjson.Marshal(l.Name)
		value, _ := stdjson.Marshal(l.Value)
		inner.out = fmt.Appendf(inner.out, "%s:%s,", name, value)
	}
	o.raw(name, string(inner.end()))
}

func (o *jsonObject) end() []byte {
	return append(bytes.TrimSuffix(o.out, []byte(",")), '}')
}

func appendMetricJSON(dst []byte, m *vigiev1.Metric) []byte {
	o := newObject(dst)
	o.time("time", m.Time)
	switch data := m.Data.(type) {
	case *vigiev1.Metric_Value:
		o.number("value", data.Value)
	case *vigiev1.Metric_Histogram:
		o.raw("histogram", histogramJSON(data.Histogram))
	case *vigiev1.Metric_Stale:
		o.raw("stale", fmt.Sprint(data.Stale))
	}
	o.text("name", m.Name)
	if m.Kind != 0 {
		o.text("kind", strings.ToLower(strings.TrimPrefix(m.Kind.String(), "KIND_")))
	}
	o.labels("labels", m.Labels)
	o.time("start", m.Start)
	o.text("unit", m.Unit)
	o.text("help", m.Help)
	o.text("tenant", m.Tenant)
	return o.end()
}

func histogramJSON(h *vigiev1.Histogram) string {
	o := newObject(nil)
	if h.Scale != nil {
		o.number("scale", float64(*h.Scale))
	}
	for name, v := range map[string]*float64{"count": h.Count, "sum": h.Sum, "min": h.Min, "max": h.Max,
		"zero_threshold": &h.ZeroThreshold, "zero_count": &h.ZeroCount} {
		if v != nil {
			o.number(name, *v)
		}
	}
	if h.Bounds != nil {
		bounds, _ := stdjson.Marshal(h.Bounds)
		o.raw("bounds", string(bounds))
	}
	for name, side := range map[string]*vigiev1.Buckets{"positive": h.Positive, "negative": h.Negative} {
		if side != nil {
			counts, _ := stdjson.Marshal(append([]float64{}, side.Counts...))
			o.raw(name, fmt.Sprintf(`{"offset":%d,"counts":%s}`, side.Offset, counts))
		}
	}
	return string(o.end())
}

func appendSpanJSON(dst []byte, s *vigiev1.Span) []byte {
	o := newObject(dst)
	o.time("time", s.Time)
	if s.Duration != nil {
		o.raw("duration", fmt.Sprintf("%q", fmt.Sprint(*s.Duration, "ns")))
	}
	o.text("service", s.Service)
	o.text("name", s.Name)
	if s.Kind != 0 {
		o.text("kind", s.Kind.String())
	}
	if s.Status != 0 {
		o.text("status", strings.ToLower(strings.TrimPrefix(s.Status.String(), "SPAN_STATUS_")))
	}
	o.number("status_code", float64(s.StatusCode))
	o.text("route", s.Route)
	o.text("peer", s.Peer)
	o.text("trace_id", s.TraceId)
	o.text("span_id", s.SpanId)
	o.text("parent_id", s.ParentId)
	o.labels("attributes", s.Attributes)
	o.text("tenant", s.Tenant)
	return o.end()
}

func appendLogJSON(dst []byte, l *vigiev1.Log) []byte {
	o := newObject(dst)
	o.time("time", l.Time)
	if l.Body != nil {
		raw, _ := stdjson.Marshal(*l.Body)
		o.raw("body", string(raw))
	}
	o.text("service", l.Service)
	o.text("severity", l.Severity)
	o.text("trace_id", l.TraceId)
	o.text("span_id", l.SpanId)
	o.labels("attributes", l.Attributes)
	o.text("tenant", l.Tenant)
	return o.end()
}

// Events written without the library are what the library reads, and decoding gives them again.
func TestAppendProtobuf(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		for _, signal := range signals {
			all := &vigiev1.Events{}
			for range 2 {
				switch signal {
				case events.Metrics:
					all.Metrics = append(all.Metrics, drawMetricMessage(t))
				case events.Spans:
					all.Spans = append(all.Spans, drawSpanMessage(t))
				default:
					all.Logs = append(all.Logs, drawLogMessage(t))
				}
			}
			b := decode(events.Source{Signal: signal, Key: []byte("acme"), Value: marshal(t, all), Timestamp: now})
			b.Metrics = slices.DeleteFunc(b.Metrics,
				func(m events.Metric) bool { return m.Time < 1e17 || m.Start != 0 && m.Start < 1e17 })
			b.Spans = slices.DeleteFunc(b.Spans, func(s events.Span) bool { return s.Time < 1e17 })
			b.Logs = slices.DeleteFunc(b.Logs, func(l events.Log) bool { return l.Time < 1e17 })
			raw := appendAll(b)
			if accepted(b) == 0 {
				continue
			}
			if err := proto.Unmarshal(raw, &vigiev1.Events{}); err != nil {
				t.Fatalf("got %v of the library for %x", err, raw)
			}
			c := decode(events.Source{Signal: signal, Value: raw})
			if got, want := eventsOf(c), eventsOf(b); got != want {
				t.Fatalf("got\n%s\nafter encoding and decoding again, want\n%s", got, want)
			}
		}
	})
}

// appendAll writes all events of the batch as one vigie.v1.Events.
func appendAll(b *events.Batch) (raw []byte) {
	for i := range b.Metrics {
		raw = events.AppendMetricProtobuf(raw, &b.Metrics[i])
	}
	for i := range b.Spans {
		raw = events.AppendSpanProtobuf(raw, &b.Spans[i])
	}
	for i := range b.Logs {
		raw = events.AppendLogProtobuf(raw, &b.Logs[i])
	}
	return raw
}

// eventsOf are the batch's events as JSON, a line each.
func eventsOf(b *events.Batch) string {
	var out []byte
	for i := range b.Metrics {
		out = append(events.AppendMetric(out, &b.Metrics[i]), '\n')
	}
	for i := range b.Spans {
		out = append(events.AppendSpan(out, &b.Spans[i]), '\n')
	}
	for i := range b.Logs {
		out = append(events.AppendLog(out, &b.Logs[i]), '\n')
	}
	return string(out)
}

// The bytes of docs/format/event.md.
func TestProtobufGolden(t *testing.T) {
	at := now
	var out []byte
	show := func(name string, raw []byte) {
		out = fmt.Appendf(out, "%s\n%s", name, hex.Dump(raw))
	}
	show("metric", goldenMetric())
	show("histogram", events.AppendMetricProtobuf(nil, &events.Metric{Time: at, Name: "rpc_seconds", Histogram: &events.Histogram{
		Scale: 6, Count: 7, Sum: 0.7, Min: math.NaN(), Max: 0.5, ZeroCount: 1, ZeroThreshold: 1e-9,
		Positive: events.Buckets{Offset: -140, Counts: []float64{1, 0, 1}}, Negative: events.Buckets{Counts: []float64{4}},
	}}))
	show("bounds", events.AppendMetricProtobuf(nil, &events.Metric{Time: at, Name: "rpc_seconds", Kind: events.Cumulative, Histogram: &events.Histogram{
		Scale: events.CustomScale, Count: 7, Sum: 0.7, Min: math.NaN(), Max: math.NaN(), Bounds: []float64{0.1, 0.5, 1},
		Positive: events.Buckets{Offset: 1, Counts: []float64{4, 2, 1}},
	}}))
	show("span", events.AppendSpanProtobuf(nil, &events.Span{
		Time: at, Duration: 12_000_000, Service: "checkout", Name: "charge", Kind: "client", Status: "error",
		StatusCode: 503, Route: "/pay", Peer: "bank",
		TraceID: "5b8efff798038103d269b633813fc60c", SpanID: "eee19b7ec3c1b174", ParentID: "01",
		Attributes: series.Labels{{Name: "retry", Value: "2"}}, Tenant: "acme",
	}))
	show("log", events.AppendLogProtobuf(nil, &events.Log{
		Time: at, Body: "", Service: "checkout", Severity: "warn", TraceID: "5b", SpanID: "ee",
		Attributes: series.Labels{{Name: "order", Value: "17"}}, Tenant: "acme",
	}))
	golden(t, "protobuf.golden", string(out))
}

func goldenMetric() []byte {
	return events.AppendMetricProtobuf(nil, &events.Metric{
		Time: now, Name: "orders_total", Kind: events.Delta, Value: 3, Start: 1_795_428_000e9, Unit: "1",
		Help: "Orders.", Tenant: "acme",
		Labels: series.Labels{{Name: "route", Value: "/pay"}, {Name: "service", Value: "checkout"}},
	})
}

// What is wrong with one event costs that event, and breaks of the frames what is behind them.
func TestProtobufRefusals(t *testing.T) {
	const (
		head  = "\x09\x00\x00\x00\x00\x00\x00\x00\x40" // time = 1<<62
		value = "\x11\x00\x00\x00\x00\x00\x00\xf0\x3f"
		named = value + "\x22\x01m"
	)
	event := func(body string) string { return "\x12" + string(rune(len(body))) + body }
	whole := event(head + named)
	f := func(body string, reason events.Reason, field string) {
		t.Helper()
		record := whole + event(body) + whole
		b := decode(events.Source{Signal: events.Metrics, Key: []byte("acme"), Value: []byte(record), Timestamp: now})
		if len(b.Metrics) != 2 || len(b.Rejects) != 1 || b.Events != 3 || !slices.Equal(b.MetricIndex, []int{0, 2}) {
			t.Fatalf("%q: got %d metrics %v and rejects %+v, want 0 and 2 taken, one refused",
				body, len(b.Metrics), b.MetricIndex, b.Rejects)
		}
		if r := b.Rejects[0]; r.Index != 1 || r.Reason != reason || r.Field != field || r.Detail == "" {
			t.Errorf("%q: got %+v, want %s of %q at 1", body, r, reason, field)
		}
	}
	f("", events.ReasonMissing, "name")
	f("\x11\x00\x00", events.ReasonBadProtobuf, "")
	f(named+"\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", events.ReasonBadProtobuf, "name") // a varint of eleven bytes
	f(named+"\x00\x01", events.ReasonBadProtobuf, "name")                                         // field 0
	f(named+"\x7b\x7c", events.ReasonBadProtobuf, "name")                                         // a group
	f(named+"\x32\x02\x0a\x05", events.ReasonBadProtobuf, "labels")
	f(named+"\x7d\x00", events.ReasonBadProtobuf, "name")
	f(named+named, events.ReasonDuplicateField, "value")
	f(named+"\x22\x01m", events.ReasonDuplicateField, "name")
	f(named+"\x32\x06\x0a\x01a\x0a\x01b", events.ReasonDuplicateField, "labels")
	f(value+"\x22\x01\xff", events.ReasonInvalidUTF8, "name")
	f(named+"\x32\x06\x0a\x01\xc3\x12\x01b", events.ReasonInvalidUTF8, "labels")
	f("\x10\x01\x22\x01m", events.ReasonWrongType, "value")
	f(named+"\x25\x00\x00\x00\x00", events.ReasonDuplicateField, "name")
	f(named+"\x32\x02\x08\x01", events.ReasonWrongType, "labels")
	f(named+"\x30\x01", events.ReasonWrongType, "labels")
	f(named+"\x2a\x01\x01", events.ReasonWrongType, "kind")
	f("\x22\x01m\x1a\x05\x42\x03\x12\x01\x00", events.ReasonBadProtobuf, "histogram.positive")

	// Fields that this version does not know are skipped; labels may stand anywhere.
	unknown := "\x78\x01\x7a\x02\x00\xff\x7d\x00\x00\x00\x00\x82\x01\x00"
	b := decode(events.Source{Signal: events.Metrics, Key: []byte("acme"),
		Value: []byte(event("\x32\x06\x0a\x01b\x12\x01y" + named + "\x32\x06\x0a\x01a\x12\x01x" + unknown)), Timestamp: now})
	if want := (series.Labels{{Name: "a", Value: "x"}, {Name: "b", Value: "y"}}); len(b.Metrics) != 1 ||
		!reflect.DeepEqual(b.Metrics[0].Labels, want) || b.NoTime != 1 {
		t.Errorf("got %+v, rejects %+v and %d without time; want labels %v and the record's time",
			b.Metrics, b.Rejects, b.NoTime, want)
	}

	records := func(record string, contentType string, taken []int, reason events.Reason, index int) {
		t.Helper()
		b := decode(events.Source{Signal: events.Metrics, Key: []byte("acme"), Value: []byte(record),
			Timestamp: now, ContentType: contentType})
		if !slices.Equal(b.MetricIndex, taken) || len(b.Rejects) != 1 ||
			b.Rejects[0].Reason != reason || b.Rejects[0].Index != index {
			t.Errorf("%q: got %v and %+v, want %v and %s at %d", record, b.MetricIndex, b.Rejects, taken, reason, index)
		}
	}
	const ours, any = events.ContentTypeProtobuf, "application/x-protobuf"
	records(whole[:len(whole)-1], ours, nil, events.ReasonBadProtobuf, -1)
	records(whole[:len(whole)-1], any, nil, events.ReasonBadProtobuf, -1)
	records(whole+whole+whole[:len(whole)-1], ours, []int{0, 1}, events.ReasonBadProtobuf, 2)
	records(whole+"\x03", ours, []int{0}, events.ReasonBadProtobuf, 1)
	// Events of another signal, of one to come, and an OTLP request where it was said not to be one.
	records(whole+"\x1a\x00", "", []int{0}, events.ReasonWrongSignal, 1)
	records("\x42\x00", ours, nil, events.ReasonWrongSignal, 0)
	records("\x0a\x00", ours, nil, events.ReasonWrongSignal, 0)
	records("\x0a\x05", any, nil, events.ReasonBadOTLP, -1)
	// What is not framed to its end is JSON when nobody says otherwise, or would be.
	records(whole[:len(whole)-1], "", nil, events.ReasonBadJSON, -1)
	records(whole, "application/json", nil, events.ReasonBadJSON, -1)
	records("", ours, nil, events.ReasonEmpty, -1)

	small := events.NewDecoder(events.Options{MaxEvents: 2})
	small.Decode(b, events.Source{Signal: events.Metrics, Key: []byte("acme"), Value: []byte(strings.Repeat(whole, 4))})
	if len(b.Metrics) != 2 || len(b.Rejects) != 1 ||
		b.Rejects[0].Reason != events.ReasonTooManyEvents || b.Rejects[0].Index != 2 {
		t.Errorf("4 events at a limit of 2: got %d metrics and %+v, want 2 and one %s at 2",
			len(b.Metrics), b.Rejects, events.ReasonTooManyEvents)
	}
}

// FuzzProtobuf holds the decoder against Go's protobuf library: what it reads and nothing is refused of is the same,
// and what it does not read has something refused.
func FuzzProtobuf(f *testing.F) {
	for seed := range 10 {
		f.Add(uint8(0), marshal(f, &vigiev1.Events{Metrics: []*vigiev1.Metric{rapid.Custom(drawMetricMessage).Example(seed), rapid.Custom(drawMetricMessage).Example(seed + 50)}}))
		f.Add(uint8(1), marshal(f, &vigiev1.Events{Spans: []*vigiev1.Span{rapid.Custom(drawSpanMessage).Example(seed)}}))
		f.Add(uint8(2), marshal(f, &vigiev1.Events{Logs: []*vigiev1.Log{rapid.Custom(drawLogMessage).Example(seed)}}))
	}
	d, batch := events.NewDecoder(events.Options{}), new(events.Batch)
	f.Fuzz(func(t *testing.T, s uint8, value []byte) {
		signal := signals[int(s)%len(signals)]
		d.Decode(batch, events.Source{Signal: signal, Key: []byte("acme"), Value: value, ContentType: events.ContentTypeProtobuf, Timestamp: now})
		holds(t, batch)
		again(t, signal, batch)
		var all vigiev1.Events
		err := proto.Unmarshal(value, &all)
		if len(batch.Rejects) > 0 {
			return
		}
		if err != nil {
			t.Fatalf("%x: got all of it, want something refused: %v", value, err)
		}
		text := []byte("[")
		for _, m := range all.Metrics {
			text = append(appendMetricJSON(text, m), ',')
		}
		for _, p := range all.Spans {
			text = append(appendSpanJSON(text, p), ',')
		}
		for _, l := range all.Logs {
			text = append(appendLogJSON(text, l), ',')
		}
		text = append(bytes.TrimSuffix(text, []byte(",")), ']')
		if len(text) > 1<<20 {
			return
		}
		got := eventsOf(batch)
		d.Decode(batch, events.Source{Signal: signal, Key: []byte("acme"), Value: text, Timestamp: now})
		if want := eventsOf(batch); got != want || len(batch.Rejects) > 0 {
			t.Fatalf("%x:\n got %s\nwant %s (%+v)", value, got, want, batch.Rejects)
		}
	})
}

// drawEvents are metrics in protobuf that say one of few things beside time and value, now and then in a strange way.
func drawEvents(t *rapid.T) []byte {
	all := &vigiev1.Events{}
	rarely := func(label string) bool { return rapid.IntRange(0, 19).Draw(t, label) == 13 }
	for range rapid.SampledFrom([]int{1, 1, 1, 2, 3}).Draw(t, "events") {
		m := &vigiev1.Metric{
			Time: 1e18 + int64(rapid.IntRange(0, 3).Draw(t, "time")), Name: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "name"),
			Data:   &vigiev1.Metric_Value{Value: rapid.Float64().Draw(t, "value")},
			Labels: []*vigiev1.Label{{Name: "n", Value: rapid.SampledFrom([]string{"x", "y"}).Draw(t, "label")}},
		}
		switch {
		case rarely("no time"):
			m.Time = 0
		case rarely("no value"):
			m.Data = nil
		case rarely("old"):
			m.Time = -5
		case rarely("histogram"):
			m.Data = &vigiev1.Metric_Histogram{Histogram: drawHistogramMessage(t, "")}
		case rarely("stale"):
			m.Data, m.Kind = &vigiev1.Metric_Stale{Stale: true}, vigiev1.Kind_KIND_GAUGE
		case rarely("not finite"):
			m.Data = &vigiev1.Metric_Value{Value: math.NaN()}
		case rarely("start"):
			m.Start = 1e18
		case rarely("tenant"):
			m.Tenant = "other"
		case rarely("kind"):
			m.Kind = vigiev1.Kind(rapid.IntRange(0, 5).Draw(t, "number"))
		}
		all.Metrics = append(all.Metrics, m)
	}
	raw := marshal(t, all)
	if rapid.IntRange(0, 4).Draw(t, "turn") == 0 { // time and value behind the rest
		raw = turned(raw)
	}
	return raw
}

// turned moves the first two fields of each event to its end.
func turned(raw []byte) (out []byte) {
	for len(raw) > 2 && raw[1] < 0x80 && len(raw) >= 2+int(raw[1]) {
		e := raw[2 : 2+raw[1]]
		if n := min(18, len(e)); len(e) > 18 && e[0] == 9 && e[9] == 17 {
			e = append(slices.Clone(e[n:]), e[:n]...)
		}
		out = append(append(out, raw[:2]...), e...)
		raw = raw[2+raw[1]:]
	}
	return append(out, raw...)
}

// An event in protobuf that is known by its bytes is what decoding it in full gives, also after a byte of it was
// changed, and beside the same events in JSON.
func TestProtobufRepeatsEqualDecoding(t *testing.T) {
	known := 0
	rapid.Check(t, func(t *rapid.T) {
		var records [][]byte
		for range rapid.IntRange(2, 20).Draw(t, "records") {
			record := drawEvents(t)
			switch rapid.IntRange(0, 9).Draw(t, "damage") {
			case 7:
				record[rapid.IntRange(0, len(record)-1).Draw(t, "at")] = rapid.Byte().Draw(t, "byte")
			case 8:
				record = []byte(eventsOf(decode(events.Source{Signal: events.Metrics, Key: []byte("acme"),
					Value: record, Timestamp: 1e18})))
			}
			records = sometimesTwice(t, records, record)
		}
		known += knownOf(t, 1000, records...)
	})
	if known == 0 {
		t.Errorf("no event was known")
	}
}

// Protobuf events whose labels and fields come in any order, with a field that the contract does not know, are known,
// and are what decoding them in full gives, whatever else is between such events: written otherwise, twice, or wrong.
func TestProtobufUnorderedEqualsDecoding(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	text := func(number uint64, b string) []byte {
		return append(binary.AppendUvarint(binary.AppendUvarint(nil, number<<3|2), uint64(len(b))), b...)
	}
	fixed := func(number, value uint64) []byte {
		return binary.LittleEndian.AppendUint64(binary.AppendUvarint(nil, number<<3|1), value)
	}
	label := func(name, value string) []byte { return text(6, string(text(1, name))+string(text(2, value))) }
	var records [][]byte
	for n := range 4000 {
		fields := [][]byte{
			fixed(1, 1e18+r.Uint64N(1e9)), fixed(2, math.Float64bits(r.ExpFloat64())), text(4, "m"), text(8, "s"), label("a", "1"),
			label("b", fmt.Sprint(r.IntN(8))), label("c", "3"), text(100, fmt.Sprint(n)),
		}
		if n > 1000 && r.IntN(3) == 0 {
			odd := [][]byte{
				fields[r.IntN(len(fields))], nil, text(3, ""), fixed(7, 1e18), fixed(7, 0), {11 << 3, 1}, {11 << 3, 0},
				{5 << 3, 2}, {5 << 3, 9}, fixed(1, 0), fixed(1, 1<<63), text(1, "x"), fixed(2, math.Float64bits(math.NaN())),
				text(4, "\xff"), text(10, "acme"), text(10, "other"), label("a", "2"), label("", "x"), label("d", ""),
				label("e", "5"), {0x83, 0x00}, {0x0b}, binary.AppendUvarint(nil, 200<<3),
			}[r.IntN(23)]
			if at := r.IntN(2 * len(fields)); at < len(fields) {
				fields[at] = odd
			} else {
				fields = append(fields, odd)
			}
		}
		r.Shuffle(len(fields), func(i, j int) { fields[i], fields[j] = fields[j], fields[i] })
		records = append(records, text(2, string(bytes.Join(fields, nil))))
	}
	knownOf(t, 10_000, records...)
	if known := knownLooking(10_000, records...); known < 2000 {
		t.Errorf("got %d of 4000 events known, want 2000 at least", known)
	}
}

// FuzzProtobufRepeats decodes two records after each other, each twice, with knowledge and without.
func FuzzProtobufRepeats(f *testing.F) {
	example := rapid.Custom(drawEvents)
	for seed := range 20 {
		f.Add(example.Example(seed), example.Example(seed+1))
	}
	f.Fuzz(func(t *testing.T, a, b []byte) { knownOf(t, 1000, a, b, a, b) })
}

// Events that repeat themselves are known, alone and in batches, in any order of their fields, and nothing is allocated
// for them.
func TestProtobufRepeatsAreKnown(t *testing.T) {
	record := func(value float64, turn bool, n int) []byte {
		all := &vigiev1.Events{}
		for i := range n {
			all.Metrics = append(all.Metrics, &vigiev1.Metric{
				Time: 1e18 + int64(value), Data: &vigiev1.Metric_Value{Value: value}, Name: "queue_length",
				Kind:   vigiev1.Kind_KIND_GAUGE,
				Labels: []*vigiev1.Label{{Name: "queue", Value: fmt.Sprint(i)}, {Name: "host", Value: "a"}},
			})
		}
		raw := marshal(t, all)
		if turn {
			raw = turned(raw)
		}
		return raw
	}
	for _, turn := range []bool{false, true} {
		if known := knownOf(t, 1000, record(1, turn, 1), record(2, turn, 1), record(3, turn, 10), record(4, turn, 10), record(5, turn, 1)); known != 1+1+10+1 {
			t.Errorf("turned %v: got %d events known, want 13", turn, known)
		}
	}
	k := newKnower(1000)
	k.decode(record(1, false, 10), k.repeats)
	source := events.Source{Signal: events.Metrics, Key: []byte("acme"), Value: record(2, false, 10), Timestamp: 1e18,
		Repeats: k.repeats, ContentType: events.ContentTypeProtobuf}
	if allocs := testing.AllocsPerRun(100, func() { k.decoder.Decode(&k.batch, source) }); allocs > 0 {
		t.Errorf("got %v allocations a record, want none", allocs)
	}
	if len(k.batch.Repeats) != 10 || k.batch.Repeats[9].Value != 2 || k.batch.Events != 10 {
		t.Errorf("got %+v of %d events, want 10 of value 2", k.batch.Repeats, k.batch.Events)
	}
}
