package events_test

import (
	"math"
	"testing"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/pkg/events"
)

// wild draws what a careless or hostile producer may put into an OTLP request.
type wild struct{ *rapid.T }

func (w wild) text() string {
	return rapid.SampledFrom([]string{"", "a", "a.b", "a_b", "_", "9", "le", "quantile", "service", "__name__", "é", "\xff", "µs", "{request}", "By/s", "1", "%"}).Draw(w.T, "text")
}

func (w wild) float() float64 {
	return rapid.SampledFrom([]float64{0, 1, -1, 0.5, 1e308, -1e308, math.NaN(), math.Inf(1), math.Inf(-1), math.SmallestNonzeroFloat64}).Draw(w.T, "float")
}

func (w wild) uint() uint64 {
	return rapid.SampledFrom([]uint64{0, 1, 2, uint64(now), math.MaxInt64, math.MaxUint64}).Draw(w.T, "uint")
}

func (w wild) times(f func(i int)) {
	for i := range rapid.IntRange(0, 3).Draw(w.T, "n") {
		f(i)
	}
}

func (w wild) attributes(m pcommon.Map) {
	w.times(func(int) {
		v := m.PutEmpty(w.text())
		switch rapid.IntRange(0, 4).Draw(w.T, "type") {
		case 0:
			v.SetDouble(w.float())
		case 1:
			v.SetEmptyMap().PutStr(w.text(), w.text())
		case 2:
			v.SetEmptyBytes().FromRaw([]byte(w.text()))
		default:
			v.SetStr(w.text())
		}
	})
}

func (w wild) metric(m pmetric.Metric) {
	m.SetName(w.text())
	m.SetUnit(w.text())
	m.SetDescription(w.text())
	temporality := pmetric.AggregationTemporality(rapid.IntRange(0, 2).Draw(w.T, "temporality"))
	stamp := func(p interface {
		SetTimestamp(pcommon.Timestamp)
		SetStartTimestamp(pcommon.Timestamp)
		Attributes() pcommon.Map
	}) {
		p.SetTimestamp(pcommon.Timestamp(w.uint()))
		p.SetStartTimestamp(pcommon.Timestamp(w.uint()))
		w.attributes(p.Attributes())
	}
	switch rapid.IntRange(0, 4).Draw(w.T, "metric type") {
	case 0:
		w.times(func(int) { p := emptyGauge(m).AppendEmpty(); stamp(p); p.SetDoubleValue(w.float()) })
	case 1:
		s := m.SetEmptySum()
		s.SetAggregationTemporality(temporality)
		s.SetIsMonotonic(rapid.Bool().Draw(w.T, "monotonic"))
		w.times(func(int) { p := s.DataPoints().AppendEmpty(); stamp(p); p.SetIntValue(int64(w.uint())) })
	case 2:
		h := m.SetEmptyHistogram()
		h.SetAggregationTemporality(temporality)
		w.times(func(int) {
			p := h.DataPoints().AppendEmpty()
			stamp(p)
			p.SetCount(w.uint())
			p.SetSum(w.float())
			w.times(func(int) { p.BucketCounts().Append(w.uint()) })
			w.times(func(int) { p.ExplicitBounds().Append(w.float()) })
		})
	case 3:
		h := m.SetEmptyExponentialHistogram()
		h.SetAggregationTemporality(temporality)
		w.times(func(int) {
			p := h.DataPoints().AppendEmpty()
			stamp(p)
			p.SetCount(w.uint())
			p.SetZeroCount(w.uint())
			p.SetSum(w.float())
			p.SetMin(w.float())
			p.SetScale(int32(w.uint()))
			p.Positive().SetOffset(int32(w.uint()))
			w.times(func(int) { p.Positive().BucketCounts().Append(w.uint()) })
			w.times(func(int) { p.Negative().BucketCounts().Append(w.uint()) })
		})
	default:
		s := m.SetEmptySummary()
		w.times(func(int) {
			p := s.DataPoints().AppendEmpty()
			stamp(p)
			p.SetCount(w.uint())
			p.SetSum(w.float())
			w.times(func(int) {
				q := p.QuantileValues().AppendEmpty()
				q.SetQuantile(w.float())
				q.SetValue(w.float())
			})
		})
	}
}

func emptyGauge(m pmetric.Metric) pmetric.NumberDataPointSlice {
	if m.Type() != pmetric.MetricTypeGauge {
		m.SetEmptyGauge()
	}
	return m.Gauge().DataPoints()
}

// Whatever OTLP says, the batch holds valid events and known reasons, and every data point is accounted for.
func TestOTLPHostile(t *testing.T) {
	d := events.NewDecoder(events.Options{})
	batch := new(events.Batch)
	rapid.Check(t, func(rt *rapid.T) {
		w := wild{rt}
		all := pmetric.NewMetrics()
		w.times(func(int) {
			rm := all.ResourceMetrics().AppendEmpty()
			rm.Resource().Attributes().PutStr("service.name", w.text())
			w.attributes(rm.Resource().Attributes())
			ms := rm.ScopeMetrics().AppendEmpty().Metrics()
			w.times(func(int) { w.metric(ms.AppendEmpty()) })
		})
		raw, err := pmetricotlp.NewExportRequestFromMetrics(all).MarshalProto()
		if err != nil {
			rt.Fatal(err)
		}
		if rapid.IntRange(0, 3).Draw(rt, "damage") == 0 && len(raw) > 0 {
			raw[rapid.IntRange(0, len(raw)-1).Draw(rt, "at")] = rapid.Byte().Draw(rt, "byte")
		}
		d.Decode(batch, events.Source{Signal: events.Metrics, Key: []byte("acme"), Value: raw, ContentType: "application/x-protobuf", Timestamp: now})
		holds(t, batch)
		again(t, events.Metrics, batch)
		seen := map[int]bool{}
		for _, i := range batch.MetricIndex {
			seen[i] = true
		}
		if len(raw) > 0 && len(seen)+len(batch.Rejects) > batch.Events+1 ||
			len(seen)+len(batch.Rejects)+batch.Stale < batch.Events {
			rt.Fatalf("got %d data points taken, %d refused, %d stale of %d, want all accounted for", len(seen),
				len(batch.Rejects), batch.Stale, batch.Events)
		}
	})
}
