package promql

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/vigie-io/vigie/internal/query/querylog"
	"github.com/vigie-io/vigie/internal/tenants"
)

// lagWarning is how far the watermark may be behind the time asked for before the answer says so.
const lagWarning = 5 * time.Minute

// engine wraps upstream's: it moves a query to where its windows are complete and aligned, and bounds it.
type engine struct {
	service *Service
	parser  parser.Parser

	mu      sync.Mutex
	engines map[int]*promql.Engine // by MaxSamples, of which there are as many as tenants have settings
}

var _ promql.QueryEngine = (*engine)(nil)

func newEngine(s *Service) *engine {
	return &engine{service: s, parser: parser.NewParser(parserOptions), engines: make(map[int]*promql.Engine)}
}

var parserOptions = parser.Options{}

func (e *engine) upstream(maxSamples int) *promql.Engine {
	e.mu.Lock()
	defer e.mu.Unlock()
	ng := e.engines[maxSamples]
	if ng == nil {
		ng = promql.NewEngine(promql.EngineOpts{
			Logger:                   e.service.log,
			MaxSamples:               maxSamples,
			Timeout:                  24 * time.Hour, // the tenant's own timeout is in the context
			LookbackDelta:            e.service.cfg.Lookback,
			NoStepSubqueryIntervalFn: noStepSubquery,
			EnableAtModifier:         true,
			EnableNegativeOffset:     true,
			EnablePerStepStats:       true,
			UseStartTimestamps:       true,
			Parser:                   e.parser,
		})
		e.engines[maxSamples] = ng
	}
	return ng
}

// NewInstantQuery evaluates at the last complete 10 s window at or before ts. The result carries that time.
func (e *engine) NewInstantQuery(ctx context.Context, q storage.Queryable, opts promql.QueryOpts, qs string,
	ts time.Time) (promql.Query, error) {
	instant := func(ng *promql.Engine, opts promql.QueryOpts, start, _ time.Time, _ time.Duration) (promql.Query, error) {
		return ng.NewInstantQuery(ctx, q, opts, qs, start)
	}
	return e.ask(ctx, querylog.Instant, opts, qs, ts, ts, 0, instant)
}

// NewRangeQuery evaluates on a grid of whole windows that ends at the watermark.
func (e *engine) NewRangeQuery(ctx context.Context, q storage.Queryable, opts promql.QueryOpts, qs string, start, end time.Time,
	step time.Duration) (promql.Query, error) {
	ranged := func(ng *promql.Engine, opts promql.QueryOpts, start, end time.Time, step time.Duration) (promql.Query, error) {
		return ng.NewRangeQuery(ctx, q, opts, qs, start, end, step)
	}
	return e.ask(ctx, querylog.Range, opts, qs, start, end, step, ranged)
}

type build func(ng *promql.Engine, opts promql.QueryOpts, start, end time.Time, step time.Duration) (promql.Query, error)

func (e *engine) ask(ctx context.Context, kind querylog.Kind, opts promql.QueryOpts, qs string, start, end time.Time,
	step time.Duration, build build) (promql.Query, error) {
	asked := e.service.asked(ctx, kind, qs)
	q, err := e.prepare(ctx, opts, start, end, step, build)
	if err != nil {
		asked.refused()
		return nil, err
	}
	q.asked = asked
	return q, nil
}

func (e *engine) prepare(ctx context.Context, opts promql.QueryOpts, start, end time.Time, step time.Duration,
	build build) (*query, error) {
	tenant, ok := tenants.FromContext(ctx)
	if !ok {
		return nil, errNoTenant
	}
	limits := e.service.limits(tenant)
	a := alignment{engine: e, build: build, upstream: e.upstream(limits.QuerySamples), lookback: e.service.cfg.Lookback}
	if opts != nil {
		a.perStep = opts.EnablePerStepStats()
		if asked := opts.LookbackDelta(); asked > 0 {
			a.lookback = asked
		}
	}
	first, err := a.at(start, end, step)
	if err != nil {
		return nil, err
	}
	query := &query{Query: first, engine: e, tenant: tenant, limits: limits}
	stmt := first.Statement().(*parser.EvalStmt)
	switch n := len(uses(stmt, noStepSubquery)); {
	case n > e.service.cfg.MaxSelectors:
		query.failed = selectorsLimit(e.service.cfg.MaxSelectors)
		return query, nil
	case n == 0:
		return query, nil // 1+1 is right at any time, Grafana asks at time=4
	}
	plan, catalog, err := e.service.read(ctx)
	if err != nil {
		query.failed = err
		return query, nil
	}
	query.plan = plan
	plan.valid = a.lookback.Milliseconds()
	plan.plain = TraceOf(ctx).wantsPlain()
	plan.covers = coverOf(ctx)

	from, to, base := e.service.span(stmt, plan.now)
	if to-from > limits.QueryRange.Milliseconds() {
		query.failed = rangeLimit(limits.QueryRange)
		return query, nil
	}
	a.grid = align(start.UnixMilli(), end.UnixMilli(), step.Milliseconds(), plan.clamp, base)
	if query.warnings = lag(end.UnixMilli(), plan.clamp, plan.now); a.grid.start > a.grid.end {
		query.nothing = true
		return query, nil
	}
	return query, a.fit(query, catalog)
}

// alignment builds one query anew until its times and look-back suit the windows that it reads.
type alignment struct {
	engine   *engine
	build    build
	upstream *promql.Engine
	perStep  bool
	lookback time.Duration
	grid     evaluations
}

// at builds the query. New options also drop a client's wish to leave start timestamps unused.
func (a *alignment) at(start, end time.Time, step time.Duration) (promql.Query, error) {
	return a.build(a.upstream, promql.NewPrometheusQueryOpts(a.perStep, a.lookback, nil), start, end, step)
}

// fit gives q the statement on the grid, with as much look-back as the coarsest windows that it reads need.
func (a *alignment) fit(q *query, catalog *catalog) error {
	service := a.engine.service
	for {
		aligned, err := a.at(time.UnixMilli(a.grid.start), time.UnixMilli(a.grid.end),
			time.Duration(a.grid.step)*time.Millisecond)
		if err != nil {
			return err
		}
		q.Query = aligned
		stmt := aligned.Statement().(*parser.EvalStmt)
		q.warnings.Merge(straighten(stmt.Expr, catalog))
		q.warnings.Merge(misused(stmt, catalog))
		need := time.Duration(q.plan.apply(service, stmt, catalog, a.lookback.Milliseconds())) * time.Millisecond
		if need <= a.lookback {
			q.text = stmt.Expr.String()
			if service.cfg.Pushdown && !q.plan.plain {
				q.plan.push(stmt, catalog, a.lookback.Milliseconds())
			}
			return nil
		}
		a.lookback = need
	}
}

// lag tells the reader of an answer that it is older than asked for.
func lag(asked, clamp, now int64) (warnings annotations.Annotations) {
	warnings = annotations.Annotations{}
	if behind := min(asked, now) - clamp; behind > lagWarning.Milliseconds() {
		warnings.Add(fmt.Errorf("%w: windows are complete up to %s only, nothing later is shown (processing is %s behind)",
			annotations.PromQLWarning, time.UnixMilli(clamp).UTC().Format(time.RFC3339),
			(time.Duration(behind) * time.Millisecond).Round(time.Second)))
	}
	return warnings
}
