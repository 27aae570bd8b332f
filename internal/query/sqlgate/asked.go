package sqlgate

import (
	"errors"
	"regexp"
	"time"

	"github.com/vigie-io/vigie/internal/query/querylog"
	"github.com/vigie-io/vigie/internal/tenants"
)

// brokenOff is the status of a statement whose answer did not get to its end.
const brokenOff = "broken_off"

// asked is a statement on its way into the log of queries.
type asked struct {
	entry querylog.Entry
	began time.Time
}

func ask(tenant tenants.ID) *asked {
	now := time.Now()
	// What ends without a word was broken off.
	return &asked{querylog.Entry{Tenant: tenant, Time: now, Kind: querylog.SQL, Status: brokenOff}, now}
}

// failed takes down that the statement got no answer for err, or that it got one when err is nil.
func (a *asked) failed(err error) {
	var e *Exception
	switch {
	case errors.As(err, &e):
		a.entry.Status = e.name
	case err != nil:
		a.entry.Status = networkError.name
	case a.entry.Status == brokenOff:
		a.entry.Status = querylog.OK
	}
}

func (a *asked) ended() querylog.Entry {
	a.entry.Took = time.Since(a.began)
	return a.entry
}

// errorName is where ClickHouse says an error's name.
var errorName = regexp.MustCompile(`\(([A-Z][A-Z0-9_]+)\)(?: \(version .*\))?\s*$`)

// exceptionName is the name of ClickHouse's error.
func exceptionName(text string) string {
	if found := errorName.FindStringSubmatch(text); found != nil {
		return found[1]
	}
	return "error"
}
