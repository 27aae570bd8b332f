package promql

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/prometheus/prometheus/promql"

	"github.com/vigie-io/vigie/internal/tenants"
)

// LimitError says which limit a query met and how to narrow it. Its text is meant for the tenant.
type LimitError struct {
	Limit string // the setting's name, "query_series" of the tenant's limits
	Value any    // what it is set to
	Met   string // "the query selects more series than one selector may"
	Hint  string // what to change
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("%s (limit %s = %v): %s", e.Met, e.Limit, e.Value, e.Hint)
}

func seriesLimit(limit int) error {
	return &LimitError{"query_series", limit, "a selector matches too many series",
		"add label matchers, or query a metric with fewer labels"}
}

func samplesLimit(limit int) error {
	return &LimitError{"query_samples", limit, "the query holds too many samples in memory",
		"shorten the time range or the [range], add label matchers, or take a longer step"}
}

// queryConcurrency is the limit of a tenant's places; a request that finds none is answered another status than other
// limits.
const queryConcurrency = "query_concurrency"

func waitingLimit(limit int) error {
	return &LimitError{queryConcurrency, limit, "too many queries of this tenant run and wait",
		"run fewer queries at a time, or refresh dashboards less often"}
}

func selectorsLimit(limit int) error {
	return &LimitError{"promql.max_selectors", limit, "the query has too many selectors",
		"ask for fewer metrics at a time, or match several names with one selector"}
}

func rangeLimit(limit time.Duration) error {
	return &LimitError{"query_range", limit, "the query covers too long a time",
		"shorten the time range, the [range] or the offset"}
}

func timeLimit(limit time.Duration) error {
	return promql.ErrQueryTimeout(fmt.Sprintf(
		"query execution (limit query_timeout = %s): shorten the time range, add label matchers, or take a longer step", limit))
}

// errStore is all that a client learns of a database error; the cause is logged.
var errStore = promql.ErrStorage{
	Err: errors.New("the database did not answer this read; try again, and see the server's log if it lasts"),
}

// budget counts the samples that the selectors of one query hold. Safe for concurrent use.
type budget struct {
	limit int
	used  atomic.Int64
}

func (b *budget) take(n int) error {
	if b.used.Add(int64(n)) > int64(b.limit) {
		return samplesLimit(b.limit)
	}
	return nil
}

// nameLimit turns the engine's own limit errors into ones that name the setting and say what to change.
func nameLimit(err error, l tenants.Limits) error {
	var (
		samples promql.ErrTooManySamples
		timeout promql.ErrQueryTimeout
	)
	switch {
	case errors.As(err, &samples):
		return samplesLimit(l.QuerySamples)
	case errors.As(err, &timeout), errors.Is(err, context.DeadlineExceeded):
		return timeLimit(l.QueryTimeout)
	}
	return err
}
