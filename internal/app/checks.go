package app

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// Checks are the metrics that one run of `vigie verify` or `vigie audit` leaves in a file, for the textfile collector
// of the node exporter: such a run ends long before anybody could scrape it.
type Checks struct {
	check       string
	reg         *prometheus.Registry
	differences *prometheus.GaugeVec
	ended       *prometheus.GaugeVec
}

// NewChecks returns the metrics of a run of check, "verify" or "audit", and registers them with reg, too, when it is
// not nil.
func NewChecks(check string, reg prometheus.Registerer) *Checks {
	c := &Checks{
		check: check, reg: prometheus.NewRegistry(),
		differences: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "vigie_check_differences",
			Help: "What the last run found wrong and left so: of vigie verify rows that differ, of vigie audit blocks that are missing.",
		}, []string{"check", "topic", "table"}),
		ended: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "vigie_check_timestamp_seconds", Help: "When the last run ended that came to a result, Unix seconds.",
		}, []string{"check"}),
	}
	c.reg.MustRegister(c.differences, c.ended)
	if reg != nil {
		reg.MustRegister(c.differences, c.ended)
	}
	return c
}

// Found notes the result for a table.
func (c *Checks) Found(topic, table string, differences int) {
	c.differences.WithLabelValues(c.check, topic, table).Set(float64(differences))
}

// Write replaces the file; "" writes nothing.
func (c *Checks) Write(file string) error {
	if file == "" {
		return nil
	}
	c.ended.WithLabelValues(c.check).SetToCurrentTime()
	if err := prometheus.WriteToTextfile(file, c.reg); err != nil {
		return fmt.Errorf("write -metrics %s: %w", file, err)
	}
	return nil
}
