package verify

import (
	"errors"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// AuditMetrics are the counters of the Auditors of a process. It is safe for concurrent use.
type AuditMetrics struct {
	blocks, differences, repaired, failures *prometheus.CounterVec
	left, at                                *prometheus.GaugeVec

	mu    sync.Mutex
	wrong map[wrongKey]int // what the last audits left wrong
}

// wrongKey is a table and one of those that audit it.
type wrongKey struct {
	by    *Auditor
	table string
}

// NewAuditMetrics registers the counters with reg.
func NewAuditMetrics(reg prometheus.Registerer) *AuditMetrics {
	counter := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"table"})
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, []string{"table"})
	}
	m := &AuditMetrics{
		wrong: map[wrongKey]int{},
		blocks: counter("vigie_sink_audit_blocks_total",
			"Result blocks that audits beside the sink have compared with ClickHouse."),
		differences: counter("vigie_sink_audit_differences_total",
			"Parts of blocks that audits beside the sink found missing; what is not repaired counts again in the next."),
		repaired: counter("vigie_sink_audit_repaired_total", "Parts of blocks that were missing and have been put back."),
		failures: counter("vigie_sink_audit_failures_total",
			"Audits beside the sink that ended without a result, and are tried again."),
		left: gauge("vigie_sink_audit_unrepaired",
			"What the last audits beside the sinks left wrong: parts of blocks that are missing, or 1 when rows are missing that "+
				"blocks do not explain. Alarm when above 0."),
		at: gauge("vigie_sink_audit_timestamp_seconds", "When a table was last audited with a result, Unix seconds."),
	}
	reg.MustRegister(m.blocks, m.differences, m.repaired, m.failures, m.left, m.at)
	names := []string{KeptWindows, KeptWindowSeries, KeptSeries, KeptLabelValues}
	for _, table := range Tables() {
		names = append(names, table.Name)
	}
	for _, name := range names {
		for _, of := range []*prometheus.CounterVec{m.blocks, m.differences, m.repaired, m.failures} {
			of.WithLabelValues(name)
		}
		m.left.WithLabelValues(name)
	}
	return m
}

func (m *AuditMetrics) audited(by *Auditor, table string, found *Audited, err error) {
	m.blocks.WithLabelValues(table).Add(float64(found.Blocks))
	m.differences.WithLabelValues(table).Add(float64(len(found.Missing)))
	m.repaired.WithLabelValues(table).Add(float64(found.Repaired))
	left := len(found.Missing) - found.Repaired
	if err != nil && left == 0 && errors.Is(err, ErrUnresolved) {
		left = 1
	}
	if err != nil && left == 0 {
		m.failures.WithLabelValues(table).Inc()
		return // what is known of the table is known still
	}
	m.leave(wrongKey{by, table}, left)
	m.at.WithLabelValues(table).SetToCurrentTime()
}

// leave notes what one leaves wrong: a table is as wrong as all that audit it say.
func (m *AuditMetrics) leave(of wrongKey, left int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.wrong[of] = left
	sum := 0
	for other, n := range m.wrong {
		if other.table == of.table {
			sum += n
		}
	}
	m.left.WithLabelValues(of.table).Set(float64(sum))
}
