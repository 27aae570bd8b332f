package promql

import (
	"context"
	"errors"
	"net/http"

	"github.com/prometheus/prometheus/promql"

	"github.com/vigie-io/vigie/internal/query/slots"
	"github.com/vigie-io/vigie/internal/tenants"
)

// place waits until ctx ends for one of the places that a tenant has for queries, to be released once. Where as many
// wait as may, or ctx ends by its deadline, the error names the limit.
func (s *Service) place(ctx context.Context, tenant tenants.ID) (*slots.Place, error) {
	place, err := s.slots.Acquire(ctx, tenant)
	switch {
	case errors.Is(err, slots.ErrFull):
		err = waitingLimit(s.limits(tenant).QueryConcurrency)
	case errors.Is(err, context.DeadlineExceeded):
		err = timeLimit(s.limits(tenant).QueryTimeout)
	}
	return place, err
}

// statusOf is the HTTP status and Prometheus' error type of a request that failed.
func statusOf(err error) (code int, kind string) {
	var (
		limit   *LimitError
		timeout promql.ErrQueryTimeout
	)
	switch {
	case errors.As(err, &limit) && limit.Limit == queryConcurrency:
		return http.StatusTooManyRequests, "execution"
	case errors.As(err, &limit):
		return http.StatusUnprocessableEntity, "execution"
	case errors.As(err, &timeout):
		return http.StatusServiceUnavailable, "timeout"
	}
	return http.StatusInternalServerError, "internal"
}
