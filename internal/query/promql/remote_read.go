package promql

import (
	"errors"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/storage/remote"

	"github.com/vigie-io/vigie/internal/query/slots"
	"github.com/vigie-io/vigie/internal/tenants"
)

const (
	readConcurrency = 64      // of all tenants together; each has its own bound besides
	readFrame       = 1 << 20 // bytes of a frame of chunks
)

// remoteRead serves Prometheus' remote read, both kinds of answers. Counters kept in windows are totals since the start of the range.
func (s *Service) remoteRead() http.Handler {
	upstream := remote.NewReadHandler(s.log, prometheus.NewRegistry(), s.Queryable(), func() config.Config { return config.DefaultConfig },
		0, readConcurrency, readFrame)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tenant, ok := tenants.FromContext(r.Context())
		if !ok {
			writeError(w, http.StatusInternalServerError, "internal", errNoTenant.Error())
			return
		}
		release, err := s.slots.Acquire(r.Context(), tenant)
		if err != nil {
			if errors.Is(err, slots.ErrFull) {
				err = waitingLimit(s.limits(tenant).QueryConcurrency)
			}
			http.Error(w, err.Error(), http.StatusTooManyRequests)
			return
		}
		defer release()
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		upstream.ServeHTTP(w, r.WithContext(asTotals(r.Context())))
	})
}
