package events_test

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"testing"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/pkg/events"
)

// drawRequest is an OTLP request of metrics that say one of few things beside time and value, now and then in a strange
// way.
func drawRequest(t *rapid.T) []byte {
	all := pmetric.NewMetrics()
	few := func(label string) int { return rapid.IntRange(0, 1).Draw(t, label) }
	rarely := func(label string) bool { return rapid.IntRange(0, 39).Draw(t, label) == 23 }
	some := func(label string) int { return rapid.SampledFrom([]int{1, 1, 1, 2, 1, 1, 0, 1}).Draw(t, label) }
	for range some("resources") {
		rm := all.ResourceMetrics().AppendEmpty()
		rm.Resource().Attributes().PutStr("service.name", fmt.Sprint("s", few("service")))
		if rarely("tenant") {
			rm.Resource().Attributes().PutStr("vigie.tenant", "other")
		}
		for range some("scopes") {
			sm := rm.ScopeMetrics().AppendEmpty()
			sm.Scope().SetName("scope")
			for range some("metrics") {
				drawMetric(t, sm.Metrics().AppendEmpty(), few, some, rarely)
			}
		}
	}
	raw, err := pmetricotlp.NewExportRequestFromMetrics(all).MarshalProto()
	if err != nil {
		t.Fatalf("marshal: %v", err)
	}
	return raw
}

func drawMetric(t *rapid.T, m pmetric.Metric, few, some func(string) int, rarely func(string) bool) {
	m.SetName([]string{"a", "b.c"}[few("name")])
	if rarely("unit") {
		m.SetUnit("s")
	}
	var points pmetric.NumberDataPointSlice
	switch {
	case rarely("no data"):
		return
	case rarely("histogram"):
		p := m.SetEmptyHistogram().DataPoints().AppendEmpty()
		p.SetTimestamp(1e18)
		p.SetCount(3)
		return
	case few("kind") == 0:
		points = m.SetEmptySum().DataPoints()
		m.Sum().SetAggregationTemporality(pmetric.AggregationTemporality(rapid.IntRange(0, 2).Draw(t, "temporality")))
		m.Sum().SetIsMonotonic(few("monotonic") == 0)
	default:
		points = m.SetEmptyGauge().DataPoints()
	}
	for range some("points") {
		p := points.AppendEmpty()
		p.Attributes().PutStr("n", fmt.Sprint(few("n")))
		p.Attributes().PutStr(rapid.SampledFrom([]string{"k.a", "k.b", "k_c", "kdd"}).Draw(t, "name"), fmt.Sprint(few("k")))
		if rarely("other types") {
			p.Attributes().PutBool("sure", few("sure") == 0)
			p.Attributes().PutInt("least", math.MinInt64)
		}
		if rarely("double") {
			p.Attributes().PutDouble("half", 0.5)
		}
		if rarely("nothing") {
			p.Attributes().PutEmpty("nothing")
		}
		if rarely("strange text") {
			p.Attributes().PutStr("text", "\xff")
			p.Attributes().PutStr("", "no name")
		}
		if rarely("collision") {
			p.Attributes().PutStr("a.b", "1")
			p.Attributes().PutInt("a_b", 2)
		}
		if !rarely("no time") {
			p.SetTimestamp(pmetricTime(1e18 + few("time")))
		}
		if few("start") == 0 {
			p.SetStartTimestamp(pmetricTime(1e18 + few("time")))
		}
		if rarely("strange start") {
			p.SetStartTimestamp(math.MaxUint64)
		}
		switch {
		case rarely("no value"):
		case rarely("not a number"):
			p.SetDoubleValue([]float64{math.NaN(), math.Inf(-1)}[few("which")])
		case few("int") == 0:
			p.SetIntValue(rapid.Int64().Draw(t, "value"))
		default:
			p.SetDoubleValue(rapid.Float64().Draw(t, "value"))
		}
		p.SetFlags(pmetric.DefaultDataPointFlags.WithNoRecordedValue(rarely("stale")))
	}
}

// A request whose data points are known by their bytes decodes to what it does in full, also after a byte of it was
// changed.
func TestOTLPRepeatsEqualDecoding(t *testing.T) {
	known := 0
	rapid.Check(t, func(t *rapid.T) {
		var records [][]byte
		for range rapid.IntRange(2, 20).Draw(t, "records") {
			record := drawRequest(t)
			if len(record) > 0 && rapid.IntRange(0, 9).Draw(t, "damage") == 7 {
				record = slices.Clone(record)
				record[rapid.IntRange(0, len(record)-1).Draw(t, "at")] = rapid.Byte().Draw(t, "byte")
			}
			records = sometimesTwice(t, records, record)
		}
		known += knownOf(t, 1000, records...)
	})
	if known == 0 {
		t.Errorf("no data point was known")
	}
}

// FuzzOTLPRepeats decodes two requests after each other, each twice, with knowledge and without.
func FuzzOTLPRepeats(f *testing.F) {
	example := rapid.Custom(drawRequest)
	for seed := range 20 {
		f.Add(example.Example(seed), example.Example(seed+1))
	}
	f.Fuzz(func(t *testing.T, a, b []byte) { knownOf(t, 1000, a, b, a, b) })
}

// Requests that repeat themselves are known to the last data point, and nothing is allocated for them.
func TestOTLPRepeatsAreKnown(t *testing.T) {
	request := func(value float64) []byte {
		all := pmetric.NewMetrics()
		sm := all.ResourceMetrics().AppendEmpty()
		sm.Resource().Attributes().PutStr("service.name", "checkout")
		metrics := sm.ScopeMetrics().AppendEmpty().Metrics()
		for i := range 10 {
			m := metrics.AppendEmpty()
			m.SetName("queue_length")
			p := m.SetEmptyGauge().DataPoints().AppendEmpty()
			p.SetTimestamp(pmetricTime(1e18 + int(value)))
			p.SetStartTimestamp(pmetricTime(1e18 - int(value)))
			p.SetDoubleValue(value)
			p.Attributes().PutInt("queue", int64(i))
		}
		raw, err := pmetricotlp.NewExportRequestFromMetrics(all).MarshalProto()
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	if known := knownOf(t, 1000, request(1), request(2), request(3)); known != 20 {
		t.Errorf("got %d data points known, want 20", known)
	}
	k := newKnower(1000)
	k.decode(request(1), k.repeats)
	raw := request(2)
	source := events.Source{Signal: events.Metrics, Key: []byte("acme"), Value: raw, Timestamp: 1e18, Repeats: k.repeats}
	if allocs := testing.AllocsPerRun(100, func() { k.decoder.Decode(&k.batch, source) }); allocs > 0 {
		t.Errorf("got %v allocations a request, want none", allocs)
	}
	if len(k.batch.Repeats) != 10 || k.batch.Repeats[9].Value != 2 || k.batch.Events != 10 {
		t.Errorf("got %+v of %d events, want 10 of value 2", k.batch.Repeats, k.batch.Events)
	}
}

// Of a request with data points that are not known only these are unmarshalled, whatever they are.
func TestOTLPKnownBesideUnknown(t *testing.T) {
	request := func(alter func(i int, m pmetric.Metric)) []byte {
		all := pmetric.NewMetrics()
		sm := all.ResourceMetrics().AppendEmpty()
		sm.Resource().Attributes().PutStr("service.name", "checkout")
		metrics := sm.ScopeMetrics().AppendEmpty().Metrics()
		for i := range 10 {
			m := metrics.AppendEmpty()
			m.SetName("queue_length")
			p := m.SetEmptyGauge().DataPoints().AppendEmpty()
			p.SetTimestamp(1e18)
			p.SetDoubleValue(1)
			p.Attributes().PutInt("queue", int64(i))
			alter(i, m)
		}
		raw, err := pmetricotlp.NewExportRequestFromMetrics(all).MarshalProto()
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	same := func(int, pmetric.Metric) {}
	f := func(alter func(i int, m pmetric.Metric), want int) {
		t.Helper()
		if known := knownOf(t, 1000, request(same), request(alter)); known != want {
			t.Errorf("got %d data points known, want %d", known, want)
		}
	}
	f(same, 10)
	at := func(at int, alter func(m pmetric.Metric)) func(int, pmetric.Metric) {
		return func(i int, m pmetric.Metric) {
			if i == at {
				alter(m)
			}
		}
	}
	for _, i := range []int{0, 4, 9} {
		f(at(i, func(m pmetric.Metric) { m.Gauge().DataPoints().At(0).Attributes().PutStr("new", "one") }), 9)
		f(at(i, func(m pmetric.Metric) { m.Gauge().DataPoints().At(0).SetDoubleValue(math.NaN()) }), 9)
		f(at(i, func(m pmetric.Metric) {
			m.Gauge().DataPoints().At(0).SetFlags(pmetric.DefaultDataPointFlags.WithNoRecordedValue(true))
		}), 9)
		f(at(i, func(m pmetric.Metric) { m.Gauge().DataPoints().AppendEmpty().SetIntValue(1) }), 10)
		f(at(i, func(m pmetric.Metric) {
			m.SetEmptyHistogram().DataPoints().AppendEmpty().SetTimestamp(1e18)
			m.Histogram().SetAggregationTemporality(pmetric.AggregationTemporalityDelta)
		}), 9)
		f(at(i, func(m pmetric.Metric) {
			m.SetEmptyExponentialHistogram().DataPoints().AppendEmpty().SetTimestamp(1e18)
			m.ExponentialHistogram().SetAggregationTemporality(pmetric.AggregationTemporalityDelta)
		}), 9)
		f(at(i, func(m pmetric.Metric) { m.SetEmptySummary().DataPoints().AppendEmpty().SetTimestamp(1e18) }), 9)
	}
	f(func(_ int, m pmetric.Metric) { m.SetName("other") }, 0)
}

// A request that has too much breaks off at one place, whatever of it is known.
func TestOTLPTooMuchBesideKnown(t *testing.T) {
	request := func(bounds int) []byte {
		all := pmetric.NewMetrics()
		metrics := all.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty().Metrics()
		gauge := func() {
			m := metrics.AppendEmpty()
			m.SetName("gauge")
			p := m.SetEmptyGauge().DataPoints().AppendEmpty()
			p.SetTimestamp(1e18)
			p.SetDoubleValue(1)
		}
		gauge()
		if bounds > 0 {
			m := metrics.AppendEmpty()
			m.SetName("histogram")
			m.SetEmptyHistogram().SetAggregationTemporality(pmetric.AggregationTemporalityDelta)
			p := m.Histogram().DataPoints().AppendEmpty()
			p.SetTimestamp(1e18)
			p.BucketCounts().Append(make([]uint64, bounds+1)...)
			for i := range bounds {
				p.ExplicitBounds().Append(float64(i))
			}
		}
		gauge()
		gauge()
		raw, err := pmetricotlp.NewExportRequestFromMetrics(all).MarshalProto()
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	decoder := events.NewDecoder(events.Options{MaxEvents: 10})
	for bounds := range 12 {
		var cold, warm events.Batch
		repeats := events.NewRepeats(1, 1000)
		source := events.Source{Signal: events.Metrics, Key: []byte("acme"), Value: request(bounds), Timestamp: 1e18}
		decoder.Decode(&cold, source)
		decoder.Decode(&warm, events.Source{Signal: events.Metrics, Key: []byte("acme"), Value: request(0), Timestamp: 1e18, Repeats: repeats})
		repeats.Learn(warm.Metrics[0].Digest, 7)
		source.Repeats = repeats
		decoder.Decode(&warm, source)
		if !reflect.DeepEqual(warm.Rejects, cold.Rejects) || warm.Events != cold.Events ||
			len(warm.Metrics)+len(warm.Repeats) != len(cold.Metrics) {
			t.Errorf("%d bounds: got %d and %d metrics and %v, want %d and %v",
				bounds, len(warm.Metrics), len(warm.Repeats), warm.Rejects, len(cold.Metrics), cold.Rejects)
		}
	}
}

// A part of a request that is no protobuf is found, also where no data point is that could be known.
func TestOTLPRepeatsWithoutPoints(t *testing.T) {
	point := "\x19\x00\x00\x64\xa7\xb3\xb6\xe0\x0d\x21\x00\x00\x00\x00\x00\x00\xf0\x3f" // time = 1e18, value = 1
	request := func(metrics ...string) []byte {
		var scope string
		for _, m := range metrics {
			scope += "\x12" + string(rune(len(m))) + m
		}
		scope = "\x12" + string(rune(len(scope))) + scope
		return []byte("\x0a" + string(rune(len(scope))) + scope)
	}
	good := "\x0a\x01a\x2a\x14\x0a\x12" + point
	if known := knownOf(t, 1000, request(good), request(good)); known != 1 {
		t.Fatalf("got %d data points known, want the second", known)
	}
	for _, strange := range []string{"\x0a\x01b\x62\x01\xff", "\x0a\x01b\x2a\x00\x62\x01\xff", "\x62\x01\xff\x2a\x00",
		"\x2a\x02\x10\x01", "\x0a\x01b"} {
		knownOf(t, 1000, request(good), request(good, strange), request(strange, good))
	}
}

func pmetricTime(n int) pcommon.Timestamp { return pcommon.Timestamp(n) }
