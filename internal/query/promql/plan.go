package promql

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/vigie-io/vigie/internal/tenants"
)

// plan is what the selectors of one query have in common. It travels in the context from Exec to Select.
type plan struct {
	tenant tenants.ID
	limits tenants.Limits
	now    int64 // Unix ms
	clamp  int64 // no pane that ends later is read
	coarse int64 // tiers wider than 10 s are read up to there; not after clamp
	closed int64 // no closed window that ends later is read; not after clamp
	valid  int64 // how long a level stays valid at 10 s and 1 m, ms
	budget budget
	// choices by a selector's first matcher: the engine hands the very matchers of the tree to Select.
	choices map[*labels.Matcher]choice
	plain   bool                         // nothing is pushed down
	covers  func([]*labels.Matcher) bool // nil, or says of which selectors others than Store have samples, too
}

// choice is how one selector is read.
type choice struct {
	tier     Tier
	smoothed bool
	trim     int64    // how much later than the engine's lookback says its samples begin, ms
	fold     *fold    // nil: series by series
	steps    *stepped // nil: the engine evaluates its samples
	why      string   // it does
}

type planKey struct{}

func (p *plan) context(ctx context.Context) context.Context {
	return context.WithValue(ctx, planKey{}, p)
}

func planOf(ctx context.Context) (*plan, bool) {
	p, ok := ctx.Value(planKey{}).(*plan)
	return p, ok
}

var errNoTenant = errors.New("BUG: a query without a tenant in its context")

// newPlan asks how far the tenant's windows are complete.
func (s *Service) newPlan(ctx context.Context) (*plan, error) {
	tenant, ok := tenants.FromContext(ctx)
	if !ok {
		return nil, errNoTenant
	}
	rows, err := s.progress.get(ctx, tenant)
	if err != nil {
		return nil, s.storeError(ctx, tenant, "progress", err)
	}
	p := &plan{
		tenant: tenant,
		limits: s.limits(tenant),
		now:    s.now().UnixMilli(),
		valid:  s.cfg.Lookback.Milliseconds(),

		choices: make(map[*labels.Matcher]choice),
	}
	p.clamp = watermark(rows, p.now)
	p.coarse = coarseUpTo(rows, p.now, p.clamp)
	p.closed = closedUpTo(rows, p.now, p.clamp)
	p.budget.limit = p.limits.QuerySamples
	return p, nil
}

var tiers = []Tier{Tier10s, Tier1m, Tier1h}

// kept returns the finest tier that still has windows of the time from.
func (s *Service) kept(from, now int64) Tier {
	switch {
	case from >= s.keptSince(Tier10s, now):
		return Tier10s
	case from >= s.keptSince(Tier1m, now):
		return Tier1m
	}
	return Tier1h
}

// keptSince is the time (Unix ms) from which on the tier of 10 s or 1 m still has windows.
func (s *Service) keptSince(tier Tier, now int64) int64 {
	if tier == Tier10s {
		return now - s.cfg.Retention10s.Milliseconds()
	}
	return now - s.cfg.Retention1m.Milliseconds()
}

// keeps tells whether the tier has windows of the time t.
func (s *Service) keeps(tier Tier, t, now int64) bool { return s.kept(t, now) <= tier }

// use is one selector of a query and where it stands.
type use struct {
	selector *parser.VectorSelector
	call     string // the function around its range, "" for an instant selector
	subquery bool
	rng      int64 // ms, 0 for an instant selector
	shift    int64 // its offset and those of the subqueries around it, ms
	step     int64 // between evaluations, 0 when there is one; the innermost subquery's inside one
	first    int64 // first evaluation, before shift
	from, to int64 // what it reads, without lookback
	at       bool  // it or a subquery around it has an @
	fold     *fold // the sum around it, or nil
}

// uses lists the selectors of a statement in the order the engine selects them.
func uses(stmt *parser.EvalStmt, defaultStep func(rng int64) int64) []use {
	var (
		list []use
		rng  int64
	)
	parser.Inspect(stmt.Expr, func(node parser.Node, path []parser.Node) error {
		switch n := node.(type) {
		case *parser.MatrixSelector:
			rng = n.Range.Milliseconds()
		case *parser.VectorSelector:
			u := use{
				selector: n, rng: rng, step: stmt.Interval.Milliseconds(),
				first: stmt.Start.UnixMilli(), from: stmt.Start.UnixMilli(), to: stmt.End.UnixMilli(),
			}
			rng = 0
			u.place(path, defaultStep)
			u.fold = foldOf(path)
			if !stmt.Start.Before(stmt.End) && !u.subquery {
				u.step = 0
			}
			list = append(list, u)
		}
		return nil
	})
	return list
}

// place walks from the root to the selector.
func (u *use) place(path []parser.Node, defaultStep func(rng int64) int64) {
	for _, node := range path {
		switch n := node.(type) {
		case *parser.Call:
			u.call = n.Func.Name
		case *parser.SubqueryExpr:
			u.subquery, u.call = true, ""
			if u.step = n.Step.Milliseconds(); u.step == 0 {
				u.step = defaultStep(n.Range.Milliseconds())
			}
			if n.Timestamp != nil {
				u.at, u.from, u.to, u.shift = true, *n.Timestamp, *n.Timestamp, 0
			}
			u.shift += n.OriginalOffset.Milliseconds()
			u.from -= n.Range.Milliseconds() + n.OriginalOffset.Milliseconds()
			u.to -= n.OriginalOffset.Milliseconds()
		}
	}
	if u.rng == 0 {
		u.call = ""
	}
	if t := u.selector.Timestamp; t != nil {
		u.at, u.from, u.to, u.shift = true, *t, *t, 0
	}
	offset := u.selector.OriginalOffset.Milliseconds()
	u.shift += offset
	u.from -= offset + u.rng
	u.to -= offset
}

// aligned tells whether every range of the use begins and ends on a window's border.
func (u *use) aligned(width int64) bool {
	if u.rng%width != 0 || u.step%width != 0 {
		return false
	}
	if u.at {
		return u.to%width == 0
	}
	if u.subquery { // evaluated at multiples of its step
		return u.shift%width == 0
	}
	return (u.first-u.shift)%width == 0
}

// windowSums are the functions that give the same answer over any windows whose borders are the range's.
var windowSums = map[string]bool{"rate": true, "increase": true, "sum_over_time": true}

// levelPoints is how many samples of a gauge one instant selector reads before it takes a coarser tier.
const levelPoints = 4000

// tier chooses the windows a selector reads: the finest that are kept, or coarser ones when they give exactly
// the same answer for less. Into what is after clamp, of which there are no windows yet, the engine extrapolates by
// their width.
func (s *Service) tier(u *use, k kinds, now, clamp int64) Tier {
	best := s.kept(u.from, now)
	for _, coarser := range tiers {
		if coarser <= best || !u.aligned(coarser.millis()) {
			continue
		}
		sums := windowSums[u.call] && k&kindLevel == 0 && k&^kindClosed != 0 && u.to <= clamp
		long := u.rng == 0 && k == kindLevel && u.step >= coarser.millis() && (u.to-u.from)/best.millis() > levelPoints
		if sums || long {
			best = coarser
		}
	}
	return best
}

// smooth tells whether a range's ends have to be interpolated inside windows: upstream's extrapolation would
// drop a window that is cut, and finds nothing at all in a range shorter than two of them.
func smooth(u *use, k kinds, tier Tier) bool {
	if u.call != "rate" && u.call != "increase" || u.selector.Anchored || u.selector.Smoothed || k&kindClosed != 0 {
		return false
	}
	if k&kindLevel == 0 {
		return !u.aligned(tier.millis())
	}
	// Levels keep Prometheus' semantics, but that their samples lie a minute or an hour apart is our doing.
	return tier > Tier10s && u.rng < 2*tier.millis()
}

// straighten replaces rate(m[5m:1m]) over a bare delta selector by rate(m[5m]): a subquery cuts the start
// timestamps off, and what is left of windows looks like a counter that resets all the time.
func straighten(root parser.Expr, catalog *catalog) annotations.Annotations {
	var warnings annotations.Annotations
	parser.Inspect(root, func(node parser.Node, _ []parser.Node) error {
		call, ok := node.(*parser.Call)
		if !ok || call.Func.Name != "rate" && call.Func.Name != "increase" && call.Func.Name != "irate" {
			return nil
		}
		sub, ok := call.Args[0].(*parser.SubqueryExpr)
		if !ok {
			return nil
		}
		inner := sub.Expr
		for {
			paren, ok := inner.(*parser.ParenExpr)
			if !ok {
				break
			}
			inner = paren.Expr
		}
		selector, ok := inner.(*parser.VectorSelector)
		if !ok || catalog.kinds(selector.LabelMatchers)&(kindSketch|kindDelta) == 0 {
			return nil
		}
		if sub.Timestamp != nil || selector.Timestamp != nil || catalog.kinds(selector.LabelMatchers)&kindLevel != 0 {
			warnings.Add(fmt.Errorf("%w: %s over a subquery of a counter kept in windows is not its %[2]s; write %[2]s(%s[%s])",
				annotations.PromQLWarning, call.Func.Name, selector, model.Duration(sub.Range)))
			return nil
		}
		selector.OriginalOffset += sub.OriginalOffset
		call.Args[0] = &parser.MatrixSelector{VectorSelector: selector, Range: sub.Range, EndPos: sub.EndPos}
		return nil
	})
	return warnings
}

// apply prepares a parsed statement: chooses tiers, marks what is smoothed, and returns the lookback that the engine
// needs (lookback, or more) for instant selectors. What only some of them need, the others do without.
func (p *plan) apply(s *Service, stmt *parser.EvalStmt, catalog *catalog, lookback int64) (need int64) {
	own := make(map[*labels.Matcher]int64)
	for _, u := range uses(stmt, noStepSubquery) {
		k := catalog.kinds(u.selector.LabelMatchers)
		tier := s.tier(&u, k, p.now, p.clamp)
		if k != 0 && smooth(&u, k, tier) {
			u.selector.Smoothed = true
		}
		key := u.selector.LabelMatchers[0]
		chosen := choice{tier: tier, smoothed: u.selector.Smoothed}
		if s.cfg.Pushdown && !p.plain && !p.covered(u.selector) {
			chosen.fold = u.fold.of(&u, k, p.clamp)
		}
		p.choices[key] = chosen
		of := p.valid
		if tier > Tier10s {
			// Samples of wide windows lie far apart: what is valid for less than two of them would flicker.
			of = max(of, 2*tier.millis())
		}
		if k&kindClosed != 0 {
			// A result stands until the next is known, which may take as long as a silent tenant is waited for.
			of = max(of, catalog.longestOf(u.selector.LabelMatchers)+staleProgress.Milliseconds())
		}
		if u.rng == 0 && !u.selector.Smoothed && !u.selector.Anchored {
			own[key] = of
		}
		need = max(need, of)
	}
	need = max(need, lookback)
	for key, of := range own {
		c := p.choices[key]
		c.trim = need - of
		p.choices[key] = c
	}
	return need
}

// counterOnly are functions that say nothing about results of closed windows.
var counterOnly = map[string]bool{"rate": true, "increase": true, "irate": true, "resets": true}

// misused warns of functions for counters over closed windows.
func misused(stmt *parser.EvalStmt, catalog *catalog) annotations.Annotations {
	var warnings annotations.Annotations
	for _, u := range uses(stmt, noStepSubquery) {
		if k := catalog.kinds(u.selector.LabelMatchers); counterOnly[u.call] && k != 0 && k&^kindClosed == 0 {
			warnings.Add(fmt.Errorf("%w: %s(%s[…]): closed windows are gauges, each a result of its own; take it as it is, "+
				"or with sum_over_time, avg_over_time or max_over_time (sums of windows that overlap count twice)",
				annotations.PromQLWarning, u.call, u.selector))
		}
	}
	return warnings
}

// span is the time a statement covers, lookback left out, and the finest tier that has all of it.
func (s *Service) span(stmt *parser.EvalStmt, now int64) (from, to int64, base Tier) {
	from, to, base = math.MaxInt64, math.MinInt64, Tier10s
	for _, u := range uses(stmt, noStepSubquery) {
		from, to = min(from, u.from), max(to, u.to)
		base = max(base, s.kept(u.from, now))
	}
	return from, to, base
}

// noStepSubquery is the step of [5m:], upstream's default evaluation interval.
func noStepSubquery(int64) int64 { return time.Minute.Milliseconds() }
