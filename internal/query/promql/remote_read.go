package promql

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/storage/remote"
)

const (
	readConcurrency = 64      // of all tenants together; each has its own bound besides
	readFrame       = 1 << 20 // bytes of a frame of chunks
)

// remoteRead serves Prometheus' remote read, both kinds of answers. Counters kept in windows are totals since the start
// of the range.
func (s *Service) remoteRead() http.Handler {
	upstream := remote.NewReadHandler(s.log, prometheus.NewRegistry(), s.Queryable(),
		func() config.Config { return config.DefaultConfig },
		0, readConcurrency, readFrame)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		upstream.ServeHTTP(w, r.WithContext(asTotals(r.Context())))
	})
}
