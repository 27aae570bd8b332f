package ingest

import (
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
)

// Reasons of samples that remote write skips without refusing them.
const (
	skippedStale    = "stale_marker"
	skippedNaN      = "nan"
	skippedExemplar = "exemplar"
	withoutTime     = "no_time" // taken, with the time of receipt
)

// reasonBadSeries is a remote write series whose references lead nowhere.
const reasonBadSeries events.Reason = "bad_series"

type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	refused  *prometheus.CounterVec
	accepted *prometheus.CounterVec
	rejected *prometheus.CounterVec
	skipped  *prometheus.CounterVec
	bytes    *prometheus.CounterVec
	records  prometheus.Counter

	mu     sync.Mutex
	labels map[tenants.ID]string
	limit  int
}

func newMetrics(reg prometheus.Registerer, inFlight *memory, tenantLabels int) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "vigie_ingest_" + name, Help: help}, labels)
	}
	m := &metrics{
		requests: counter("requests_total", "HTTP requests by route and status.", "route", "code"),
		refused:  counter("refused_requests_total", "Requests of which nothing was accepted, by reason.", "tenant", "reason"),
		accepted: counter("accepted_events_total", "Events acknowledged by Kafka.", "tenant", "signal"),
		rejected: counter("rejected_events_total", "Events refused, by reason.", "tenant", "signal", "reason"),
		skipped: counter("skipped_total",
			"Samples without a value, exemplars, and events without a time, by kind.", "tenant", "kind"),
		bytes: counter("body_bytes_total", "Request bodies after decompression.", "tenant"),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "vigie_ingest_request_duration_seconds", Help: "Time from the first header to the answer.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 15), NativeHistogramBucketFactor: 1.1,
		}, []string{"route"}),
		records: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "vigie_ingest_records_total", Help: "Kafka records acknowledged.",
		}),
		labels: map[tenants.ID]string{},
		limit:  tenantLabels,
	}
	if reg != nil {
		reg.MustRegister(m.requests, m.refused, m.accepted, m.rejected, m.skipped, m.bytes, m.seconds, m.records,
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "vigie_ingest_in_flight_bytes", Help: "Memory of request bodies being handled.",
			}, func() float64 { return float64(inFlight.used.Load()) }))
	}
	return m
}

// tenant returns the label of a tenant: its own name, or "other" once there are too many.
func (m *metrics) tenant(id tenants.ID) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if label, ok := m.labels[id]; ok {
		return label
	}
	if len(m.labels) >= m.limit {
		return "other"
	}
	m.labels[id] = string(id)
	return string(id)
}

func (m *metrics) request(route string, code int, took time.Duration) {
	m.requests.WithLabelValues(route, strconv.Itoa(code)).Inc()
	m.seconds.WithLabelValues(route).Observe(took.Seconds())
}

func (m *metrics) skip(id tenants.ID, kind string, n int) {
	if n > 0 {
		m.skipped.WithLabelValues(m.tenant(id), kind).Add(float64(n))
	}
}

// outcome counts the events of one answered request.
func (m *metrics) outcome(id tenants.ID, signal events.Signal, accepted int, rejects []events.Reject) {
	label := m.tenant(id)
	if accepted > 0 {
		m.accepted.WithLabelValues(label, string(signal)).Add(float64(accepted))
	}
	for i := range rejects {
		m.rejected.WithLabelValues(label, string(signal), string(rejects[i].Reason)).Inc()
	}
}
