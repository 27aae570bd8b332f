package ingest_test

import (
	"bytes"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/vigie-io/vigie/internal/ingest"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
)

const (
	protobuf = "application/x-protobuf"
	jsonType = "application/json"
)

// message is what the three export requests of pdata have in common.
type message interface {
	MarshalProto() ([]byte, error)
	MarshalJSON() ([]byte, error)
}

// exportMetrics has n gauge points in resources of 10; bad says which have a time in the year 3000.
func exportMetrics(n int, bad func(int) bool) message {
	all := pmetric.NewMetrics()
	var points pmetric.NumberDataPointSlice
	for i := range n {
		if i%10 == 0 {
			r := all.ResourceMetrics().AppendEmpty()
			r.Resource().Attributes().PutStr("service.name", fmt.Sprintf("service-%d", i/10))
			m := r.ScopeMetrics().AppendEmpty().Metrics().AppendEmpty()
			m.SetName("level")
			points = m.SetEmptyGauge().DataPoints()
		}
		p := points.AppendEmpty()
		p.SetDoubleValue(float64(i))
		p.SetTimestamp(timestamp(bad(i)))
		p.Attributes().PutStr("padding", strings.Repeat("x", 50))
	}
	return pmetricotlp.NewExportRequestFromMetrics(all)
}

func exportSpans(n int, bad func(int) bool) message {
	all := ptrace.NewTraces()
	var spans ptrace.SpanSlice
	for i := range n {
		if i%10 == 0 {
			r := all.ResourceSpans().AppendEmpty()
			r.Resource().Attributes().PutStr("service.name", fmt.Sprintf("service-%d", i/10))
			spans = r.ScopeSpans().AppendEmpty().Spans()
		}
		s := spans.AppendEmpty()
		s.SetName(fmt.Sprintf("op %d", i))
		s.SetTraceID(pcommon.TraceID{1, 2, 3})
		s.SetSpanID(pcommon.SpanID{byte(i), 1})
		end := timestamp(bad(i))
		s.SetStartTimestamp(end - 1e6)
		s.SetEndTimestamp(end)
	}
	return ptraceotlp.NewExportRequestFromTraces(all)
}

func exportLogs(n int, bad func(int) bool) message {
	all := plog.NewLogs()
	var logs plog.LogRecordSlice
	for i := range n {
		if i%10 == 0 {
			r := all.ResourceLogs().AppendEmpty()
			r.Resource().Attributes().PutStr("service.name", fmt.Sprintf("service-%d", i/10))
			logs = r.ScopeLogs().AppendEmpty().LogRecords()
		}
		l := logs.AppendEmpty()
		l.SetTimestamp(timestamp(bad(i)))
		l.SetSeverityText("INFO")
		l.Body().SetStr(fmt.Sprintf("line %d", i))
	}
	return plogotlp.NewExportRequestFromLogs(all)
}

func timestamp(bad bool) pcommon.Timestamp {
	if bad {
		return pcommon.NewTimestampFromTime(time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC))
	}
	return pcommon.NewTimestampFromTime(now.Add(-time.Second))
}

func never(int) bool { return false }

var otlpSignals = []struct {
	path   string
	signal events.Signal
	export func(int, func(int) bool) message
}{
	{"/v1/metrics", events.Metrics, exportMetrics},
	{"/v1/traces", events.Spans, exportSpans},
	{"/v1/logs", events.Logs, exportLogs},
}

func encode(t testing.TB, m message, contentType string) []byte {
	t.Helper()
	marshal := m.MarshalProto
	if contentType == jsonType {
		marshal = m.MarshalJSON
	}
	body, err := marshal()
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func count(batches []*events.Batch) (n int) {
	for _, b := range batches {
		n += b.Events
	}
	return n
}

// partial reads an export response of any signal: rejected items and message.
func partial(t testing.TB, signal events.Signal, w *httptest.ResponseRecorder) (rejected int64, message string) {
	t.Helper()
	json := w.Header().Get("Content-Type") == jsonType
	var err error
	read := func(unmarshalJSON, unmarshalProto func([]byte) error) {
		if json {
			err = unmarshalJSON(w.Body.Bytes())
		} else {
			err = unmarshalProto(w.Body.Bytes())
		}
	}
	switch signal {
	case events.Metrics:
		r := pmetricotlp.NewExportResponse()
		read(r.UnmarshalJSON, r.UnmarshalProto)
		rejected, message = r.PartialSuccess().RejectedDataPoints(), r.PartialSuccess().ErrorMessage()
	case events.Spans:
		r := ptraceotlp.NewExportResponse()
		read(r.UnmarshalJSON, r.UnmarshalProto)
		rejected, message = r.PartialSuccess().RejectedSpans(), r.PartialSuccess().ErrorMessage()
	case events.Logs:
		r := plogotlp.NewExportResponse()
		read(r.UnmarshalJSON, r.UnmarshalProto)
		rejected, message = r.PartialSuccess().RejectedLogRecords(), r.PartialSuccess().ErrorMessage()
	}
	if err != nil {
		t.Fatalf("response %q: %v", w.Body, err)
	}
	return rejected, message
}

func TestOTLPGood(t *testing.T) {
	for _, s := range otlpSignals {
		for _, contentType := range []string{protobuf, jsonType} {
			r := newRig(t, nil)
			body := encode(t, s.export(25, never), contentType)
			w := r.send("POST", s.path, gzipped(body), "Content-Type", contentType, "Content-Encoding", "gzip")
			if w.Code != 200 || w.Header().Get("Content-Type") != contentType {
				t.Fatalf("%s %s: got %d %s %q, want 200 in the same encoding", s.path, contentType, w.Code, w.Header(), w.Body)
			}
			if rejected, message := partial(t, s.signal, w); rejected != 0 || message != "" {
				t.Errorf("%s %s: got %d rejected, %q, want no partial success", s.path, contentType, rejected, message)
			}
			records := r.log.take()
			if len(records) != 1 || contentType == protobuf && !bytes.Equal(records[0].Value, body) {
				t.Fatalf("%s %s: got %d records, want one, protobuf as it came", s.path, contentType, len(records))
			}
			if batches := r.decode(s.signal, records); count(batches) != 25 {
				t.Errorf("%s %s: got %d events in the log, want 25", s.path, contentType, count(batches))
			}
			for _, h := range records[0].Headers {
				if h.Key == ingest.HeaderContentType && string(h.Value) != protobuf {
					t.Errorf("%s %s: forwarded as %s, want protobuf", s.path, contentType, h.Value)
				}
			}
		}
	}
}

func TestOTLPPartialSuccess(t *testing.T) {
	for _, s := range otlpSignals {
		for _, contentType := range []string{protobuf, jsonType} {
			r := newRig(t, nil)
			body := encode(t, s.export(25, func(i int) bool { return i%10 == 3 }), contentType)
			w := r.send("POST", s.path, body, "Content-Type", contentType)
			rejected, message := partial(t, s.signal, w)
			if w.Code != 200 || rejected != 3 || !strings.Contains(message, "13: too_new") {
				t.Errorf("%s %s: got %d, %d rejected, %q, want 200, 3, and which", s.path, contentType, w.Code, rejected, message)
			}
			batches := r.decode(s.signal, r.log.take())
			if count(batches) != 22 {
				t.Errorf("%s %s: got %d events in the log, want 22", s.path, contentType, count(batches))
			}
			for _, b := range batches {
				for _, m := range b.Metrics {
					if int(m.Value)%10 == 3 {
						t.Errorf("point %v is in the log, want it left out", m.Value)
					}
				}
			}
		}
	}
}

func TestOTLPErrors(t *testing.T) {
	bad := encode(t, exportMetrics(3, func(int) bool { return true }), protobuf)
	f := func(path string, body []byte, contentType string, httpStatus, code int, header ...string) {
		t.Helper()
		r := newRig(t, nil)
		w := r.send("POST", path, body, append([]string{"Content-Type", contentType}, header...)...)
		var s status.Status
		var err error
		if w.Header().Get("Content-Type") == jsonType {
			err = protojson.Unmarshal(w.Body.Bytes(), &s)
		} else {
			err = proto.Unmarshal(w.Body.Bytes(), &s)
		}
		if w.Code != httpStatus || err != nil || int(s.Code) != code || s.Message == "" || len(r.log.take()) != 0 {
			t.Errorf("%s: got %d %v (%v), want %d, code %d, nothing published", path, w.Code, &s, err, httpStatus, code)
		}
		if contentType == jsonType && w.Header().Get("Content-Type") != jsonType {
			t.Errorf("%s: got %s, want the request's encoding", path, w.Header().Get("Content-Type"))
		}
	}
	f("/v1/metrics", []byte("\xff\xff\xff"), protobuf, 400, 3)
	f("/v1/metrics", []byte("{"), jsonType, 400, 3)
	f("/v1/traces", []byte(`{"resourceSpans":7}`), jsonType, 400, 3)
	f("/v1/logs", []byte(`{"resourceMetrics":[]}`), jsonType, 400, 3)
	f("/v1/metrics", bad, protobuf, 400, 3)
	f("/v1/metrics", []byte(goodMetric), jsonType, 400, 3) // Vigie's own JSON has its own door
	f("/v1/metrics", bad, "text/plain", 415, 3)
	f("/v1/metrics", bad, protobuf, 415, 3, "Content-Encoding", "br")
	f("/v1/metrics", bad, protobuf, 401, 16, "Authorization", "Bearer nobody")
	f("/v1/logs", []byte("{}"), jsonType, 403, 7, "Authorization", "Bearer r")
}

func TestOTLPRetry(t *testing.T) {
	body := encode(t, exportMetrics(20, never), protobuf)
	r := newRig(t, func(o *ingest.Options) {
		o.Limits = limited(func(c *tenants.Config) { c.Defaults.EventsPerSecond, c.Defaults.Burst = 10, 2*time.Second })
	})
	r.log.err = ingest.ErrUnavailable
	if w := r.send("POST", "/v1/metrics", body, "Content-Type", protobuf); w.Code != 503 || w.Header().Get("Retry-After") != "5" {
		t.Errorf("Kafka down: got %d %s, want 503 with Retry-After", w.Code, w.Header())
	}
	if w := r.send("POST", "/v1/metrics", body, "Content-Type", protobuf); w.Code != 429 || w.Header().Get("Retry-After") != "2" {
		t.Errorf("too fast: got %d %s, want 429 with Retry-After 2", w.Code, w.Header())
	}
}

func TestOTLPEmpty(t *testing.T) {
	r := newRig(t, nil)
	for contentType, body := range map[string]string{protobuf: "", jsonType: "{}"} {
		if w := r.send("POST", "/v1/traces", []byte(body), "Content-Type", contentType); w.Code != 200 || len(r.log.take()) != 0 {
			t.Errorf("%s: got %d %q, want 200 and no record", contentType, w.Code, w.Body)
		}
	}
}

func TestOTLPCutIntoRecords(t *testing.T) {
	for _, s := range otlpSignals {
		for _, shards := range []int{1, 4} {
			r := newRig(t, func(o *ingest.Options) {
				o.Config.RecordTarget, o.Config.RecordMax = 2<<10, 2<<10
				o.Limits = limited(func(c *tenants.Config) { c.Overrides = map[tenants.ID]tenants.Limits{"acme": {Shards: shards}} })
			})
			w := r.send("POST", s.path, encode(t, s.export(500, never), protobuf), "Content-Type", protobuf)
			if w.Code != 200 {
				t.Fatalf("%s: got %d %q, want 200", s.path, w.Code, w.Body)
			}
			records := r.log.take()
			keys := map[string]bool{}
			for _, record := range records {
				if keys[string(record.Key)] = true; len(record.Value) > 2<<10 {
					t.Errorf("%s: record of %d bytes, want at most 2 KiB", s.path, len(record.Value))
				}
			}
			if n := count(r.decode(s.signal, records)); n != 500 || len(keys) != shards {
				t.Errorf("%s, %d shards: got %d events in %d records under %d keys, want 500", s.path, shards, n, len(records), len(keys))
			}
		}
	}
	// One point that fits no record: nothing is accepted.
	r := newRig(t, func(o *ingest.Options) { o.Config.RecordTarget, o.Config.RecordMax = 64, 64 })
	if w := r.send("POST", "/v1/metrics", encode(t, exportMetrics(2, never), protobuf), "Content-Type", protobuf); w.Code != 413 || len(r.log.take()) != 0 {
		t.Errorf("got %d %q, want 413 and nothing published", w.Code, w.Body)
	}
}

func BenchmarkOTLP(b *testing.B) {
	for _, s := range otlpSignals {
		b.Run(string(s.signal), func(b *testing.B) {
			r := newRig(b, func(o *ingest.Options) {
				o.Limits = limited(func(c *tenants.Config) { c.Defaults.BytesPerSecond, c.Defaults.EventsPerSecond = 1<<50, 1<<50 })
				o.Publisher = discard{}
			})
			body := encode(b, s.export(1000, never), protobuf)
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if w := r.send("POST", s.path, body, "Content-Type", protobuf); w.Code != 200 {
					b.Fatal(w.Body)
				}
			}
			b.ReportMetric(1000*float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
