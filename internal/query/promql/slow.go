package promql

import (
	"context"
	"encoding/json"
	"time"
)

// longestLogged is how much of a query's text is logged.
const longestLogged = 2000

// traced returns a context in which the query is traced.
func (q *query) traced(ctx context.Context) (context.Context, *Trace) {
	if t := TraceOf(ctx); t != nil {
		return ctx, t
	}
	return WithTrace(ctx)
}

// slow logs and counts a query that took long, with how it was read, so that what has to be narrowed can be seen. It
// returns that as JSON, "" when the query was not slow.
func (q *query) slow(t *Trace, took time.Duration, err error) (plan string) {
	s := q.engine.service
	if s.cfg.SlowQuery == 0 || took < s.cfg.SlowQuery {
		return ""
	}
	s.metrics.slow.Inc()
	e := t.explained(took)
	selectors, _ := json.Marshal(e.Selectors) // strings, numbers and booleans
	text := e.Query
	if len(text) > longestLogged {
		text = text[:longestLogged]
	}
	s.log.Warn("slow query", "tenant", q.tenant, "query", text, "start", e.Start, "end", e.End, "step", e.Step,
		"seconds", took.Seconds(), "pushdown", t.pushdown(), "selectors", string(selectors), "statements", len(e.Statements),
		"err", err)
	return string(selectors)
}
