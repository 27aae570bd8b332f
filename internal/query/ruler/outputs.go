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

	at       int64                    // Unix ms, time of the samples
	before   map[string]recorded      // series of the evaluation before, by their bytes, …
	recorded map[string]recorded      // … and of this one
	rule     int                      // whose turn it is, by its place in the group
	laid     map[string]labels.Labels // series that have a sample of this evaluation in the overlay
	records  [][]byte                 // JSON arrays of events; the last is open
	samples  int
}

// recorded is a series and the place in the group of the rule that records it; noRule when none does any more.
type recorded struct {
	labels labels.Labels
	rule   int
}

const noRule = -1

var _ storage.AppendableV2 = (*outputs)(nil)

func (o *outputs) AppenderV2(context.Context) storage.AppenderV2 { return o }

// begin makes room for an evaluation whose samples are of a time (Unix ms), after one that recorded some series.
func (o *outputs) begin(at int64, before map[string]recorded) {
	*o = outputs{
		tenant: o.tenant, overlay: o.overlay, metrics: o.metrics,
		at: at, before: before, recorded: map[string]recorded{}, rule: noRule, laid: map[string]labels.Labels{},
	}
}

// undo takes back what rules saw of an evaluation that is to be made again: they are to see what they saw before it.
func (o *outputs) undo() {
	for _, ls := range o.laid {
		o.overlay.drop(ls, o.at)
	}
}

// Append never fails: what an event cannot say is left out and counted. Upstream's stale markers are not used: it
// forgets which series there were when an evaluation is made again, and when a group goes elsewhere.
func (o *outputs) Append(_ storage.SeriesRef, ls labels.Labels, _, t int64, v float64, _ *histogram.Histogram,
	fh *histogram.FloatHistogram, _ storage.AOptions) (storage.SeriesRef, error) {
	if value.IsStaleNaN(v) && fh == nil {
		return 0, nil
	}
	key := string(ls.Bytes(nil))
	o.lay(key, ls, point{t, v, fh})
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
	o.recorded[key] = recorded{ls, o.rule}
	o.add(m)
	return 0, nil
}

// Commit is called when a rule was evaluated. The rules after it see that a series has ended which it recorded before
// and records no more; that it is not another rule's now is known after the last one.
func (o *outputs) Commit() error {
	for key, s := range o.before {
		if _, laid := o.laid[key]; !laid && s.rule == o.rule {
			o.lay(key, s.labels, ended(o.at))
		}
	}
	return nil
}

func (o *outputs) Rollback() error { return nil }

// lay shows the rules a sample.
func (o *outputs) lay(key string, ls labels.Labels, p point) {
	o.overlay.put(ls, p)
	o.laid[key] = ls
}

// ended is the sample that ends a series.
func ended(t int64) point { return point{t, math.Float64frombits(value.StaleNaN), nil} }

// end records that a series has ended.
func (o *outputs) end(ls labels.Labels) {
	o.lay(string(ls.Bytes(nil)), ls, ended(o.at))
	m := o.event(ls, o.at)
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
