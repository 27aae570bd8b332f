package kafka

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are shared by the sessions and the producer of a process. A nil *Metrics counts nothing.
type Metrics struct {
	transactions *prometheus.CounterVec
	seconds      prometheus.Histogram
	published    *prometheus.CounterVec
	fenced       prometheus.Counter
	hung         *prometheus.CounterVec
}

// NewMetrics registers the package's metrics, once per registry.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		transactions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "vigie_kafka_transactions_total",
			Help: "Epoch transactions by result: committed, aborted (a rebalance), failed (the session ends).",
		}, []string{"result"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "vigie_kafka_transaction_seconds", Help: "Time to produce and commit one epoch.",
			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 160, NativeHistogramMinResetDuration: time.Hour,
			Buckets: prometheus.ExponentialBuckets(0.001, 2.5, 12),
		}),
		published: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "vigie_kafka_published_records_total",
			Help: "Records given to Publish by result: acknowledged or failed (some of which may be in the log).",
		}, []string{"result"}),
		fenced: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "vigie_kafka_fenced_total",
			Help: "Sessions of workers that ended because another took over their identity: " +
				"two processes with one kafka.instance, or a transaction that timed out.",
		}),
		hung: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "vigie_kafka_hanging_transactions_total",
			Help: "Transactions that hung in a partition of Kafka, by what came of it: committed or aborted as their coordinator " +
				"had decided, or failed (counted at each attempt; the partition stands still).",
		}, []string{"result"}),
	}
	reg.MustRegister(m.transactions, m.seconds, m.published, m.fenced, m.hung)
	return m
}

func (m *Metrics) transaction(committed bool, err error, took time.Duration) {
	if m == nil {
		return
	}
	result := "aborted"
	if err != nil {
		result = "failed"
	} else if committed {
		result = "committed"
	}
	m.transactions.WithLabelValues(result).Inc()
	m.seconds.Observe(took.Seconds())
}

// hanging counts an attempt to end a transaction that hung.
func (m *Metrics) hanging(commit bool, err error) {
	if m == nil {
		return
	}
	result := "aborted"
	if err != nil {
		result = "failed"
	} else if commit {
		result = "committed"
	}
	m.hung.WithLabelValues(result).Inc()
}

// end counts what ends a session, and returns it.
func (m *Metrics) end(err error) error {
	if m != nil && errors.Is(err, ErrFenced) {
		m.fenced.Inc()
	}
	return err
}

func (m *Metrics) publish(records int, err error) {
	if m == nil {
		return
	}
	result := "acknowledged"
	if err != nil {
		result = "failed"
	}
	m.published.WithLabelValues(result).Add(float64(records))
}
