package events_test

import (
	"fmt"
	"math"
	"os"
	"strings"
	"testing"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"

	"github.com/vigie-io/vigie/pkg/events"
)

// dump writes a batch in the contract's own JSON, one event a line, with its index.
func dump(b *events.Batch) string {
	var out []byte
	for i := range b.Metrics {
		out = fmt.Appendf(out, "%d ", b.MetricIndex[i])
		out = append(events.AppendMetric(out, &b.Metrics[i]), '\n')
	}
	for i := range b.Spans {
		out = fmt.Appendf(out, "%d ", b.SpanIndex[i])
		out = append(events.AppendSpan(out, &b.Spans[i]), '\n')
	}
	for i := range b.Logs {
		out = fmt.Appendf(out, "%d ", b.LogIndex[i])
		out = append(events.AppendLog(out, &b.Logs[i]), '\n')
	}
	for _, r := range b.Rejects {
		out = fmt.Appendf(out, "reject %d %s %q %s\n", r.Index, r.Reason, r.Field, r.Detail)
	}
	if b.NoTime+b.Stale+b.Coarse > 0 {
		out = fmt.Appendf(out, "no time %d, stale %d, coarse %d\n", b.NoTime, b.Stale, b.Coarse)
	}
	return string(out)
}

// The protocol's own examples decode to the golden events, and their protobuf form to the same.
func TestOTLPExamples(t *testing.T) {
	f := func(signal events.Signal, name string) {
		t.Helper()
		raw, err := os.ReadFile("testdata/otlp/" + name + ".json")
		if err != nil {
			t.Fatal(err)
		}
		fromJSON := dump(decode(events.Source{Signal: signal, Key: []byte("acme"), Value: raw, Timestamp: now}))
		golden(t, "otlp/"+name+".golden", fromJSON)
		for _, contentType := range []string{"", "application/x-protobuf", "application/protobuf; v=1"} {
			got := dump(decode(events.Source{Signal: signal, Key: []byte("acme"), Value: protobuf(t, signal, raw),
				ContentType: contentType, Timestamp: now}))
			if got != fromJSON {
				t.Errorf("%s as protobuf with content type %q: got\n%s, want\n%s", name, contentType, got, fromJSON)
			}
		}
	}
	f(events.Metrics, "metrics")
	f(events.Spans, "trace")
	f(events.Logs, "logs")
	f(events.Logs, "events")
}

func protobuf(tb testing.TB, signal events.Signal, json []byte) []byte {
	tb.Helper()
	var out []byte
	var err error
	switch signal {
	case events.Metrics:
		r := pmetricotlp.NewExportRequest()
		if err = r.UnmarshalJSON(json); err == nil {
			out, err = r.MarshalProto()
		}
	case events.Spans:
		r := ptraceotlp.NewExportRequest()
		if err = r.UnmarshalJSON(json); err == nil {
			out, err = r.MarshalProto()
		}
	default:
		r := plogotlp.NewExportRequest()
		if err = r.UnmarshalJSON(json); err == nil {
			out, err = r.MarshalProto()
		}
	}
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

// export encodes metrics built by fill, under a resource with the usual attributes.
func export(t *testing.T, fill func(sm pmetric.ScopeMetrics)) []byte {
	t.Helper()
	all := pmetric.NewMetrics()
	rm := all.ResourceMetrics().AppendEmpty()
	rm.Resource().Attributes().PutStr("service.name", "checkout")
	rm.Resource().Attributes().PutStr("service.instance.id", "i-1")
	rm.Resource().Attributes().PutStr("telemetry.sdk.name", "left out")
	fill(rm.ScopeMetrics().AppendEmpty())
	out, err := pmetricotlp.NewExportRequestFromMetrics(all).MarshalProto()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestOTLPMetrics(t *testing.T) {
	f := func(want string, fill func(m pmetric.Metric)) {
		t.Helper()
		b := decode(events.Source{Signal: events.Metrics, Key: []byte("acme#7"), Timestamp: now,
			Value: export(t, func(sm pmetric.ScopeMetrics) { fill(sm.Metrics().AppendEmpty()) })})
		got := strings.NewReplacer(`"tenant":"acme","time":"2026-11-23T10:00:00.123Z",`, "",
			`,"labels":{"instance":"i-1","service":"checkout"}`, "",
			`"instance":"i-1",`, "", `,"service":"checkout"`, "").Replace(dump(b))
		if strings.TrimSpace(got) != strings.TrimSpace(want) {
			t.Errorf("got\n%swant\n%s", got, want)
		}
	}
	at := pcommon.Timestamp(now)
	// Temporality decides between delta and cumulative; a counter gets _total and its unit.
	f(`0 {"name":"http_requests_total","kind":"delta","value":5,"unit":"{request}"}`, func(m pmetric.Metric) {
		m.SetName("http.requests")
		m.SetUnit("{request}")
		s := m.SetEmptySum()
		s.SetIsMonotonic(true)
		s.SetAggregationTemporality(pmetric.AggregationTemporalityDelta)
		p := s.DataPoints().AppendEmpty()
		p.SetTimestamp(at)
		p.SetIntValue(5)
	})
	f(`0 {"start":"1970-01-01T00:00:00.000000007Z","name":"net_io_bytes_total","kind":"cumulative","value":2.5,"unit":"By","help":"h"}`, func(m pmetric.Metric) {
		m.SetName("net.io")
		m.SetUnit("By")
		m.SetDescription("h")
		s := m.SetEmptySum()
		s.SetIsMonotonic(true)
		s.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
		p := s.DataPoints().AppendEmpty()
		p.SetTimestamp(at)
		p.SetStartTimestamp(7)
		p.SetDoubleValue(2.5)
	})
	// An up-down counter's total is a level; its change is a delta.
	f(`0 {"name":"queue","kind":"gauge","value":2}`, func(m pmetric.Metric) {
		m.SetName("queue")
		s := m.SetEmptySum()
		s.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
		p := s.DataPoints().AppendEmpty()
		p.SetTimestamp(at)
		p.SetIntValue(2)
	})
	f(`0 {"name":"queue","kind":"delta","value":-2}`, func(m pmetric.Metric) {
		m.SetName("queue")
		s := m.SetEmptySum()
		s.SetAggregationTemporality(pmetric.AggregationTemporalityDelta)
		p := s.DataPoints().AppendEmpty()
		p.SetTimestamp(at)
		p.SetIntValue(-2)
	})
	f(`reject 0 unknown_word "aggregation_temporality" want delta or cumulative, got 0`, func(m pmetric.Metric) {
		m.SetName("x")
		m.SetEmptySum().DataPoints().AppendEmpty().SetIntValue(1)
	})
	// A point that names service itself keeps its word; colliding names join their values.
	f(`0 {"name":"g","kind":"gauge","value":1,"labels":{"a_b":"1;2","service":"own"}}`, func(m pmetric.Metric) {
		m.SetName("g")
		p := m.SetEmptyGauge().DataPoints().AppendEmpty()
		p.SetTimestamp(at)
		p.SetIntValue(1)
		p.Attributes().PutStr("a_b", "2")
		p.Attributes().PutStr("service", "own")
		p.Attributes().PutStr("a.b", "1")
		p.Attributes().PutStr("empty", "")
	})
	f(`
0 {"name":"rt_seconds_bucket","kind":"cumulative","value":1,"labels":{"le":"0.5"},"unit":"s"}
0 {"name":"rt_seconds_bucket","kind":"cumulative","value":3,"labels":{"le":"1"},"unit":"s"}
0 {"name":"rt_seconds_bucket","kind":"cumulative","value":6,"labels":{"le":"+Inf"},"unit":"s"}
0 {"name":"rt_seconds_count","kind":"cumulative","value":6,"unit":"s"}
0 {"name":"rt_seconds_sum","kind":"cumulative","value":7.5,"unit":"s"}
reject 1 bad_histogram "histogram" 2 bucket counts for 0 bounds; want one more, or none of either
reject 2 bad_histogram "histogram" bucket counts add up to 2, count says 3
reject 3 bad_histogram "histogram" bounds are finite and ascending
reject 4 not_finite "value" NaN cannot be summed; leave the data point out
`, func(m pmetric.Metric) {
		m.SetName("rt")
		m.SetUnit("s")
		h := m.SetEmptyHistogram()
		h.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
		add := func(count uint64, sum float64, bounds []float64, counts []uint64) {
			p := h.DataPoints().AppendEmpty()
			p.SetTimestamp(at)
			p.SetCount(count)
			p.SetSum(sum)
			p.ExplicitBounds().FromRaw(bounds)
			p.BucketCounts().FromRaw(counts)
		}
		add(6, 7.5, []float64{0.5, 1}, []uint64{1, 2, 3})
		add(6, 7.5, nil, []uint64{1, 2})
		add(3, 7.5, []float64{0.5}, []uint64{1, 1})
		add(3, 7.5, []float64{0.5, 0.5}, []uint64{1, 1, 1})
		add(1, math.NaN(), nil, nil)
	})
	f(`
0 {"name":"rt","histogram":{"scale":3,"zero_count":1,"count":4,"sum":9,"max":5,"positive":{"offset":-2,"counts":[1,0,2]}}}
reject 1 bad_histogram "histogram" zero_count and bucket counts add up to 1, count says 2
no time 0, stale 1, coarse 1
`, func(m pmetric.Metric) {
		m.SetName("rt")
		h := m.SetEmptyExponentialHistogram()
		h.SetAggregationTemporality(pmetric.AggregationTemporalityDelta)
		p := h.DataPoints().AppendEmpty()
		p.SetTimestamp(at)
		p.SetScale(3)
		p.SetZeroCount(1)
		p.SetCount(4)
		p.SetSum(9)
		p.SetMax(5)
		p.Positive().SetOffset(-2)
		p.Positive().BucketCounts().FromRaw([]uint64{1, 0, 2})
		p = h.DataPoints().AppendEmpty()
		p.SetTimestamp(at)
		p.SetCount(2)
		p.SetZeroCount(1)
		p = h.DataPoints().AppendEmpty()
		p.SetFlags(pmetric.DefaultDataPointFlags.WithNoRecordedValue(true))
	})
	f(`
0 {"name":"rpc","kind":"gauge","value":2,"labels":{"quantile":"0.5"}}
0 {"name":"rpc_count","kind":"cumulative","value":4}
0 {"name":"rpc_sum","kind":"cumulative","value":8}
no time 0, stale 1, coarse 0
`, func(m pmetric.Metric) {
		m.SetName("rpc")
		p := m.SetEmptySummary().DataPoints().AppendEmpty()
		p.SetTimestamp(at)
		p.SetCount(4)
		p.SetSum(8)
		q := p.QuantileValues().AppendEmpty()
		q.SetQuantile(0.5)
		q.SetValue(2)
		q = p.QuantileValues().AppendEmpty()
		q.SetQuantile(0.9)
		q.SetValue(math.NaN())
	})
	// A series that has no value any more has ended, with all that a histogram or summary becomes; in an interval
	// nothing happened.
	gone := pmetric.DefaultDataPointFlags.WithNoRecordedValue(true)
	f(`0 {"name":"g","kind":"gauge","stale":true}`, func(m pmetric.Metric) {
		m.SetName("g")
		p := m.SetEmptyGauge().DataPoints().AppendEmpty()
		p.SetTimestamp(at)
		p.SetFlags(gone)
	})
	f(`0 {"name":"c_total","kind":"cumulative","stale":true}`, func(m pmetric.Metric) {
		m.SetName("c")
		sum := m.SetEmptySum()
		sum.SetIsMonotonic(true)
		sum.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
		p := sum.DataPoints().AppendEmpty()
		p.SetTimestamp(at)
		p.SetDoubleValue(math.NaN())
		p.SetFlags(gone)
	})
	f(`no time 0, stale 1, coarse 0`, func(m pmetric.Metric) {
		m.SetName("c")
		sum := m.SetEmptySum()
		sum.SetAggregationTemporality(pmetric.AggregationTemporalityDelta)
		sum.DataPoints().AppendEmpty().SetFlags(gone)
	})
	f(`
0 {"name":"rt_bucket","kind":"cumulative","stale":true,"labels":{"le":"0.5"}}
0 {"name":"rt_bucket","kind":"cumulative","stale":true,"labels":{"le":"+Inf"}}
0 {"name":"rt_count","kind":"cumulative","stale":true}
0 {"name":"rt_sum","kind":"cumulative","stale":true}
`, func(m pmetric.Metric) {
		m.SetName("rt")
		h := m.SetEmptyHistogram()
		h.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
		p := h.DataPoints().AppendEmpty()
		p.SetTimestamp(at)
		p.ExplicitBounds().FromRaw([]float64{0.5})
		p.SetFlags(gone)
	})
	f(`0 {"name":"rt","kind":"cumulative","stale":true}`, func(m pmetric.Metric) {
		m.SetName("rt")
		h := m.SetEmptyExponentialHistogram()
		h.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
		p := h.DataPoints().AppendEmpty()
		p.SetTimestamp(at)
		p.SetFlags(gone)
	})
	f(`
0 {"name":"rpc","kind":"gauge","stale":true,"labels":{"quantile":"0.9"}}
0 {"name":"rpc_count","kind":"cumulative","stale":true}
0 {"name":"rpc_sum","kind":"cumulative","stale":true}
`, func(m pmetric.Metric) {
		m.SetName("rpc")
		p := m.SetEmptySummary().DataPoints().AppendEmpty()
		p.SetTimestamp(at)
		p.SetFlags(gone)
		q := p.QuantileValues().AppendEmpty()
		q.SetQuantile(0.9)
		q.SetValue(math.NaN())
	})
	// Bad points beside a good one, and one without a time.
	f(`
5 {"name":"g_percent","kind":"gauge","value":1,"unit":"%"}
reject 0 not_finite "value" +Inf cannot be summed; leave the data point out
reject 1 too_new "time" the time is after 2262-04-11
reject 2 invalid_utf8 "labels" attribute "a" has a value that is not UTF-8
reject 3 missing_field "value" the data point has no value
reject 4 too_long "labels" attribute "a" has a value over the limit
no time 1, stale 0, coarse 0
`, func(m pmetric.Metric) {
		m.SetName("g")
		m.SetUnit("%")
		points := m.SetEmptyGauge().DataPoints()
		points.AppendEmpty().SetDoubleValue(math.Inf(1))
		p := points.AppendEmpty()
		p.SetTimestamp(math.MaxUint64)
		p.SetIntValue(1)
		p = points.AppendEmpty()
		p.SetIntValue(1)
		p.Attributes().PutStr("a", "\xff")
		points.AppendEmpty()
		p = points.AppendEmpty()
		p.SetIntValue(1)
		p.Attributes().PutStr("a", strings.Repeat("x", 4097))
		points.AppendEmpty().SetIntValue(1)
	})
}

func TestOTLPTenant(t *testing.T) {
	f := func(key, resource, want string) {
		t.Helper()
		all := ptrace.NewTraces()
		rs := all.ResourceSpans().AppendEmpty()
		if resource != "" {
			rs.Resource().Attributes().PutStr("vigie.tenant", resource)
		}
		rs.ScopeSpans().AppendEmpty().Spans().AppendEmpty().SetEndTimestamp(pcommon.Timestamp(now))
		raw, err := ptraceotlp.NewExportRequestFromTraces(all).MarshalProto()
		if err != nil {
			t.Fatal(err)
		}
		b := decode(events.Source{Signal: events.Spans, Key: []byte(key), Value: raw})
		got := ""
		switch {
		case len(b.Rejects) == 1:
			got = string(b.Rejects[0].Reason)
		case len(b.Spans) == 1:
			got = b.Spans[0].Tenant
		}
		if got != want {
			t.Errorf("key %q, resource attribute %q: got %s, want %s", key, resource, got, want)
		}
	}
	f("acme", "", "acme")
	f("acme#12", "acme", "acme")
	f("", "acme", "acme")
	f("", "", "tenant_missing")
	f("acme", "globex", "tenant_mismatch")
	f("", "a b", "tenant_invalid")
}

func TestOTLPSpansAndLogs(t *testing.T) {
	traces := ptrace.NewTraces()
	rs := traces.ResourceSpans().AppendEmpty()
	rs.Resource().Attributes().PutStr("service.name", "web")
	rs.Resource().Attributes().PutStr("deployment.environment", "old")
	rs.Resource().Attributes().PutStr("deployment.environment.name", "prod")
	rs.Resource().Attributes().PutStr("process.pid", "left out")
	spans := rs.ScopeSpans().AppendEmpty().Spans()
	p := spans.AppendEmpty()
	p.SetName("GET /pay")
	p.SetKind(ptrace.SpanKindClient)
	p.Status().SetCode(ptrace.StatusCodeError)
	p.SetStartTimestamp(pcommon.Timestamp(now - 12_000_000))
	p.SetEndTimestamp(pcommon.Timestamp(now))
	p.SetTraceID([16]byte{0xAB, 15: 1})
	p.Attributes().PutStr("http.route", "/pay")
	p.Attributes().PutInt("http.response.status_code", 503)
	p.Attributes().PutStr("server.address", "db")
	backwards := spans.AppendEmpty()
	backwards.SetStartTimestamp(2)
	backwards.SetEndTimestamp(1)
	raw, err := ptraceotlp.NewExportRequestFromTraces(traces).MarshalProto()
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "spans.golden", dump(decode(events.Source{Signal: events.Spans, Key: []byte("acme"), Value: raw})))

	logs := plog.NewLogs()
	records := logs.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty().LogRecords()
	for n := range 3 {
		l := records.AppendEmpty()
		l.SetObservedTimestamp(pcommon.Timestamp(now))
		l.SetSeverityNumber(plog.SeverityNumber(n * 8))
		l.SetSeverityText("CRITICAL")
		l.Body().SetStr("text")
		l.Attributes().PutBool("yes", true)
	}
	records.At(2).Body().SetEmptyMap().PutInt("n", 1)
	if raw, err = plogotlp.NewExportRequestFromLogs(logs).MarshalProto(); err != nil {
		t.Fatal(err)
	}
	golden(t, "logs.golden", dump(decode(events.Source{Signal: events.Logs, Key: []byte("acme"), Value: raw})))
}

// An OTLP request is found wherever a JSON event may stand.
func TestOTLPAmongLines(t *testing.T) {
	request := `{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"1795428000123000000","body":{"stringValue":"a"}},{"timeUnixNano":"1","body":{"stringValue":"b"}}]}]}]}`
	event := `{"tenant":"acme","time":1795428000,"body":"c"}`
	b := decode(events.Source{Signal: events.Logs, Key: []byte("acme"),
		Value: []byte(request + "\n" + event + "\n" + `{"resourceSpans":[]}` + "\n" + `{"resourceLogs":7}` + "\n" + event)})
	var bodies []string
	for _, l := range b.Logs {
		bodies = append(bodies, l.Body)
	}
	got := fmt.Sprint(bodies, b.LogIndex, b.Events)
	if want := "[a b c c] [0 1 2 5] 6"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if len(b.Rejects) != 2 || b.Rejects[0].Reason != events.ReasonWrongSignal ||
		b.Rejects[1].Reason != events.ReasonBadOTLP || b.Rejects[1].Index != 4 {
		t.Errorf("got rejects %+v, want %s at 3 and %s at 4", b.Rejects, events.ReasonWrongSignal, events.ReasonBadOTLP)
	}
}
