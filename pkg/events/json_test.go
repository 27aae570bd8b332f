package events_test

import (
	stdjson "encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
)

func TestMetricJSON(t *testing.T) {
	f := func(value, want string) {
		t.Helper()
		b := decode(json(events.Metrics, value))
		if got := strings.TrimSpace(dump(b)); got != want {
			t.Errorf("%s: got\n%s, want\n%s", value, got, want)
		}
	}
	const head = `0 {"tenant":"acme","time":"2026-11-23T10:00:00.123Z"`
	f(`{"tenant":"acme","time":"2026-11-23T10:00:00.123Z","name":"http_request_duration_seconds","value":0.123,"labels":{"service":"checkout","route":"/pay","status":"200"}}`,
		head+`,"name":"http_request_duration_seconds","value":0.123,"labels":{"route":"/pay","service":"checkout","status":"200"}}`)
	// Order of fields, white space, unknown fields and escapes change nothing.
	f("\t{ \"value\" : 1e-1 ,\n\"x\":{\"a\":[1,2,{\"b\":null}]}, \"labels\" : { } , \"n\\u0061me\":\"m\" ,\"time\":1795428000123,\"tenant\":\"acme\", \"y\":\"\\\"\"}", head+`,"name":"m","value":0.1}`)
	f(`{"tenant":"acme","time":1795428000123,"name":"m","kind":"cumulative","value":-0,"start":1795428000,"unit":"s","help":"h"}`,
		head+`,"start":"2026-11-23T10:00:00Z","name":"m","kind":"cumulative","value":-0,"unit":"s","help":"h"}`)
	// null and an empty label are the same as leaving it out.
	f(`{"tenant":null,"tenant":"acme","time":1795428000123,"name":"m","kind":null,"value":1,"labels":{"a":null,"b":"","c":"1"},"histogram":null,"start":null}`,
		head+`,"name":"m","value":1,"labels":{"c":"1"}}`)
	f(`{"tenant":"acme","time":1795428000123,"name":"m","value":1,"labels":{"z":"\u00e9\n\ud83d\ude00","b":"é😀","a":"\/\"\\"}}`,
		head+`,"name":"m","value":1,"labels":{"a":"/\"\\","b":"é😀","z":"é\n😀"}}`)
	f(`{"tenant":"acme","time":1795428000123,"name":"m","histogram":{"scale":7,"zero_threshold":1e-9,"zero_count":1,"count":6,"sum":-2.5,"min":-1,"max":4,"positive":{"offset":-3,"counts":[1,0,2]},"negative":{"offset":4,"counts":[2]},"x":[]}}`,
		head+`,"name":"m","histogram":{"scale":7,"zero_threshold":1e-09,"zero_count":1,"count":6,"sum":-2.5,"min":-1,"max":4,"positive":{"offset":-3,"counts":[1,0,2]},"negative":{"offset":4,"counts":[2]}}}`)
	f(`{"tenant":"acme","time":1795428000123,"name":"m","kind":"gauge","histogram":{"bounds":[-1,0.5,1e1],"scale":-53,"count":6,"sum":2,"positive":{"offset":1,"counts":[1,3,2]}}}`,
		head+`,"name":"m","kind":"gauge","histogram":{"scale":-53,"count":6,"sum":2,"positive":{"offset":1,"counts":[1,3,2]},"bounds":[-1,0.5,10]}}`)
	f(`{"tenant":"acme","time":1795428000123,"name":"m","kind":"gauge","stale":true}`, head+`,"name":"m","kind":"gauge","stale":true}`)
	f(`{"tenant":"acme","time":1795428000123,"name":"m","stale":false,"value":1}`, head+`,"name":"m","value":1}`)
	f(`{"tenant":"acme","name":"m","value":1}`, head+",\"name\":\"m\",\"value\":1}\nno time 1, stale 0, coarse 0")
	f(`{"tenant":"acme","name":"m","time":1795428000123,"histogram":{"scale":5,"count":1,"sum":1,"positive":{"offset":0,"counts":[1]}}}`,
		head+",\"name\":\"m\",\"histogram\":{\"scale\":5,\"count\":1,\"sum\":1,\"positive\":{\"offset\":0,\"counts\":[1]}}}\nno time 0, stale 0, coarse 1")
}

func TestSpanAndLogJSON(t *testing.T) {
	f := func(signal events.Signal, value, want string) {
		t.Helper()
		if got := strings.TrimSpace(dump(decode(json(signal, value)))); got != want {
			t.Errorf("%s: got\n%s, want\n%s", value, got, want)
		}
	}
	const head = `0 {"tenant":"acme","time":"2026-11-23T10:00:00.123Z"`
	const span = `{"tenant":"acme","time":1795428000123,"service":"s","name":"n"`
	f(events.Spans, span+`,"duration":0.0125}`, head+`,"service":"s","name":"n","duration":0.0125,"kind":"internal","status":"unset"}`)
	f(events.Spans, span+`,"duration":"12ms","kind":"SERVER","status":"STATUS_CODE_ERROR","status_code":503,"route":"/a","peer":"p","trace_id":"ABcd","span_id":"01","parent_id":"FF"}`,
		head+`,"service":"s","name":"n","duration":0.012,"kind":"server","status":"error","status_code":503,"route":"/a","peer":"p","trace_id":"abcd","span_id":"01","parent_id":"ff"}`)
	// Unknown fields and attributes are kept, whatever their type.
	f(events.Spans, span+`,"duration":0,"user":"u","n":1.50,"attributes":{"ok":true,"none":null,"deep":{"a":[1,"x"]}},"also":null}`,
		head+`,"service":"s","name":"n","duration":0,"kind":"internal","status":"unset","attributes":{"deep":"{\"a\":[1,\"x\"]}","n":"1.50","ok":"true","user":"u"}}`)
	// What OpenTelemetry's attributes say fills the fields left out.
	f(events.Spans, `{"tenant":"acme","time":1795428000123,"name":"n","duration":1,"kind":"client","attributes":{"service.name":"s","http.route":"/r","http.status_code":404,"net.peer.name":"db"}}`,
		head+`,"service":"s","name":"n","duration":1,"kind":"client","status":"unset","status_code":404,"route":"/r","peer":"db","attributes":{"http.route":"/r","http.status_code":"404","net.peer.name":"db","service.name":"s"}}`)
	const log = `{"tenant":"acme","time":1795428000123,"body":"b"`
	f(events.Logs, log+`}`, head+`,"severity":"unknown","body":"b"}`)
	f(events.Logs, `{"tenant":"acme","time":1795428000123,"body":""}`, head+`,"severity":"unknown","body":""}`)
	f(events.Logs, log+`,"severity":"Warning","service":"s","user":"u","trace_id":"A"}`,
		head+`,"service":"s","severity":"warn","body":"b","trace_id":"a","attributes":{"user":"u"}}`)
	for text, want := range map[string]string{
		"TRACE": "trace", "Debug": "debug", "information": "info", "NOTICE": "info", "INFO3": "info",
		"err": "error", "SEVERE": "error",
		"CRIT": "fatal", "emerg": "fatal", "panic": "fatal", "": "unknown", "42": "unknown", "loud": "unknown",
		strings.Repeat("x", 99): "unknown",
	} {
		f(events.Logs, log+`,"severity":"`+text+`"}`, head+`,"severity":"`+want+`","body":"b"}`)
	}
}

func TestTimes(t *testing.T) {
	f := func(text string, want int64) {
		t.Helper()
		b := decode(json(events.Metrics, `{"tenant":"acme","time":`+text+`,"name":"m","value":1}`))
		if len(b.Metrics) != 1 || b.Metrics[0].Time != want {
			t.Errorf("time %s: got %+v %+v, want %d", text, b.Metrics, b.Rejects, want)
		}
	}
	// The same instant in four units, told apart by size.
	f("1795428000", 1_795_428_000e9)
	f("1795428000123", 1_795_428_000_123e6)
	f("1795428000123456", 1_795_428_000_123_456e3)
	f("1795428000123456789", 1_795_428_000_123_456_789)
	f("1795428000.123456789", 1_795_428_000_123_456_789)
	f("1795428000123.456789", 1_795_428_000_123_456_789)
	f("1.795428000123456789e9", 1_795_428_000_123_456_789)
	f("1795428000.1234567891", 1_795_428_000_123_456_768) // 20 digits: as exact as a float
	// 1970 is a time; that it is too old is for whoever has a clock to say.
	f("0", 0)
	f("-0", 0)
	f("5", 5e9)
	f(`"1970-01-01T00:00:00Z"`, 0)
	f(`"2026-11-23T10:00:00Z"`, 1_795_428_000e9)
	f(`"2026-11-23t10:00:00z"`, 1_795_428_000e9)
	f(`"2026-11-23 10:00:00.5+00:00"`, 1_795_428_000_5e8)
	f(`"2026-11-23T12:30:00.123456789999+02:30"`, 1_795_428_000_123_456_789)
	f(`"2026-11-22T20:00:00-14:00"`, 1_795_428_000e9)
	f(`"2016-12-31T23:59:60Z"`, 1_483_228_800e9)
	f(`"2262-04-11T23:47:16.854775807Z"`, math.MaxInt64)
	f("9223372036854775807", math.MaxInt64)
}

// Every RFC 3339 time of Go's time package reads as that package reads it.
func TestTimesAgreeWithStandardLibrary(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		at := time.Unix(rapid.Int64Range(0, 9_223_372_035).Draw(t, "s"), rapid.Int64Range(0, 999_999_999).Draw(t, "ns"))
		text := at.In(time.FixedZone("", 60*rapid.IntRange(-14*60, 14*60).Draw(t, "zone"))).Format(time.RFC3339Nano)
		b := decode(json(events.Metrics, `{"tenant":"acme","time":"`+text+`","name":"m","value":1}`))
		if len(b.Metrics) != 1 || b.Metrics[0].Time != at.UnixNano() {
			t.Fatalf("time %s: got %+v %+v, want %d", text, b.Metrics, b.Rejects, at.UnixNano())
		}
	})
}

func text() *rapid.Generator[string] {
	return rapid.OneOf(rapid.StringMatching(`[a-z_]{1,12}`), rapid.StringN(1, 20, 64),
		rapid.SampledFrom([]string{"\x00", "\"\\/\b\f\n\r\t", "é\u2028\U0001F600", "\x7f"}))
}

func labelSet() *rapid.Generator[series.Labels] {
	return rapid.Custom(func(t *rapid.T) series.Labels {
		m := rapid.MapOfN(text(), text(), 0, 8).Draw(t, "labels")
		var labels []series.Label
		for name, value := range m {
			if name != "__name__" {
				labels = append(labels, series.Label{Name: "x" + name, Value: value})
			}
		}
		sorted, err := series.Sort(labels)
		if err != nil {
			t.Fatal(err)
		}
		if len(sorted) == 0 {
			return nil
		}
		return sorted
	})
}

func sides() *rapid.Generator[events.Buckets] {
	return rapid.Custom(func(t *rapid.T) events.Buckets {
		var counts []float64
		for _, n := range rapid.SliceOfN(rapid.IntRange(0, 1000), 0, 6).Draw(t, "counts") {
			counts = append(counts, float64(n))
		}
		if counts == nil {
			return events.Buckets{}
		}
		return events.Buckets{Offset: rapid.Int32Range(math.MinInt32, math.MaxInt32-6).Draw(t, "offset"), Counts: counts}
	})
}

func finite() *rapid.Generator[float64] {
	return rapid.Float64().Filter(func(f float64) bool { return !math.IsNaN(f) && !math.IsInf(f, 0) })
}

func metrics() *rapid.Generator[events.Metric] {
	return rapid.Custom(func(t *rapid.T) events.Metric {
		m := events.Metric{
			Tenant: "acme", Time: rapid.Int64Range(0, math.MaxInt64).Draw(t, "time"),
			Start: rapid.Int64Range(0, math.MaxInt64).Draw(t, "start"),
			Name:  text().Draw(t, "name"), Kind: events.Kind(rapid.IntRange(0, 3).Draw(t, "kind")),
			Labels: labelSet().Draw(t, "labels"),
			Unit:   rapid.StringN(0, 5, 20).Draw(t, "unit"), Help: rapid.StringN(0, 30, 100).Draw(t, "help"),
		}
		if m.Kind >= events.Gauge && rapid.IntRange(0, 3).Draw(t, "stale") == 0 {
			m.Stale = true
			return m
		}
		if rapid.Bool().Draw(t, "plain") {
			m.Value = finite().Draw(t, "value")
			return m
		}
		if m.Kind >= events.Gauge && rapid.Bool().Draw(t, "bounds") {
			m.Histogram = drawBounded(t)
			return m
		}
		h := &events.Histogram{
			Scale: rapid.Int32Range(-10, 20).Draw(t, "scale"), ZeroThreshold: math.Abs(finite().Draw(t, "threshold")),
			ZeroCount: float64(rapid.IntRange(0, 9).Draw(t, "zeros")),
			Sum:       finite().Draw(t, "sum"), Min: finite().Draw(t, "min"), Max: math.NaN(), Positive: sides().Draw(t, "positive"),
			Negative: sides().Draw(t, "negative"),
		}
		h.Count = h.ZeroCount
		for _, n := range append(append([]float64(nil), h.Positive.Counts...), h.Negative.Counts...) {
			h.Count += n
		}
		m.Histogram = h
		return m
	})
}

// drawBounded draws a histogram with bounds of its own.
func drawBounded(t *rapid.T) *events.Histogram {
	h := &events.Histogram{Scale: events.CustomScale, Sum: finite().Draw(t, "sum"), Min: math.NaN(), Max: math.NaN()}
	h.Bounds = rapid.SliceOfNDistinct(finite(), 0, 5, func(f float64) float64 { return f }).Draw(t, "bounds")
	slices.Sort(h.Bounds)
	if first := rapid.IntRange(0, len(h.Bounds)+1).Draw(t, "first"); first <= len(h.Bounds) {
		h.Positive.Offset = int32(first)
		for range rapid.IntRange(1, len(h.Bounds)+1-first).Draw(t, "counts") {
			n := float64(rapid.IntRange(0, 1000).Draw(t, "count"))
			h.Positive.Counts, h.Count = append(h.Positive.Counts, n), h.Count+n
		}
	}
	return h
}

// same compares with NaN equal to NaN, and pointers by what they point to.
func same(a, b any) bool {
	return reflect.DeepEqual(a, b) || fmt.Sprintf("%+v", a) == fmt.Sprintf("%+v", b)
}

// Whatever the encoder writes, the decoder reads back, in an array, as lines and alone.
func TestRoundTrip(t *testing.T) {
	batch := new(events.Batch) // used again and again, as a worker does
	d := events.NewDecoder(events.Options{})
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOfN(metrics(), 1, 4).Draw(t, "metrics")
		separator := rapid.SampledFrom([]string{",", "\n"}).Draw(t, "form")
		var record []byte
		for i := range want {
			if i > 0 {
				record = append(record, separator...)
			}
			record = events.AppendMetric(record, &want[i])
		}
		if separator == "," {
			record = append(append([]byte("["), record...), ']')
		}
		if separator == "," && !stdjson.Valid(record) {
			t.Fatalf("got %s, want valid JSON", record)
		}
		d.Decode(batch, events.Source{Signal: events.Metrics, Value: record})
		if len(batch.Rejects) != 0 || len(batch.Metrics) != len(want) {
			t.Fatalf("%s: got %d metrics, rejects %+v; want %d, none", record, len(batch.Metrics), batch.Rejects, len(want))
		}
		for i := range want {
			got := batch.Metrics[i]
			gh, wh := got.Histogram, want[i].Histogram
			if (gh == nil) != (wh == nil) || gh != nil && !same(*gh, *wh) {
				t.Fatalf("%s: got histogram %+v, want %+v", record, gh, wh)
			}
			got.Histogram, want[i].Histogram = nil, nil
			if !reflect.DeepEqual(got, want[i]) {
				t.Fatalf("%s: got %+v, want %+v", record, got, want[i])
			}
		}
	})
}

func TestRoundTripSpansAndLogs(t *testing.T) {
	id := rapid.StringMatching(`([0-9a-f]{16})?`)
	optional := rapid.OneOf(rapid.Just(""), text())
	rapid.Check(t, func(t *rapid.T) {
		p := events.Span{
			Tenant: "acme", Time: rapid.Int64Range(0, math.MaxInt64).Draw(t, "time"),
			Duration: rapid.Int64Range(0, math.MaxInt64).Draw(t, "duration"),
			Service:  text().Draw(t, "service"), Name: text().Draw(t, "name"),
			Kind:       rapid.SampledFrom([]string{"server", "client", "internal", "producer", "consumer"}).Draw(t, "kind"),
			Status:     rapid.SampledFrom([]string{"ok", "error", "unset"}).Draw(t, "status"),
			StatusCode: rapid.SampledFrom([]int{0, 100, 599}).Draw(t, "code"),
			Route:      optional.Draw(t, "route"), Peer: optional.Draw(t, "peer"), TraceID: id.Draw(t, "trace"),
			SpanID: id.Draw(t, "span"), ParentID: id.Draw(t, "parent"),
			Attributes: labelSet().Draw(t, "attributes"),
		}
		b := decode(json(events.Spans, string(events.AppendSpan(nil, &p))))
		if len(b.Spans) != 1 || !reflect.DeepEqual(b.Spans[0], p) {
			t.Fatalf("got %+v %+v, want %+v", b.Spans, b.Rejects, p)
		}
		l := events.Log{
			Tenant: "acme", Time: p.Time, Service: optional.Draw(t, "log service"), Body: rapid.String().Draw(t, "body"),
			TraceID: p.TraceID, SpanID: p.SpanID,
			Severity: rapid.SampledFrom([]string{"trace", "debug", "info", "warn", "error", "fatal", "unknown"}).Draw(t, "severity"), Attributes: p.Attributes,
		}
		b = decode(json(events.Logs, string(events.AppendLog(nil, &l))))
		if len(b.Logs) != 1 || !reflect.DeepEqual(b.Logs[0], l) {
			t.Fatalf("got %+v %+v, want %+v", b.Logs, b.Rejects, l)
		}
	})
}

// The encoder must not turn broken texts or numbers into a record that breaks its neighbours.
func TestEncodeBroken(t *testing.T) {
	m := events.Metric{Tenant: "acme", Time: now, Name: "a\xffb\xc3", Value: 1}
	b := decode(json(events.Metrics, string(events.AppendMetric(nil, &m))))
	if len(b.Metrics) != 1 || b.Metrics[0].Name != "a\uFFFDb\uFFFD" {
		t.Errorf("name of invalid UTF-8: got %+v %+v, want a\uFFFDb\uFFFD", b.Metrics, b.Rejects)
	}
	for _, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		m := events.Metric{Tenant: "acme", Time: now, Name: "m", Value: v}
		b := decode(json(events.Metrics, string(events.AppendMetric(nil, &m))))
		if len(b.Rejects) != 1 || b.Rejects[0].Reason != events.ReasonNotFinite {
			t.Errorf("value %v: got %+v, want %s", v, b.Rejects, events.ReasonNotFinite)
		}
	}
}

// Floats read as strconv reads them.
func TestFloats(t *testing.T) {
	f := func(text string) {
		t.Helper()
		want, err := strconv.ParseFloat(text, 64)
		if err != nil {
			t.Fatal(err)
		}
		b := decode(json(events.Metrics, `{"tenant":"a","time":1,"name":"m","value":`+text+`}`))
		if len(b.Metrics) != 1 || math.Float64bits(b.Metrics[0].Value) != math.Float64bits(want) {
			t.Errorf("%s: got %+v %+v, want %v", text, b.Metrics, b.Rejects, want)
		}
	}
	for _, text := range []string{"0", "-0", "0.0", "-0.0e5", "1", "123456789012345678", "1234567890123456789012", "9007199254740993", "0.1", "1e22", "1e23", "1e-22", "1e-23",
		"123e20", "1.7976931348623157e308", "4.9e-324", "1e-400", "2.2250738585072011e-308", "0." + strings.Repeat("0", 30) + "1", "1e+5", "1E5", "1e00005", "0e99999"} {
		f(text)
	}
	rapid.Check(t, func(rt *rapid.T) {
		f(rapid.StringMatching(`-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,2})?`).Draw(rt, "number"))
	})
}
