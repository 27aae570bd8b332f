package promql

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/promql"
)

type metrics struct {
	failures    *prometheus.CounterVec
	storeErrors prometheus.Counter
	selects     prometheus.Counter
	series      prometheus.Counter
	panes       *prometheus.CounterVec
	shared      prometheus.Counter
	slow        prometheus.Counter
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "vigie_query_promql_failures_total",
			Help: "PromQL queries that ended with an error, by reason; a limit is named as its setting.",
		}, []string{"reason"}),
		storeErrors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "vigie_query_store_errors_total", Help: "Reads of the database for PromQL that failed.",
		}),
		selects: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "vigie_query_selects_total", Help: "Selectors read for PromQL queries.",
		}),
		series: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "vigie_query_series_read_total", Help: "Stored series matched by selectors.",
		}),
		panes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "vigie_query_panes_read_total", Help: "Rows of rollups read for PromQL queries, by tier.",
		}, []string{"tier"}),
		shared: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "vigie_query_shared_total", Help: "PromQL requests answered with what an identical one found that was running.",
		}),
		slow: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "vigie_query_slow_total",
			Help: "PromQL queries that took query.promql.slow_query or longer; each is logged with how it was read.",
		}),
	}
	if r != nil {
		r.MustRegister(m.failures, m.storeErrors, m.selects, m.series, m.panes, m.shared, m.slow)
	}
	return m
}

func (m *metrics) failed(err error) { m.failures.WithLabelValues(reason(err)).Inc() }

// reason is from a small set.
func reason(err error) string {
	var (
		limit    *LimitError
		timeout  promql.ErrQueryTimeout
		canceled promql.ErrQueryCanceled
		storage  promql.ErrStorage
	)
	switch {
	case errors.As(err, &limit):
		return limit.Limit
	case errors.As(err, &timeout):
		return "query_timeout"
	case errors.As(err, &canceled):
		return "canceled"
	case errors.As(err, &storage):
		return "store"
	}
	return "evaluation"
}
