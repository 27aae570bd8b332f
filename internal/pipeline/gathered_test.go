package pipeline_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
)

// gatherings are epochs that take memory in one way each.
var gatherings = map[string]struct {
	series, events int // events of each series
	change         func(m *events.Metric, series, event int)
}{
	"a value a series":    {series: 10_000, events: 1},
	"ten values a series": {series: 10_000, events: 10},
	"lists":               {series: 3_000, events: 60},
	"sketches":            {series: 1_000, events: 300},
	"sketches of all numbers": {series: 500, events: 100,
		change: func(m *events.Metric, _, i int) { m.Value = math.Pow(10, float64(i%31)-12) }},
	"lists of all numbers": {series: 3_000, events: 85, change: func(m *events.Metric, _, i int) {
		m.Value = math.Pow(10, 0.3*float64(i)-11)
	}},
	"negative numbers": {series: 1_000, events: 100, change: func(m *events.Metric, _, i int) { m.Value = -m.Value }},
	"levels":           {series: 5_000, events: 3, change: func(m *events.Metric, _, _ int) { m.Kind = events.Gauge }},
	"sums":             {series: 5_000, events: 3, change: func(m *events.Metric, _, _ int) { m.Kind = events.Delta }},
	"panes":            {series: 1_000, events: 40, change: func(m *events.Metric, _, i int) { m.Time -= int64(i%40) * 10e9 }},
	"a service of its own": {series: 5_000, events: 10, change: func(m *events.Metric, s, _ int) {
		m.Labels = append(m.Labels, series.Label{Name: "service", Value: fmt.Sprint("service ", s)})
	}},
	"a long name": {series: 5_000, events: 1, change: func(m *events.Metric, s, _ int) {
		m.Name, m.Kind = fmt.Sprintf("m%0200d", s), events.Gauge
	}},
	"a tenant of its own": {series: 2_000, events: 5,
		change: func(m *events.Metric, s, _ int) { m.Tenant = fmt.Sprint("tenant-", s) }},
	"histograms": {series: 500, events: 4, change: func(m *events.Metric, _, i int) { m.Histogram = wide(i, 160) }},
	"cumulative histograms": {series: 500, events: 4, change: func(m *events.Metric, _, i int) {
		m.Kind, m.Histogram = events.Cumulative, wide(i, 160)
	}},
	"cumulative histograms that grow": {series: 500, events: 2, change: func(m *events.Metric, _, i int) {
		m.Kind, m.Histogram = events.Cumulative, wide(i, 1+159*i)
	}},
}

// wide is a histogram of so many buckets.
func wide(i, buckets int) *events.Histogram {
	h := &events.Histogram{Scale: 3, Min: 1, Max: 1e6, Positive: events.Buckets{Offset: int32(i)}}
	for n := range buckets {
		h.Positive.Counts = append(h.Positive.Counts, float64(1+n%3))
		h.Count += float64(1 + n%3)
	}
	h.Sum = 100 * h.Count
	return h
}

// What an epoch is said to take bounds what it takes: memory of the task, and results as they are sent. It is not far
// more either, or epochs would end for nothing.
func TestPendingBoundsMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("the race detector, with which -short runs, allocates beside what is measured")
	}
	for name, g := range gatherings {
		t.Run(name, func(t *testing.T) {
			task := newTask(func(c *pipeline.TaskConfig) { c.Limits = tenants.Unlimited })
			r := rand.New(rand.NewPCG(1, 2))
			records := func(n int) (list []pipeline.Record) {
				for i := range n {
					for s := range g.series {
						m := events.Metric{
							Tenant: "acme", Time: start.UnixNano(), Name: "m", Value: math.Exp(r.NormFloat64()),
							Labels: series.Labels{{Name: "instance", Value: fmt.Sprintf("10.0.%d.%d:8080", s>>8, s&255)}},
						}
						if g.change != nil {
							g.change(&m, s, i)
						}
						list = append(list, pipeline.Record{Timestamp: start.UnixNano(), Key: []byte(m.Tenant), Value: events.AppendMetric(nil, &m)})
					}
				}
				return list
			}
			step := func(list []pipeline.Record) {
				task.Step(&pipeline.Chunk{Partition: at, Signal: events.Metrics, Records: list}, start.UnixMilli())
			}
			settle := func() (results, said int64) {
				said, _ = task.Pending()
				results = encoded(t, drain(task, start))
				task.Committed(false)
				return results, said
			}
			check := func(what string, took, said int64) {
				t.Helper()
				t.Logf("%s: said %d, took %d", what, said, took)
				if took > said+64<<10 || said > 5*took+64<<10 {
					t.Errorf("%s: got %d bytes for what takes %d", what, said, took)
				}
			}

			step(records(1))
			results, said := settle()
			check("announcements and rows", results, said)
			for range 2 { // until what is known of series is as large as it will be
				step(records(1))
				settle()
			}
			list := records(g.events)
			before := heap()
			step(list)
			held := heap() - before
			runtime.KeepAlive(list)
			results, said = settle()
			check(fmt.Sprintf("%d held and %d of results", held, results), held+results, said)
			if said, letters := task.Pending(); said != 0 || letters != 0 {
				t.Errorf("got %d and %d bytes pending after a commit", said, letters)
			}
		})
	}
}

// heap is what the heap holds. What pools let go of at one collection is freed by the next.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// encoded is how many bytes are sent.
func encoded(t *testing.T, out *pipeline.Outputs) (n int64) {
	t.Helper()
	add := func(b []byte, err error) {
		if err != nil {
			t.Fatal(err)
		}
		n += int64(len(b))
	}
	for _, b := range out.Rollups {
		add(clickhouse.Encoder{}.EncodeRollups(nil, b))
	}
	for _, b := range out.Series {
		add(clickhouse.Encoder{}.EncodeSeries(nil, b))
	}
	return n
}

// An epoch goes on while events fall into panes that are open, however many, and ends when further panes take what they
// may.
func TestEpochIsBoundedInBytes(t *testing.T) {
	f := func(name string, step time.Duration, want int) {
		t.Helper()
		task, n := newTask(nil), 0
		for bytes := int64(0); bytes < 1<<20 && n < 20_000; n++ {
			m := events.Metric{Tenant: "acme", Time: start.Add(time.Duration(n) * step).UnixNano(),
				Name: "m", Kind: events.Gauge, Value: 1}
			task.Step(&pipeline.Chunk{Partition: at, Signal: events.Metrics, Records: []pipeline.Record{record("acme", string(events.AppendMetric(nil, &m)))}}, start.UnixMilli())
			bytes, _ = task.Pending()
		}
		if n < want*9/10 || n > want*11/10 {
			t.Errorf("%s: got a MiB after %d events, want about %d", name, n, want)
		}
	}
	f("a pane an event", -10*time.Second, 1<<20/(129+128))
	f("one pane", 0, 20_000)
}
