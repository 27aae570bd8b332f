package sink

import (
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the counters of a process's sinks, one for each topic; a sink that is made anew goes on with them.
type Metrics struct {
	rows, blocks, bytes, failures *prometheus.CounterVec
	seconds                       *prometheus.HistogramVec
	freshness                     *prometheus.HistogramVec
	lag                           *prometheus.GaugeVec
	parked                        prometheus.Counter
	parkedLast                    prometheus.Gauge
	stalled, buffered             prometheus.Gauge
	suspicious                    *prometheus.GaugeVec
	deduplicated                  *prometheus.CounterVec

	mu         sync.Mutex
	duplicates map[string]uint64 // by server, as it said last
	since      uint64            // of all servers, since the first that each said
}

// NewMetrics registers the counters with reg.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	histogram := func(name, help string, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: name, Help: help,
			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 160,
			NativeHistogramMinResetDuration: time.Hour,
			Buckets:                         prometheus.ExponentialBuckets(0.002, 2.5, 14),
		}, labels)
	}
	m := &Metrics{
		rows:   counter("vigie_sink_rows_total", "Rows stored, including those ClickHouse dropped as duplicates.", "table"),
		blocks: counter("vigie_sink_blocks_total", "Blocks stored: one INSERT each.", "table"),
		bytes:  counter("vigie_sink_bytes_total", "Bytes of stored blocks.", "table"),
		failures: counter("vigie_sink_insert_failures_total",
			"Inserts that did not succeed, by what follows: retry or refused.", "table", "class"),
		seconds: histogram("vigie_sink_insert_seconds", "Time of one successful INSERT.", "table"),
		freshness: histogram("vigie_sink_freshness_seconds",
			"Age of what became queryable: at the end of an INSERT, since the newest event "+
				"of the block (from=\"event\") or, when the record does not say it, "+
				"since its epoch was produced (from=\"epoch\").", "table", "from"),
		lag: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "vigie_sink_lag_records",
			Help: "Result records readable and not yet stored, per partition of this process: of the results, and of what is merged of them.",
		}, []string{"topic", "partition"}),
		parked: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "vigie_sink_parked_total", Help: "Result records refused for their content and parked. Alarm on any increase.",
		}),
		parkedLast: gauge("vigie_sink_parked_last_timestamp_seconds",
			"When this process last parked a record, Unix seconds; 0 when never."),
		stalled: gauge("vigie_sink_stalled_partitions",
			"Partitions that wait for an insert or a parking that does not succeed. Alarm when above 0 for minutes."),
		suspicious: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "vigie_sink_refusing",
			Help: "1 when stream.inserts.park_limit blocks of a topic in a row were refused: the server is at fault, nothing more is " +
				"parked. Alarm at 1.",
		}, []string{"topic"}),
		buffered: gauge("vigie_sink_buffered_bytes", "Bytes of result records held in memory."),
		deduplicated: counter("vigie_sink_deduplicated_blocks_total",
			"Blocks that a ClickHouse server dropped because it had them, whoever sent them, since this "+
				"process watches it; a result block counts once for each table behind it.", "server"),
		duplicates: make(map[string]uint64),
	}
	reg.MustRegister(m.rows, m.blocks, m.bytes, m.failures, m.seconds, m.freshness, m.lag, m.parked, m.parkedLast,
		m.stalled, m.suspicious, m.buffered, m.deduplicated)
	return m
}

func (m *Metrics) inserted(r *Record, b *block, start, end time.Time) {
	m.rows.WithLabelValues(b.table).Add(float64(b.rows))
	m.blocks.WithLabelValues(b.table).Inc()
	m.bytes.WithLabelValues(b.table).Add(float64(len(r.Value)))
	m.seconds.WithLabelValues(b.table).Observe(end.Sub(start).Seconds())
	since, from := r.Time, "epoch"
	if !b.newest.IsZero() {
		since, from = b.newest, "event"
	}
	m.freshness.WithLabelValues(b.table, from).Observe(end.Sub(since).Seconds())
}

func (m *Metrics) failure(table string, refused bool) {
	class := "retry"
	if refused {
		class = "refused"
	}
	m.failures.WithLabelValues(table, class).Inc()
}

func (m *Metrics) park(now time.Time) {
	m.parked.Inc()
	m.parkedLast.Set(float64(now.Unix()))
}

// Duplicates takes how many blocks a server says that it dropped as duplicates since it started. What it said first
// counts as nothing, and less than before as a restart.
func (m *Metrics) Duplicates(server string, total uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	last, known := m.duplicates[server]
	m.duplicates[server] = total
	fresh := total
	switch {
	case !known:
		fresh = 0
	case total >= last:
		fresh = total - last
	}
	m.since += fresh
	m.deduplicated.WithLabelValues(server).Add(float64(fresh))
}

// Deduplicated is the sum over servers of what Duplicates counted.
func (m *Metrics) Deduplicated() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.since
}

func (m *Metrics) setLag(topic string, partition int32, records int64) {
	m.lag.WithLabelValues(topic, label(partition)).Set(float64(records))
}

func (m *Metrics) forget(topic string, partition int32) {
	m.lag.DeleteLabelValues(topic, label(partition))
}

// reset forgets what a sink that has ended said.
func (m *Metrics) reset(topic string) { m.lag.DeletePartialMatch(prometheus.Labels{"topic": topic}) }

// refusing says whether the server is taken to be at fault.
func (m *Metrics) refusing(topic string, is bool) {
	value := 0.0
	if is {
		value = 1
	}
	m.suspicious.WithLabelValues(topic).Set(value)
}

func label(partition int32) string { return strconv.Itoa(int(partition)) }
