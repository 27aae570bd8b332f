package promql

import (
	"context"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/vigie-io/vigie/internal/tenants"
)

// query is an upstream query at its aligned times, bounded while it runs.
type query struct {
	promql.Query
	engine   *engine
	tenant   tenants.ID
	limits   tenants.Limits
	plan     *plan  // nil when nothing is selected
	text     string // as it is evaluated, before parts of it are
	warnings annotations.Annotations
	nothing  bool  // the whole range lies after the watermark
	failed   error // what went wrong before anything ran; not the query's own fault
	asked    *asked
}

func (q *query) Exec(ctx context.Context) *promql.Result {
	if q.failed != nil {
		return q.done(&promql.Result{Err: q.failed})
	}
	if q.nothing {
		return q.done(&promql.Result{Value: promql.Matrix{}, Warnings: q.warnings})
	}
	ctx, cancel := context.WithTimeout(ctx, q.limits.QueryTimeout)
	defer cancel()
	place, err := q.engine.service.place(ctx, q.tenant)
	q.asked.admitted()
	if err != nil {
		return q.done(&promql.Result{Err: err})
	}
	defer place.Release()
	ctx = place.Context(ctx)
	if q.plan != nil {
		ctx = q.plan.context(ctx)
	}
	ctx, trace := q.traced(ctx)
	q.trace(ctx)
	begin := time.Now()
	result := q.Query.Exec(ctx)
	q.asked.read(q, trace, q.slow(trace, time.Since(begin), result.Err))
	if len(q.warnings) > 0 {
		result.Warnings.Merge(q.warnings)
	}
	return q.done(result)
}

func (q *query) trace(ctx context.Context) {
	if q.plan == nil {
		return
	}
	stmt := q.Statement().(*parser.EvalStmt)
	p := tracedPlan{Query: q.text, Start: stmt.Start.UTC(), End: stmt.End.UTC(), Watermark: time.UnixMilli(q.plan.clamp).UTC()}
	if q.plan.coarse > 0 {
		p.Coarse = time.UnixMilli(q.plan.coarse).UTC()
	}
	if stmt.Interval > 0 {
		p.Step = stmt.Interval.String()
	}
	TraceOf(ctx).planned(p)
}

func (q *query) done(r *promql.Result) *promql.Result {
	if r.Err != nil {
		r.Err = nameLimit(r.Err, q.limits)
		q.engine.service.metrics.failed(r.Err)
	}
	q.asked.answered(r.Err)
	return r
}
