package ingest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/vigie-io/vigie/internal/tenants"
)

// failure is a request of which nothing was accepted: status, a bounded reason for metrics, and a sentence.
type failure struct {
	status     int
	reason     string
	message    string
	retryAfter time.Duration
	cause      error // for the log, never for the client
}

func (f *failure) Error() string { return f.message }

func fail(status int, reason, format string, args ...any) *failure {
	return &failure{status: status, reason: reason, message: fmt.Sprintf(format, args...)}
}

// asFailure is the one place where errors become statuses.
func (s *Server) asFailure(err error) *failure {
	var f *failure
	switch {
	case errors.As(err, &f):
		return f
	case errors.Is(err, tenants.ErrUnauthenticated):
		return fail(http.StatusUnauthorized, "unauthenticated", "%v", err)
	case errors.Is(err, tenants.ErrForbidden):
		return fail(http.StatusForbidden, "forbidden", "%v", err)
	case errors.Is(err, ErrUnavailable), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		f = fail(http.StatusServiceUnavailable, "kafka_unavailable",
			"Kafka did not acknowledge the events: send them again later")
		f.retryAfter = s.config.RetryAfter
	default:
		f = fail(http.StatusInternalServerError, "internal",
			"the events could not be stored: send them again later, and see this server's log")
	}
	f.cause = err
	return f
}

// headers writes the response headers that a failure has in every protocol.
func (f *failure) headers(h http.Header) {
	if f.retryAfter > 0 {
		seconds := min(math.Ceil(f.retryAfter.Seconds()), 3600)
		h.Set("Retry-After", strconv.Itoa(int(seconds)))
	}
	if f.status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="vigie", Basic realm="vigie", charset="UTF-8"`)
	}
	h.Set("X-Content-Type-Options", "nosniff")
}
