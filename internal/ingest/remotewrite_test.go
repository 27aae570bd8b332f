package ingest_test

import (
	"fmt"
	"maps"
	"math"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"

	"github.com/vigie-io/vigie/internal/ingest"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
)

const (
	typeV1 = "application/x-protobuf;proto=prometheus.WriteRequest"
	typeV2 = "application/x-protobuf;proto=io.prometheus.write.v2.Request"
)

var stale = math.Float64frombits(value.StaleNaN)

func pairs(s ...string) (out []prompb.Label) {
	for i := 0; i < len(s); i += 2 {
		out = append(out, prompb.Label{Name: s[i], Value: s[i+1]})
	}
	return out
}

func at(d time.Duration) int64 { return now.Add(d).UnixMilli() }

func (r *rig) write1(request *prompb.WriteRequest) *httptest.ResponseRecorder {
	r.Helper()
	body, err := request.Marshal()
	if err != nil {
		r.Fatal(err)
	}
	return r.send("POST", "/api/v1/write", snappy.Encode(nil, body), "Content-Type", "application/x-protobuf", "Content-Encoding", "snappy")
}

func (r *rig) write2(request *writev2.Request) *httptest.ResponseRecorder {
	r.Helper()
	body, err := request.Marshal()
	if err != nil {
		r.Fatal(err)
	}
	return r.send("POST", "/api/v1/write", snappy.Encode(nil, body), "Content-Type", typeV2, "Content-Encoding", "snappy")
}

// lines shows metrics one a line, sorted.
func lines(all []events.Metric) string {
	var out []string
	for _, m := range all {
		var ls []string
		for _, l := range m.Labels {
			ls = append(ls, l.Name+"="+l.Value)
		}
		text := fmt.Sprintf("%s{%s} %s %v", m.Name, strings.Join(ls, ","), m.Kind, m.Value)
		if m.Stale {
			text = fmt.Sprintf("%s{%s} %s stale", m.Name, strings.Join(ls, ","), m.Kind)
		}
		if m.Histogram != nil {
			text = fmt.Sprintf("%s{%s} %s histogram %v", m.Name, strings.Join(ls, ","), m.Kind, *m.Histogram)
		}
		out = append(out, fmt.Sprintf("%s @%s", text, now.Sub(time.Unix(0, m.Time))))
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

func TestRemoteWrite1(t *testing.T) {
	r := newRig(t, nil)
	w := r.write1(&prompb.WriteRequest{Timeseries: []prompb.TimeSeries{
		{Labels: pairs("__name__", "up", "job", "api", "empty", ""), Samples: []prompb.Sample{{Value: 1, Timestamp: at(-time.Second)}, {Value: 0, Timestamp: at(0)}}},
		{Labels: pairs("zone", "é\"\\", "__name__", "http_requests_total"), Samples: []prompb.Sample{{Value: 17, Timestamp: at(0)}}},
		{Labels: pairs("__name__", "rpc_seconds_bucket", "le", "+Inf"), Samples: []prompb.Sample{{Value: 3, Timestamp: at(0)}}},
		{Labels: pairs("__name__", "gone"), Samples: []prompb.Sample{{Value: stale, Timestamp: at(0)}}},
		{Labels: pairs("__name__", "idle", "quantile", "0.99"), Samples: []prompb.Sample{{Value: math.NaN(), Timestamp: at(0)}},
			Exemplars: []prompb.Exemplar{{Labels: pairs("trace_id", "x"), Value: 1}}},
	}})
	if w.Code != 204 || w.Header().Get("X-Prometheus-Remote-Write-Samples-Written") != "" {
		t.Fatalf("got %d %s %s, want 204 without the headers of 2.0", w.Code, w.Body, w.Header())
	}
	want := `gone{} gauge stale @0s
http_requests_total{zone=é"\} cumulative 17 @0s
rpc_seconds_bucket{le=+Inf} cumulative 3 @0s
up{job=api} gauge 0 @0s
up{job=api} gauge 1 @1s`
	if got := lines(r.decodedMetrics()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if err := testutil.GatherAndCompare(r.reg, strings.NewReader(`
# HELP vigie_ingest_skipped_total Samples without a value, exemplars, and events without a time, by kind.
# TYPE vigie_ingest_skipped_total counter
vigie_ingest_skipped_total{kind="exemplar",tenant="acme"} 1
vigie_ingest_skipped_total{kind="nan",tenant="acme"} 1
`), "vigie_ingest_skipped_total"); err != nil {
		t.Error(err)
	}
}

// v2 builds a request of remote write 2.0.
type v2 struct {
	symbols writev2.SymbolsTable
	request writev2.Request
}

func newV2() *v2 { return &v2{symbols: writev2.NewSymbolTable()} }

func (b *v2) add(ls []string, ts writev2.TimeSeries, help, unit string) *v2 {
	ts.LabelsRefs = b.symbols.SymbolizeLabels(labels.FromStrings(ls...), nil)
	ts.Metadata.HelpRef, ts.Metadata.UnitRef = b.symbols.Symbolize(help), b.symbols.Symbolize(unit)
	b.request.Timeseries = append(b.request.Timeseries, ts)
	return b
}

func (b *v2) done() *writev2.Request {
	b.request.Symbols = b.symbols.Symbols()
	return &b.request
}

func sample(v float64) []writev2.Sample {
	return []writev2.Sample{{Value: v, Timestamp: at(0), StartTimestamp: at(-time.Minute)}}
}

func TestRemoteWrite2(t *testing.T) {
	r := newRig(t, nil)
	typed := func(kind writev2.Metadata_MetricType, v float64) writev2.TimeSeries {
		return writev2.TimeSeries{Samples: sample(v), Metadata: writev2.Metadata{Type: kind}}
	}
	request := newV2().
		add([]string{"__name__", "jobs", "job", "x"}, typed(writev2.Metadata_METRIC_TYPE_COUNTER, 5), "Jobs done.", "jobs").
		add([]string{"__name__", "odd_total"}, typed(writev2.Metadata_METRIC_TYPE_GAUGE, 6), "", "").
		add([]string{"__name__", "s", "quantile", "0.5"}, typed(writev2.Metadata_METRIC_TYPE_SUMMARY, 7), "", "").
		add([]string{"__name__", "s_sum"}, typed(writev2.Metadata_METRIC_TYPE_SUMMARY, 8), "", "").
		add([]string{"__name__", "untyped_total"}, typed(writev2.Metadata_METRIC_TYPE_UNSPECIFIED, 9), "", "").
		add([]string{"__name__", "gone"}, typed(writev2.Metadata_METRIC_TYPE_GAUGE, stale), "", "").
		add([]string{"__name__", "only_exemplars"}, writev2.TimeSeries{Exemplars: []writev2.Exemplar{{Value: 1}}}, "", "").
		done()
	w := r.write2(request)
	if w.Code != 204 {
		t.Fatalf("got %d %s, want 204", w.Code, w.Body)
	}
	confirmed(t, w, 6, 0)
	got := r.decodedMetrics()
	want := `gone{} gauge stale @0s
jobs{job=x} cumulative 5 @0s
odd_total{} gauge 6 @0s
s_sum{} cumulative 8 @0s
s{quantile=0.5} gauge 7 @0s
untyped_total{} cumulative 9 @0s`
	if lines(got) != want {
		t.Errorf("got\n%s\nwant\n%s", lines(got), want)
	}
	for _, m := range got {
		if m.Start != now.Add(-time.Minute).UnixNano() {
			t.Errorf("%s: got start %d, want a minute before", m.Name, m.Start)
		}
		if m.Name == "jobs" && (m.Help != "Jobs done." || m.Unit != "jobs") {
			t.Errorf("got help %q, unit %q, want those sent", m.Help, m.Unit)
		}
	}
	r.write2(request)
	for _, m := range r.decodedMetrics() {
		if m.Help != "" {
			t.Errorf("%s: help came again at once, want it seldom", m.Name)
		}
	}
}

func confirmed(t *testing.T, w *httptest.ResponseRecorder, samples, histograms int) {
	t.Helper()
	want := fmt.Sprint(samples, histograms, 0)
	h := w.Header()
	got := strings.Join([]string{h.Get("X-Prometheus-Remote-Write-Samples-Written"),
		h.Get("X-Prometheus-Remote-Write-Histograms-Written"), h.Get("X-Prometheus-Remote-Write-Exemplars-Written")}, " ")
	if got != want {
		t.Errorf("written samples, histograms, exemplars: got %s, want %s", got, want)
	}
}

// Metadata of 1.0 comes in requests of its own and belongs to families.
func TestRemoteWriteMetadata1(t *testing.T) {
	r := newRig(t, nil)
	w := r.write1(&prompb.WriteRequest{Metadata: []prompb.MetricMetadata{
		{MetricFamilyName: "rpc_seconds", Type: prompb.MetricMetadata_HISTOGRAM, Help: "Time of calls.", Unit: "seconds"},
		{MetricFamilyName: "level", Type: prompb.MetricMetadata_COUNTER, Help: strings.Repeat("x", 5000)},
	}})
	if w.Code != 204 || len(r.log.take()) != 0 {
		t.Fatalf("got %d %s, want 204 and no record", w.Code, w.Body)
	}
	r.write1(&prompb.WriteRequest{Timeseries: []prompb.TimeSeries{
		{Labels: pairs("__name__", "rpc_seconds_count"), Samples: []prompb.Sample{{Value: 3, Timestamp: at(0)}}},
		{Labels: pairs("__name__", "level"), Samples: []prompb.Sample{{Value: 3, Timestamp: at(0)}}},
	}})
	for _, m := range r.decodedMetrics() {
		switch m.Name {
		case "rpc_seconds_count":
			if m.Help != "Time of calls." || m.Unit != "seconds" || m.Kind != events.Cumulative {
				t.Errorf("got %q %q %s, want the family's help and unit", m.Help, m.Unit, m.Kind)
			}
		case "level":
			// The type would be known to this process only: the name alone decides. Too long a help is left out.
			if m.Help != "" || m.Kind != events.Gauge {
				t.Errorf("got %q %s, want no help and a gauge", m.Help, m.Kind)
			}
		}
	}
}

// A native histogram must say the same on both sides, bucket by bucket.
func TestRemoteWriteHistograms(t *testing.T) {
	ints := &histogram.Histogram{Schema: 3, ZeroThreshold: 1e-9, ZeroCount: 2, Count: 19, Sum: 12.5,
		PositiveSpans: []histogram.Span{{Offset: -5, Length: 2}, {Offset: 3, Length: 3}}, PositiveBuckets: []int64{1, 2, -1, 3, -4},
		NegativeSpans: []histogram.Span{{Offset: 2, Length: 1}}, NegativeBuckets: []int64{5}}
	floats := ints.ToFloat(nil)
	gauge := ints.Copy()
	gauge.CounterResetHint = histogram.GaugeType
	gone := &histogram.Histogram{Schema: 0, Sum: stale}

	check := func(all []events.Metric, kind events.Kind) {
		t.Helper()
		if len(all) != 1 || all[0].Histogram == nil || all[0].Kind != kind {
			t.Fatalf("got %s, want one %s histogram", lines(all), kind)
		}
		h := all[0].Histogram
		if h.Scale != 3 || h.ZeroThreshold != 1e-9 || h.ZeroCount != 2 || h.Count != 19 || h.Sum != 12.5 {
			t.Errorf("got %+v, want scale 3, zero 2, count 19, sum 12.5", *h)
		}
		buckets := func(b events.Buckets) map[string]float64 {
			out := map[string]float64{}
			for i, n := range b.Counts {
				if n > 0 {
					// OpenTelemetry: bucket i reaches up to base^(i+1).
					out[fmt.Sprintf("%.9g", math.Exp2(float64(int(b.Offset)+i+1)/8))] = n
				}
			}
			return out
		}
		of := func(it histogram.BucketIterator[float64], sign float64) map[string]float64 {
			out := map[string]float64{}
			for it.Next() {
				if b := it.At(); b.Count > 0 {
					out[fmt.Sprintf("%.9g", max(sign*b.Upper, sign*b.Lower))] = b.Count
				}
			}
			return out
		}
		if got, want := buckets(h.Positive), of(floats.PositiveBucketIterator(), 1); !maps.Equal(got, want) {
			t.Errorf("positive: got %v, want %v", got, want)
		}
		if got, want := buckets(h.Negative), of(floats.NegativeBucketIterator(), -1); !maps.Equal(got, want) {
			t.Errorf("negative: got %v, want %v", got, want)
		}
	}
	one := func(h prompb.Histogram) *prompb.WriteRequest {
		return &prompb.WriteRequest{Timeseries: []prompb.TimeSeries{{Labels: pairs("__name__", "rpc_seconds"), Histograms: []prompb.Histogram{h}}}}
	}
	two := func(h writev2.Histogram) *writev2.Request {
		return newV2().add([]string{"__name__", "rpc_seconds"}, writev2.TimeSeries{Histograms: []writev2.Histogram{h},
			Metadata: writev2.Metadata{Type: writev2.Metadata_METRIC_TYPE_HISTOGRAM}}, "", "").done()
	}
	r := newRig(t, nil)
	r.write1(one(prompb.FromIntHistogram(at(0), ints)))
	check(r.decodedMetrics(), events.Cumulative)
	r.write1(one(prompb.FromFloatHistogram(at(0), floats)))
	check(r.decodedMetrics(), events.Cumulative)
	r.write1(one(prompb.FromIntHistogram(at(0), gauge)))
	check(r.decodedMetrics(), events.Gauge)
	confirmed(t, r.write2(two(writev2.FromIntHistogram(0, at(0), ints))), 0, 1)
	check(r.decodedMetrics(), events.Cumulative)
	r.write2(two(writev2.FromFloatHistogram(0, at(0), floats)))
	check(r.decodedMetrics(), events.Cumulative)
	w := r.write2(two(writev2.FromIntHistogram(0, at(0), gone)))
	if confirmed(t, w, 0, 1); w.Code != 204 {
		t.Errorf("stale histogram: got %d %s, want 204", w.Code, w.Body)
	}
	if got := lines(r.decodedMetrics()); got != "rpc_seconds{} cumulative stale @0s" {
		t.Errorf("got %s, want the end of the series", got)
	}
}

// Custom buckets come with their bounds, in both versions, of integers and of floats.
func TestRemoteWriteCustomBuckets(t *testing.T) {
	h := &histogram.Histogram{Schema: histogram.CustomBucketsSchema, Count: 10, Sum: 33, CustomValues: []float64{0.5, 1, 2.5},
		PositiveSpans: []histogram.Span{{Offset: 1, Length: 1}, {Offset: 1, Length: 1}}, PositiveBuckets: []int64{4, 2}}
	const want = "rpc{job=x} cumulative histogram {-53 0 0 10 33 NaN NaN {1 [4 0 6]} {0 []} [0.5 1 2.5]} @0s"
	r := newRig(t, nil)
	f := func(w *httptest.ResponseRecorder) {
		t.Helper()
		if got := lines(r.decodedMetrics()); w.Code != 204 || got != want {
			t.Errorf("got %d\n%s\nwant\n%s", w.Code, got, want)
		}
	}
	for _, one := range []prompb.Histogram{prompb.FromIntHistogram(at(0), h), prompb.FromFloatHistogram(at(0), h.ToFloat(nil))} {
		f(r.write1(&prompb.WriteRequest{Timeseries: []prompb.TimeSeries{{Labels: pairs("__name__", "rpc", "job", "x"), Histograms: []prompb.Histogram{one}}}}))
	}
	for _, one := range []writev2.Histogram{writev2.FromIntHistogram(0, at(0), h), writev2.FromFloatHistogram(0, at(0), h.ToFloat(nil))} {
		w := r.write2(newV2().add([]string{"__name__", "rpc", "job", "x"}, writev2.TimeSeries{Histograms: []writev2.Histogram{one}}, "", "").done())
		confirmed(t, w, 0, 1)
		f(w)
	}
}

// Each bad series is answered with 400 and its reason, and the good one beside it is written.
func TestRemoteWriteBadBesideGood(t *testing.T) {
	good := prompb.TimeSeries{Labels: pairs("__name__", "up"), Samples: []prompb.Sample{{Value: 1, Timestamp: at(0)}}}
	one := []prompb.Sample{{Value: 1, Timestamp: at(0)}}
	many := pairs("__name__", "m")
	for i := range 65 {
		many = append(many, prompb.Label{Name: fmt.Sprintf("l%02d", i), Value: "x"})
	}
	f := func(bad prompb.TimeSeries, reason events.Reason) {
		t.Helper()
		r := newRig(t, nil)
		w := r.write1(&prompb.WriteRequest{Timeseries: []prompb.TimeSeries{good, bad, good}})
		if w.Code != 400 || !strings.Contains(w.Body.String(), "sample 1: "+string(reason)) {
			t.Errorf("got %d %.200s, want 400 with reason %s", w.Code, w.Body, reason)
		}
		if got := lines(r.decodedMetrics()); got != "up{} gauge 1 @0s\nup{} gauge 1 @0s" {
			t.Errorf("%s: got\n%s\nwant the two good samples", reason, got)
		}
	}
	f(prompb.TimeSeries{Labels: pairs("job", "x"), Samples: one}, events.ReasonMissing)
	f(prompb.TimeSeries{Labels: pairs("__name__", "a", "__name__", "b"), Samples: one}, events.ReasonDuplicateLabel)
	f(prompb.TimeSeries{Labels: pairs("__name__", "m", "a", "1", "a", "2"), Samples: one}, events.ReasonDuplicateLabel)
	f(prompb.TimeSeries{Labels: pairs("__name__", "m", "", "1"), Samples: one}, events.ReasonBadLabel)
	f(prompb.TimeSeries{Labels: pairs("__name__", "m", "a", "\xff"), Samples: one}, events.ReasonInvalidUTF8)
	f(prompb.TimeSeries{Labels: pairs("__name__", "m", "a", strings.Repeat("x", 2<<20)), Samples: one}, events.ReasonTooLong)
	f(prompb.TimeSeries{Labels: pairs("__name__", strings.Repeat("x", 300)), Samples: one}, events.ReasonTooLong)
	f(prompb.TimeSeries{Labels: many, Samples: one}, events.ReasonTooManyLabels)
	f(prompb.TimeSeries{Labels: pairs("__name__", "m"), Samples: []prompb.Sample{{Value: math.Inf(1), Timestamp: at(0)}}}, events.ReasonNotFinite)
	f(prompb.TimeSeries{Labels: pairs("__name__", "m"), Samples: []prompb.Sample{{Value: 1, Timestamp: 86400}}}, events.ReasonTooOld)
	f(prompb.TimeSeries{Labels: pairs("__name__", "m"), Samples: []prompb.Sample{{Value: 1, Timestamp: math.MinInt64}}}, events.ReasonTooOld)
	f(prompb.TimeSeries{Labels: pairs("__name__", "m"), Samples: []prompb.Sample{{Value: 1, Timestamp: math.MaxInt64}}}, events.ReasonTooNew)

	hist := func(change func(*prompb.Histogram)) prompb.TimeSeries {
		h := prompb.Histogram{Count: &prompb.Histogram_CountInt{CountInt: 3}, ZeroCount: &prompb.Histogram_ZeroCountInt{}, Sum: 1,
			PositiveSpans: []prompb.BucketSpan{{Offset: 0, Length: 2}}, PositiveDeltas: []int64{1, 1}, Timestamp: at(0)}
		change(&h)
		return prompb.TimeSeries{Labels: pairs("__name__", "h"), Histograms: []prompb.Histogram{h}}
	}
	f(hist(func(h *prompb.Histogram) { h.Sum = math.Inf(1) }), events.ReasonNotFinite)
	f(hist(func(h *prompb.Histogram) { h.Schema = 9 }), events.ReasonBadHistogram)
	f(hist(func(h *prompb.Histogram) { h.Count = &prompb.Histogram_CountInt{CountInt: 4} }), events.ReasonBadHistogram)
	f(hist(func(h *prompb.Histogram) { h.PositiveDeltas = []int64{1, -2} }), events.ReasonBadHistogram)
	f(hist(func(h *prompb.Histogram) { h.PositiveDeltas = []int64{1} }), events.ReasonBadHistogram)
	f(hist(func(h *prompb.Histogram) { h.PositiveDeltas = []int64{1, 1, 1} }), events.ReasonBadHistogram)
	f(hist(func(h *prompb.Histogram) { h.PositiveSpans = []prompb.BucketSpan{{Offset: 0, Length: math.MaxUint32}} }), events.ReasonBadHistogram)
	f(hist(func(h *prompb.Histogram) {
		h.PositiveSpans = []prompb.BucketSpan{{Offset: 0, Length: 1}, {Offset: math.MaxInt32, Length: 1}}
	}), events.ReasonBadHistogram)
	f(hist(func(h *prompb.Histogram) {
		h.PositiveSpans = []prompb.BucketSpan{{Offset: 0, Length: 1}, {Offset: -1, Length: 1}}
	}), events.ReasonBadHistogram)
	f(hist(func(h *prompb.Histogram) { h.Schema, h.CustomValues = -53, []float64{2, 1} }), events.ReasonBadHistogram)
	f(hist(func(h *prompb.Histogram) { h.Schema, h.CustomValues = -53, nil }), events.ReasonBadHistogram)
}

func TestRemoteWrite2BadReferences(t *testing.T) {
	r := newRig(t, nil)
	request := newV2().add([]string{"__name__", "up"}, writev2.TimeSeries{Samples: sample(1)}, "", "").done()
	request.Timeseries = append(request.Timeseries,
		writev2.TimeSeries{LabelsRefs: []uint32{1, 99}, Samples: sample(2)},
		writev2.TimeSeries{LabelsRefs: []uint32{1}, Samples: sample(2)},
		writev2.TimeSeries{LabelsRefs: []uint32{1, 2}, Samples: sample(2), Metadata: writev2.Metadata{HelpRef: 77}})
	w := r.write2(request)
	if w.Code != 400 || strings.Count(w.Body.String(), "bad_series") != 3 {
		t.Errorf("got %d %s, want 400 and three bad series", w.Code, w.Body)
	}
	confirmed(t, w, 1, 0)
	if got := lines(r.decodedMetrics()); got != "up{} gauge 1 @0s" {
		t.Errorf("got\n%s\nwant the good series", got)
	}
	request.Symbols[0] = "x"
	if w := r.write2(request); w.Code != 400 || len(r.log.take()) != 0 {
		t.Errorf("first symbol not empty: got %d %s, want 400", w.Code, w.Body)
	}
}

func TestRemoteWriteProtocol(t *testing.T) {
	r := newRig(t, nil)
	body, _ := (&prompb.WriteRequest{Timeseries: []prompb.TimeSeries{{Labels: pairs("__name__", "up"), Samples: []prompb.Sample{{Timestamp: at(0)}}}}}).Marshal()
	packed := snappy.Encode(nil, body)
	f := func(body []byte, contentType, encoding string, status int) {
		t.Helper()
		if w := r.send("POST", "/api/v1/write", body, "Content-Type", contentType, "Content-Encoding", encoding); w.Code != status {
			t.Errorf("%q %q: got %d %s, want %d", contentType, encoding, w.Code, w.Body, status)
		}
	}
	f(packed, "application/x-protobuf", "snappy", 204)
	f(packed, typeV1, "snappy", 204)
	f(packed, "application/x-protobuf; proto=prometheus.WriteRequest", "Snappy", 204)
	f(packed, "", "", 204) // clients from before 1.0
	f(packed, "application/x-protobuf;proto=io.prometheus.write.v3.Request", "snappy", 415)
	f(packed, "application/json", "snappy", 415)
	f(packed, typeV1, "gzip", 415)
	f(packed, typeV1, "zstd", 415)
	f(body, typeV1, "snappy", 400)
	f(nil, typeV1, "snappy", 400)
	f(snappy.Encode(nil, []byte("nonsense")), typeV1, "snappy", 400)
	f(snappy.Encode(nil, []byte("nonsense")), typeV2, "snappy", 400)
	f(packed[:len(packed)/2], typeV1, "snappy", 400)
	// The length that snappy announces is a claim like any other.
	f([]byte("\xff\xff\xff\xff\x07"), typeV1, "snappy", 413)
	f(snappy.Encode(nil, nil), typeV1, "snappy", 204)

	r = newRig(t, nil)
	r.log.err = ingest.ErrUnavailable
	w := r.write2(newV2().add([]string{"__name__", "up"}, writev2.TimeSeries{Samples: sample(1)}, "", "").done())
	if confirmed(t, w, 0, 0); w.Code != 503 || w.Header().Get("Retry-After") != "5" {
		t.Errorf("Kafka down: got %d %s, want 503 with Retry-After", w.Code, w.Header())
	}
}

func TestRemoteWriteCutIntoRecords(t *testing.T) {
	for _, shards := range []int{1, 3} {
		r := newRig(t, func(o *ingest.Options) {
			o.Config.RecordTarget, o.Config.RecordMax = 4<<10, 8<<10
			o.Limits = limited(func(c *tenants.Config) { c.Overrides = map[tenants.ID]tenants.Limits{"acme": {Shards: shards}} })
		})
		if w := r.write1(requestOf(1000)); w.Code != 204 {
			t.Fatalf("got %d %s, want 204", w.Code, w.Body)
		}
		keys := map[string]bool{}
		for _, record := range r.log.records {
			if keys[string(record.Key)] = true; len(record.Value) > 4<<10 {
				t.Errorf("record of %d bytes, want at most 4 KiB", len(record.Value))
			}
		}
		if got := r.decodedMetrics(); len(got) != 1000 || len(keys) != shards {
			t.Errorf("got %d samples under %d keys, want 1000 under %d", len(got), len(keys), shards)
		}
	}
}

func requestOf(n int) *prompb.WriteRequest {
	request := new(prompb.WriteRequest)
	for i := range n {
		request.Timeseries = append(request.Timeseries, prompb.TimeSeries{
			Labels:  pairs("__name__", "http_requests_total", "code", "200", "instance", "10.0.0."+strconv.Itoa(i), "job", "api", "method", "GET"),
			Samples: []prompb.Sample{{Value: float64(i) * 1.5, Timestamp: at(-time.Second)}},
		})
	}
	return request
}

// FuzzRemoteWrite sends any bytes as either message. Whatever the answer, everything written must be what a
// stream worker takes; and what Prometheus' own types cannot decode must not be accepted.
func FuzzRemoteWrite(f *testing.F) {
	v1, _ := requestOf(3).Marshal()
	f.Add(v1, false)
	hist := &histogram.Histogram{Schema: 3, Count: 4, PositiveSpans: []histogram.Span{{Offset: -2, Length: 2}}, PositiveBuckets: []int64{1, 2}}
	custom := &histogram.Histogram{Schema: -53, Count: 1, CustomValues: []float64{1}, PositiveSpans: []histogram.Span{{Length: 1}}, PositiveBuckets: []int64{1}}
	request := newV2().add([]string{"__name__", "h", "a", "b"}, writev2.TimeSeries{Histograms: []writev2.Histogram{
		writev2.FromIntHistogram(0, at(0), hist), writev2.FromFloatHistogram(0, at(0), hist.ToFloat(nil)), writev2.FromIntHistogram(0, at(0), custom)}}, "help", "s").
		add([]string{"__name__", "g"}, writev2.TimeSeries{Samples: sample(1), Exemplars: []writev2.Exemplar{{}}}, "", "").done()
	second, _ := request.Marshal()
	f.Add(second, true)
	f.Add([]byte{}, true)
	f.Fuzz(func(t *testing.T, body []byte, version2 bool) {
		r := newRig(t, nil)
		contentType, decodes := typeV1, new(prompb.WriteRequest).Unmarshal(body) == nil
		if version2 {
			contentType, decodes = typeV2, new(writev2.Request).Unmarshal(body) == nil
		}
		w := r.send("POST", "/api/v1/write", snappy.Encode(nil, body), "Content-Type", contentType, "Content-Encoding", "snappy")
		if w.Code != 204 && w.Code != 400 {
			t.Fatalf("got %d %s, want 204 or 400", w.Code, w.Body)
		}
		written := r.decodedMetrics()
		if !decodes && w.Code == 204 && len(written) > 0 {
			t.Fatalf("%d samples were taken from a body that Prometheus cannot decode", len(written))
		}
	})
}

func BenchmarkRemoteWrite(b *testing.B) {
	v1, _ := requestOf(2000).Marshal()
	r2 := newV2()
	for _, ts := range requestOf(2000).Timeseries {
		var ls []string
		for _, l := range ts.Labels {
			ls = append(ls, l.Name, l.Value)
		}
		r2.add(ls, writev2.TimeSeries{Samples: sample(1), Metadata: writev2.Metadata{Type: writev2.Metadata_METRIC_TYPE_COUNTER}}, "Requests.", "")
	}
	second, _ := r2.done().Marshal()
	for _, c := range []struct {
		name, contentType string
		body              []byte
	}{{"1.0", typeV1, v1}, {"2.0", typeV2, second}} {
		b.Run(c.name, func(b *testing.B) {
			r := newRig(b, func(o *ingest.Options) {
				o.Limits = limited(func(c *tenants.Config) { c.Defaults.BytesPerSecond, c.Defaults.EventsPerSecond = 1<<50, 1<<50 })
				o.Publisher = discard{}
			})
			packed := snappy.Encode(nil, c.body)
			b.SetBytes(int64(len(c.body)))
			b.ReportAllocs()
			for b.Loop() {
				if w := r.send("POST", "/api/v1/write", packed, "Content-Type", c.contentType, "Content-Encoding", "snappy"); w.Code != 204 {
					b.Fatal(w.Body)
				}
			}
			b.ReportMetric(2000*float64(b.N)/b.Elapsed().Seconds(), "samples/s")
		})
	}
}
