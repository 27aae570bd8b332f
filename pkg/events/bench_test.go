//go:build unix

package events_test

import (
	stdjson "encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"

	"github.com/vigie-io/vigie/pkg/events"
)

// sample is one event of the size and shape of the performance reference: five labels, about 230 bytes.
func sample(i int) string {
	return fmt.Sprintf(`{"tenant":"acme","time":"2026-11-23T10:00:%02d.%03dZ","name":"http_request_duration_seconds","value":%.6f,`+
		`"labels":{"service":"checkout-%d","route":"/api/v1/pay/%d","method":"POST","status":"200","instance":"checkout-7d9f8b6c5d-%d"}}`,
		i%60, i%1000, 0.001*float64(i%977)+0.000123, i%20, i%50, i%100)
}

// cpu is the processor time this process has used. Wall time says little on a machine with neighbours.
func cpu(tb testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkDecode(b *testing.B) {
	var batch events.Batch
	d := events.NewDecoder(events.Options{})
	key := []byte("acme")
	run := func(name string, signal events.Signal, n int, records ...[]byte) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(records[0])))
			start := cpu(b)
			for i := 0; b.Loop(); i++ {
				d.Decode(&batch, events.Source{Signal: signal, Key: key, Value: records[i%len(records)], Timestamp: now})
				if len(batch.Rejects) > 0 {
					b.Fatalf("got rejects %+v, want none", batch.Rejects)
				}
			}
			b.ReportMetric(float64(cpu(b)-start)/float64(b.N*n), "cpu-ns/event")
		})
	}
	var singles [][]byte
	var many []string
	for i := range 1024 {
		singles = append(singles, []byte(sample(i)))
		many = append(many, sample(i))
	}
	run("json/object", events.Metrics, 1, singles...)
	run("json/array-1000", events.Metrics, 1000, []byte("["+strings.Join(many[:1000], ",")+"]"))
	run("json/lines-1000", events.Metrics, 1000, []byte(strings.Join(many[:1000], "\n")))
	run("json/span", events.Spans, 1, []byte(`{"tenant":"acme","time":1795428000123456789,"service":"checkout","name":"POST /pay","duration":0.012345,"kind":"server","status":"ok","status_code":200,`+
		`"route":"/pay","trace_id":"5b8efff798038103d269b633813fc60c","span_id":"eee19b7ec3c1b174","attributes":{"user.id":"u-17","net.host":"a.example"}}`))
	run("json/log", events.Logs, 1, []byte(`{"tenant":"acme","time":1795428000123456789,"service":"checkout","severity":"WARN","body":"payment of order 17 took \"long\": 812 ms","attributes":{"order":"17"}}`))
	run("otlp/gauge-1000", events.Metrics, 1000, otlpGauges(b, 1000))
	run("otlp/gauge-1", events.Metrics, 1, otlpGauges(b, 1))
}

// BenchmarkLook is what an event costs that is known by its bytes.
func BenchmarkLook(b *testing.B) {
	d := events.NewDecoder(events.Options{})
	run := func(name string, record func(i int) []byte) {
		b.Run(name, func(b *testing.B) {
			var batch events.Batch
			var looker events.Looker
			var looks [32]events.Look
			repeats := events.NewRepeats(1, 1024)
			var sources []events.Source
			for i := range 1024 {
				sources = append(sources,
					events.Source{Signal: events.Metrics, Key: []byte("acme"), Value: record(i),
						Timestamp: now, Repeats: repeats})
				if d.Decode(&batch, sources[i]); len(batch.Metrics) > 0 {
					repeats.Learn(batch.Metrics[0].Digest, uint32(i))
				}
			}
			b.ReportAllocs()
			start := cpu(b)
			for n := 0; b.Loop(); n += len(looks) {
				for i := range looks {
					d.Begin(&looker, &looks[i], &sources[(n+i)%len(sources)])
				}
				if looker.Recognize(looks[:]); !looks[0].Known() {
					b.Fatal("an event is not known")
				}
			}
			b.ReportMetric(float64(cpu(b)-start)/float64(b.N*len(looks)), "cpu-ns/event")
		})
	}
	run("json", func(i int) []byte { return []byte(sample(i)) })
	run("protobuf", func(i int) []byte {
		var batch events.Batch
		d.Decode(&batch, events.Source{Signal: events.Metrics, Key: []byte("acme"), Value: []byte(sample(i)), Timestamp: now})
		return events.AppendMetricProtobuf(nil, &batch.Metrics[0])
	})
}

func otlpGauges(b *testing.B, n int) []byte {
	all := pmetric.NewMetrics()
	rm := all.ResourceMetrics().AppendEmpty()
	rm.Resource().Attributes().PutStr("service.name", "checkout")
	m := rm.ScopeMetrics().AppendEmpty().Metrics().AppendEmpty()
	m.SetName("http.server.active_requests")
	points := m.SetEmptyGauge().DataPoints()
	for i := range n {
		p := points.AppendEmpty()
		p.SetTimestamp(pcommon.Timestamp(now))
		p.SetDoubleValue(float64(i))
		p.Attributes().PutStr("http.route", fmt.Sprintf("/api/v1/pay/%d", i%50))
		p.Attributes().PutStr("http.request.method", "POST")
		p.Attributes().PutStr("server.address", "checkout-7d9f8b6c5d")
		p.Attributes().PutInt("http.response.status_code", 200)
	}
	raw, err := pmetricotlp.NewExportRequestFromMetrics(all).MarshalProto()
	if err != nil {
		b.Fatal(err)
	}
	return raw
}

// BenchmarkAgainstStandardLibrary decodes the same records, in turn, with this package and with
// encoding/json into the equivalent struct, and reports the ratio of their times.
func BenchmarkAgainstStandardLibrary(b *testing.B) {
	type event struct {
		Tenant string            `json:"tenant"`
		Time   time.Time         `json:"time"`
		Name   string            `json:"name"`
		Value  float64           `json:"value"`
		Labels map[string]string `json:"labels"`
	}
	var records [][]byte
	for i := range 256 {
		records = append(records, []byte(sample(i)))
	}
	var batch events.Batch
	d := events.NewDecoder(events.Options{})
	var ours, theirs time.Duration
	for b.Loop() {
		start := cpu(b)
		for _, r := range records {
			d.Decode(&batch, events.Source{Signal: events.Metrics, Value: r})
		}
		middle := cpu(b)
		for _, r := range records {
			var e event
			if err := stdjson.Unmarshal(r, &e); err != nil {
				b.Fatal(err)
			}
		}
		ours += middle - start
		theirs += cpu(b) - middle
	}
	n := float64(b.N * len(records))
	b.ReportMetric(float64(ours.Nanoseconds())/n, "cpu-ns/event")
	b.ReportMetric(float64(theirs.Nanoseconds())/n, "std-cpu-ns/event")
	b.ReportMetric(float64(theirs)/float64(ours), "ratio")
}

func BenchmarkAppendMetric(b *testing.B) {
	batch := decode(json(events.Metrics, sample(7)))
	dst := make([]byte, 0, 512)
	b.ReportAllocs()
	for b.Loop() {
		dst = events.AppendMetric(dst[:0], &batch.Metrics[0])
	}
}

// Fields in an order that does not come again leave nothing behind.
func TestStrangeOrdersAreNotLearnt(t *testing.T) {
	var batch events.Batch
	d := events.NewDecoder(events.Options{})
	random := rand.New(rand.NewPCG(1, 2))
	fields := []string{`"name":"m"`, `"value":1`, `"time":1764000000000`, `"unit":"s"`, `"service":"shop"`, `"pod":"p"`,
		`"zone":"z"`, `"route":"r"`, `"host":"h"`}
	strange := func() []byte {
		random.Shuffle(len(fields), func(i, j int) { fields[i], fields[j] = fields[j], fields[i] })
		return []byte("{" + strings.Join(fields, ",") + "}")
	}
	values := make([][]byte, 2000)
	for i := range values {
		values[i] = strange()
	}
	n := 0
	per := testing.AllocsPerRun(1, func() {
		for _, value := range values {
			d.Decode(&batch, events.Source{Signal: events.Metrics, Key: []byte("acme"), Value: value})
			n += len(batch.Metrics)
		}
	}) / float64(len(values))
	if n != 2*len(values) {
		t.Fatalf("got %d events, want %d twice", n, len(values))
	}
	if per > 4 {
		t.Errorf("got %.2f allocations an event, want at most 4", per)
	}
}

// The promise of the package: in the steady state decoding JSON allocates nothing.
func TestDecodeDoesNotAllocate(t *testing.T) {
	var batch events.Batch
	d := events.NewDecoder(events.Options{})
	key := []byte("acme#3")
	f := func(signal events.Signal, value string) {
		t.Helper()
		src := events.Source{Signal: signal, Key: key, Value: []byte(value), ContentType: "application/json"}
		if n := testing.AllocsPerRun(100, func() { d.Decode(&batch, src) }); n != 0 || len(batch.Rejects) > 0 {
			t.Errorf("%.60s: got %v allocations and rejects %+v, want none", value, n, batch.Rejects)
		}
	}
	f(events.Metrics, sample(1))
	f(events.Metrics, "["+sample(1)+","+sample(2)+"]")
	f(events.Metrics, `{"time":1,"name":"m","histogram":{"scale":6,"count":1,"sum":1,"positive":{"offset":-3,"counts":[1]}},"labels":{"z":"\u00e9","a":"é"}}`)
	f(events.Spans, `{"time":1,"service":"s","name":"n","duration":"12ms","kind":"CLIENT","x":{"a":1},"attributes":{"b":true}}`)
	f(events.Logs, `{"time":1,"body":"a\nb","severity":"Warning","user":"u"}`)
	b := decode(events.Source{Signal: events.Metrics, Key: key, Value: []byte(sample(1) + with(`"unit":"s","tenant":"acme"`))})
	for i := range b.Metrics {
		src := events.Source{Signal: events.Metrics, Key: key, Value: events.AppendMetricProtobuf(nil, &b.Metrics[i]),
			ContentType: events.ContentTypeProtobuf}
		if n := testing.AllocsPerRun(100, func() { d.Decode(&batch, src) }); n != 0 || len(batch.Metrics) != 1 {
			t.Errorf("%x: got %v allocations and rejects %+v, want none", src.Value, n, batch.Rejects)
		}
	}
}
