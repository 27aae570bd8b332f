package live

import (
	"math"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vigie-io/vigie/pkg/events"
)

func TestRegistry(t *testing.T) {
	registry := prometheus.NewRegistry()
	counter := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "jobs_total", Help: "Jobs."}, []string{"service"})
	gauge := prometheus.NewGauge(prometheus.GaugeOpts{Name: "level"})
	broken := prometheus.NewGauge(prometheus.GaugeOpts{Name: "broken"})
	histogram := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "seconds", Buckets: []float64{0.5, 1}})
	registry.MustRegister(counter, gauge, broken, histogram)
	counter.WithLabelValues("other").Add(3)
	gauge.Set(-2.5)
	broken.Set(math.NaN())
	histogram.Observe(0.7)
	histogram.Observe(7)

	got, err := Registry(nil, registry, "vigie-query", "host:1", 42)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]float64{
		"jobs_total{exported_service=other}": 3, "level": -2.5, "seconds_bucket{le=0.5}": 0, "seconds_bucket{le=1}": 1,
		"seconds_bucket{le=+Inf}": 2, "seconds_sum": 7.7, "seconds_count": 2,
	}
	for _, m := range got {
		key := m.Name
		for _, name := range []string{"exported_service", "le"} {
			if v := m.Labels.Get(name); v != "" {
				key += "{" + name + "=" + v + "}"
			}
		}
		if v, ok := want[key]; !ok || v != m.Value {
			t.Errorf("%s: got %v, want %v (expected: %v)", key, m.Value, v, ok)
		}
		delete(want, key)
		if m.Labels.Get("service") != "vigie-query" || m.Labels.Get("instance") != "host:1" || m.Time != 42 {
			t.Errorf("%s: got labels %v at %d", key, m.Labels, m.Time)
		}
		if isGauge := m.Kind == events.Gauge; isGauge != (m.Name == "level") {
			t.Errorf("%s: got kind %v", key, m.Kind)
		}
	}
	if len(want) > 0 {
		t.Errorf("got no %v", want)
	}
}
