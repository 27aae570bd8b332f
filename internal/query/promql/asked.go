package promql

import (
	"context"
	"time"

	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/rules"

	"github.com/vigie-io/vigie/internal/query/querylog"
	"github.com/vigie-io/vigie/internal/tenants"
)

// asked is a query on its way into the log of queries.
type asked struct {
	log   *querylog.Log
	entry querylog.Entry
	began time.Time
	done  bool
}

// asked begins the entry of a query. What a rule asks says so in its context.
func (s *Service) asked(ctx context.Context, kind querylog.Kind, text string) *asked {
	tenant, _ := tenants.FromContext(ctx)
	if rules.FromOriginContext(ctx).Name != "" {
		kind = querylog.Rule
	}
	return &asked{
		log: s.queryLog, began: time.Now(),
		entry: querylog.Entry{Tenant: tenant, Time: s.now(), Kind: kind, Text: text, Pushdown: "none"},
	}
}

// refused ends the entry of a query that cannot be evaluated.
func (a *asked) refused() {
	a.entry.Status = "bad_data"
	a.end()
}

// admitted says that the query has a place, or will get none.
func (a *asked) admitted() { a.entry.Waited = time.Since(a.began) }

// read takes down how a query was read. plan is "" when that was quick.
func (a *asked) read(q *query, t *Trace, plan string) {
	if q.plan != nil {
		stmt := q.Statement().(*parser.EvalStmt)
		a.entry.Start, a.entry.End, a.entry.Step = stmt.Start, stmt.End, stmt.Interval
	}
	if stats := q.Stats(); stats != nil && stats.Samples != nil {
		a.entry.Samples = stats.Samples.TotalSamples
	}
	a.entry.Pushdown, a.entry.Plan = t.pushdown(), plan
	t.mu.Lock()
	defer t.mu.Unlock()
	a.entry.Read = t.read
	for _, s := range t.selectors {
		a.entry.Series += s.Series
	}
}

// answered ends the entry. err is the query's.
func (a *asked) answered(err error) {
	a.entry.Status = querylog.OK
	if err != nil {
		a.entry.Status = reason(err)
	}
	a.end()
}

func (a *asked) end() {
	if a.done {
		return
	}
	a.done = true
	a.entry.Took = time.Since(a.began)
	a.log.Add(a.entry)
}
