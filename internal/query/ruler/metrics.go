package ruler

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	evaluations prometheus.Counter
	failures    *prometheus.CounterVec
	missed      prometheus.Counter
	unsettled   prometheus.Counter
	samples     prometheus.Counter
	leftOut     *prometheus.CounterVec
	configured  prometheus.Gauge
	groups      prometheus.Gauge
	lag         prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		evaluations: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "vigie_ruler_evaluations_total", Help: "Evaluations of rule groups that were committed.",
		}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "vigie_ruler_failures_total",
			Help: "What went wrong: rule (a rule could not be evaluated and is skipped), database (an evaluation is tried again), " +
				"commit (a shard begins anew).",
		}, []string{"reason"}),
		missed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "vigie_ruler_missed_evaluations_total",
			Help: "Evaluations skipped because they were later than rules.backfill.",
		}),
		unsettled: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "vigie_ruler_unsettled_total",
			Help: "Tenants whose rules were taken over and evaluated before all that they had recorded was stored, because the stream " +
				"was behind by more than rules.backfill.",
		}),
		samples: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "vigie_ruler_samples_total", Help: "Samples recorded by rules, those of ALERTS and ALERTS_FOR_STATE included.",
		}),
		leftOut: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "vigie_ruler_left_out_samples_total",
			Help: "Results of rules that are not recorded, by reason: not_finite, histogram.",
		}, []string{"reason"}),
		configured: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "vigie_ruler_configured_groups",
			Help: "Rule groups in the files that this process has read, whichever process evaluates them.",
		}),
		groups: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "vigie_ruler_groups", Help: "Rule groups that this process evaluates now.",
		}),
		lag: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "vigie_ruler_lag_seconds",
			Help: "How far the latest evaluation of the group that is most behind lies in the past.",
		}),
	}
	for _, reason := range []string{failedRule, failedDatabase, failedCommit} {
		m.failures.WithLabelValues(reason)
	}
	if r != nil {
		r.MustRegister(m.evaluations, m.failures, m.missed, m.unsettled, m.samples, m.leftOut, m.configured, m.groups, m.lag)
	}
	return m
}

// Reasons of failures.
const (
	failedRule     = "rule"
	failedDatabase = "database"
	failedCommit   = "commit"
)
