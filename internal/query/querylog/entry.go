package querylog

import (
	"context"
	"time"

	"github.com/vigie-io/vigie/internal/tenants"
)

// Kind says what asked.
type Kind string

// Kinds.
const (
	Instant Kind = "instant" // /api/v1/query
	Range   Kind = "range"   // /api/v1/query_range
	Rule    Kind = "rule"    // an expression of a rule, or of an alert's text
	SQL     Kind = "sql"
)

// OK is the Status of a query that was answered.
const OK = "ok"

// Entry is one query.
type Entry struct {
	Tenant      tenants.ID
	Time        time.Time // it came
	Kind        Kind
	Text        string // as it was asked
	Start, End  time.Time
	Step        time.Duration // of PromQL: the times it was evaluated at, after alignment; zero when it was not
	Waited      time.Duration // for a place among the tenant's queries
	Took        time.Duration // from Time to the end of its answer
	Series      int           // stored series matched
	Samples     int64         // that the engine was given
	Read        Read
	ResultBytes int64  // of the answer, 0 for PromQL
	Status      string // OK, or which limit or kind of error ended it
	Pushdown    string // what the database did for the engine, "none" for nothing
	Plan        string // of a slow query, how it was read: JSON
}

// Read is what the database read for a query.
type Read struct{ Rows, Bytes int64 }

// Store keeps entries. The same token comes again with the same entries when a call did not succeed.
type Store interface {
	InsertQueries(ctx context.Context, token string, entries []Entry) error
}
