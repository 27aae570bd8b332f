package coarse

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the counters of a process's mergers.
type Metrics struct {
	read, merged, commits, refused, lost prometheus.Counter
	lag                                  *prometheus.GaugeVec
}

// NewMetrics registers the counters with reg.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &Metrics{
		read:    counter("vigie_coarse_rows_read_total", "Rows of results that were merged, those that are read again after a restart twice."),
		merged:  counter("vigie_coarse_rows_merged_total", "Rows of a minute that were committed of them."),
		commits: counter("vigie_coarse_commits_total", "Transactions with merged rows."),
		refused: counter("vigie_coarse_refused_records_total",
			"Result records that could not be read. Their rows are missing in the tiers of a minute and an hour. Alarm on any increase."),
		lost: counter("vigie_coarse_lost_offsets_total",
			"Offsets of results that retention deleted before they were merged. Alarm on any increase."),
		lag: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "vigie_coarse_lag_records",
			Help: "Result records readable and not yet merged, per results partition of this process.",
		}, []string{"partition"}),
	}
	reg.MustRegister(m.read, m.merged, m.commits, m.refused, m.lost, m.lag)
	return m
}

func (m *Metrics) polled(partition int32, lag int64) {
	m.lag.WithLabelValues(strconv.Itoa(int(partition))).Set(float64(lag))
}

// Lost counts offsets that were deleted before they were merged.
func (m *Metrics) Lost(offsets int64) { m.lost.Add(float64(offsets)) }

func (m *Metrics) forget(partition int32) { m.lag.DeleteLabelValues(strconv.Itoa(int(partition))) }
