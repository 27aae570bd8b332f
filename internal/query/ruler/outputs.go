package ruler

import (
	"context"
	"math"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"

	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
)

// recordSize is about how many bytes of events one Kafka record carries.
const recordSize = 256 << 10

// outputs take what the rules of one evaluation record, as gauge events of the tenant. Rules run one after the other.
type outputs struct {
	tenant  tenants.ID
	overlay *overlay
	metrics *metrics

	records  [][]byte // JSON arrays of events; the last is open
	samples  int
	recorded map[string]labels.Labels // series of the evaluation, by their bytes
}

var _ storage.AppendableV2 = (*outputs)(nil)

func (o *outputs) AppenderV2(context.Context) storage.AppenderV2 { return o }

func (o *outputs) reset() { o.records, o.samples, o.recorded = nil, 0, map[string]labels.Labels{} }

// Append never fails: what an event cannot say is left out and counted. Of upstream's stale markers only the overlay
// learns: upstream forgets them when an evaluation is made again, so that the group tells which series have ended.
func (o *outputs) Append(_ storage.SeriesRef, ls labels.Labels, _, t int64, v float64, _ *histogram.Histogram,
	fh *histogram.FloatHistogram, _ storage.AOptions) (storage.SeriesRef, error) {
	o.overlay.put(ls, point{t, v, fh})
	if value.IsStaleNaN(v) && fh == nil {
		return 0, nil
	}
	m := o.event(ls, t)
	m.Value = v
	if fh != nil {
		if m.Histogram = eventHistogram(fh); m.Histogram == nil {
			o.metrics.leftOut.WithLabelValues("histogram").Inc()
			return 0, nil
		}
	} else if math.IsNaN(v) || math.IsInf(v, 0) {
		o.metrics.leftOut.WithLabelValues("not_finite").Inc()
		return 0, nil
	}
	o.recorded[string(ls.Bytes(nil))] = ls
	o.add(m)
	return 0, nil
}

// end records that a series has ended.
func (o *outputs) end(ls labels.Labels, t int64) {
	o.overlay.put(ls, point{t, math.Float64frombits(value.StaleNaN), nil})
	m := o.event(ls, t)
	m.Stale = true
	o.add(m)
}

// event is an event of a series, without a value.
func (o *outputs) event(ls labels.Labels, t int64) *events.Metric {
	m := &events.Metric{Tenant: string(o.tenant), Time: t * 1e6, Name: ls.Get(model.MetricNameLabel), Kind: events.Gauge}
	ls.Range(func(l labels.Label) {
		if l.Name != model.MetricNameLabel {
			m.Labels = append(m.Labels, series.Label{Name: l.Name, Value: l.Value})
		}
	})
	return m
}

func (o *outputs) add(m *events.Metric) {
	last := len(o.records) - 1
	if last < 0 || len(o.records[last]) > recordSize {
		o.records, last = append(o.records, []byte{'['}), last+1
	} else {
		o.records[last] = append(o.records[last], ',')
	}
	o.records[last] = events.AppendMetric(o.records[last], m)
	o.samples++
}

// take returns what was recorded, ready for Kafka.
func (o *outputs) take() [][]byte {
	for i := range o.records {
		o.records[i] = append(o.records[i], ']')
	}
	return o.records
}

func (o *outputs) Commit() error   { return nil }
func (o *outputs) Rollback() error { return nil }

// eventHistogram is a float histogram as an event carries it; nil when it cannot: counts below zero.
func eventHistogram(fh *histogram.FloatHistogram) *events.Histogram {
	h := &events.Histogram{
		Scale: fh.Schema, ZeroThreshold: fh.ZeroThreshold, ZeroCount: fh.ZeroCount, Count: fh.Count, Sum: fh.Sum,
		Min: math.NaN(), Max: math.NaN(),
		Bounds: fh.CustomValues,
	}
	first := events.PrometheusIndex(fh.Schema)
	fill(&h.Positive, fh.PositiveBucketIterator(), first)
	fill(&h.Negative, fh.NegativeBucketIterator(), first)
	if reason, _ := h.Check(events.DefaultOptions().MaxBuckets); reason != "" {
		return nil
	}
	return h
}

func fill(into *events.Buckets, from histogram.BucketIterator[float64], first int32) {
	for from.Next() {
		b := from.At()
		if len(into.Counts) == 0 {
			into.Offset = b.Index - first
		}
		for into.Offset+int32(len(into.Counts)) < b.Index-first {
			into.Counts = append(into.Counts, 0)
		}
		into.Counts = append(into.Counts, b.Count)
	}
}
