package notify

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the counters of a process's Notifier.
type Metrics struct {
	sent, failures *prometheus.CounterVec
	pending        *prometheus.GaugeVec
	firing         prometheus.Gauge
	unreadable     prometheus.Counter
	delay          prometheus.Histogram
}

// NewMetrics registers the counters with reg.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		sent: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "vigie_notify_sent_alerts_total", Help: "Alerts that an Alertmanager has taken, those sent again included.",
		}, []string{"alertmanager"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "vigie_notify_failures_total", Help: "Requests that an Alertmanager did not take; they are sent again.",
		}, []string{"alertmanager"}),
		pending: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "vigie_notify_pending_alerts",
			Help: "Alerts still to be sent to an Alertmanager. Alarm when above 0 for minutes.",
		}, []string{"alertmanager"}),
		firing: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "vigie_notify_firing_alerts", Help: "Alerts of the stream that fire, of the partitions that this process has.",
		}),
		unreadable: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "vigie_notify_unreadable_total",
			Help: "Records of the topic of alerts that could not be read, and were skipped.",
		}),
		delay: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "vigie_notify_seconds", Help: "Time from writing an alert's record to an Alertmanager having taken it.",
			Buckets: prometheus.ExponentialBuckets(0.002, 2.5, 14), NativeHistogramBucketFactor: 1.1,
			NativeHistogramMaxBucketNumber: 160, NativeHistogramMinResetDuration: time.Hour,
		}),
	}
	if reg != nil {
		reg.MustRegister(m.sent, m.failures, m.pending, m.firing, m.unreadable, m.delay)
	}
	return m
}
