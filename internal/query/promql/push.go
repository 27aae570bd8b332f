package promql

import (
	"math/bits"
	"strings"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
)

// A part of a query is stepped when its values at the evaluations are computed while its selector is read: the database
// gathers each series into one row, upstream's own function is applied to what a step sees of it, and the engine is
// given a selector in place of the part, whose samples lie at the evaluations. What can be stepped is small, and what
// is around it is the engine's:
//
//	part = function(selector[range], numbers…) | selector of gauges
//	     | (sum|avg|count|min|max|group) by|without (…) part
//	     | histogram_quantile(number, sum by|without (…) (rate|increase|sum_over_time(selector of sketches[range])))
//
// stepped is one such part.
type stepped struct {
	selector  *parser.VectorSelector
	matrix    *parser.MatrixSelector // nil: an instant selector
	call      *parser.Call           // nil for an instant selector
	numbers   []promql.Vector        // the call's other arguments
	aggregate *parser.AggregateExpr  // nil: none
	quantile  *parser.Call           // of what is aggregated; nil: none
	phi       float64                // which one

	use      *use
	at       evaluations // of the statement; step 1 for an instant
	lookback int64       // of an instant selector, ms
}

// found is a part in its place in the tree, or why the selector there is in none.
type found struct {
	part   *stepped
	parent parser.Node // nil: the part is the whole query
	node   parser.Expr // what the part replaces
	why    string      // there is no part

	quantile *found // with histogram_quantile around it, or nil
}

// overRange are the functions that say one number of one range of a series. What they say of the ends of ranges, of
// pauses and of resets is upstream's code in any case.
var overRange = setOf("rate", "increase", "irate", "delta", "idelta", "deriv", "changes", "resets", "predict_linear",
	"avg_over_time", "min_over_time", "max_over_time", "sum_over_time", "count_over_time", "last_over_time", "present_over_time",
	"stddev_over_time", "stdvar_over_time", "quantile_over_time")

// looksInside are functions that look at how their argument is written, or at the times of its samples.
var looksInside = setOf("absent", "timestamp", "info")

func setOf(names ...string) map[string]bool {
	set := make(map[string]bool, len(names))
	for _, name := range names {
		set[name] = true
	}
	return set
}

// partOf finds the part of a query around a selector. path leads from the root to it.
func partOf(path []parser.Node, selector *parser.VectorSelector) found {
	part, at := &stepped{selector: selector}, climb{path, selector}
	if m, ok := at.parent().(*parser.MatrixSelector); ok {
		at.to(m)
		call, ok := at.parent().(*parser.Call)
		if !ok || !overRange[call.Func.Name] {
			return found{why: "its function is evaluated series by series"}
		}
		numbers, ok := numbersOf(call)
		if !ok {
			return found{why: "an argument of its function is not a number"}
		}
		at.to(call)
		part.matrix, part.call, part.numbers = m, call, numbers
	}
	if a, ok := at.parent().(*parser.AggregateExpr); ok && reductions[a.Op] != nil && a.Expr == at.node {
		at.to(a)
		part.aggregate = a
	}
	parent := at.parent()
	if why := withheld(at.path); why != "" {
		return found{why: why}
	}
	f := found{part: part, parent: parent, node: at.node}
	if call, ok := parent.(*parser.Call); ok {
		if of, ok := part.quantileBy(call, at.node); ok {
			at.to(call)
			around := at.parent()
			f.quantile = &found{part: of, parent: around, node: at.node}
		}
	}
	return f
}

// climb goes from a node of a query up to the root.
type climb struct {
	path []parser.Node // from the root to what is above node
	node parser.Expr   // where it is, with the parentheses around it
}

// parent is what is above: neither parentheses nor a list of arguments. It is nil above the root.
func (c *climb) parent() parser.Node {
	for ; len(c.path) > 0; c.path = c.path[:len(c.path)-1] {
		switch n := c.path[len(c.path)-1].(type) {
		case parser.Expressions:
		case *parser.ParenExpr:
			c.node = n
		default:
			return n
		}
	}
	return nil
}

// to goes up to the parent.
func (c *climb) to(parent parser.Expr) { c.node, c.path = parent, c.path[:len(c.path)-1] }

// withheld says why nothing below the nodes of a path may be a part, "" when it may.
func withheld(path []parser.Node) string {
	for _, n := range path {
		switch n := n.(type) {
		case *parser.SubqueryExpr:
			return "it is inside a subquery"
		case *parser.StepInvariantExpr:
			return "it is evaluated once, for its @"
		case *parser.Call:
			if looksInside[n.Func.Name] {
				return n.Func.Name + " looks inside its argument"
			}
		}
	}
	return ""
}

// quantileBy is the part with histogram_quantile around it.
func (s *stepped) quantileBy(call *parser.Call, node parser.Expr) (of *stepped, ok bool) {
	sums := s.call != nil && windowSums[s.call.Func.Name] && s.aggregate != nil && s.aggregate.Op == parser.SUM
	if call.Func.Name != "histogram_quantile" || call.Args[1] != node || !sums {
		return nil, false
	}
	phi, ok := call.Args[0].(*parser.NumberLiteral)
	if !ok || !(phi.Val >= 0 && phi.Val <= 1) { // of others the engine warns
		return nil, false
	}
	around := *s
	around.quantile, around.phi = call, phi.Val
	return &around, true
}

// numbersOf are the arguments of a call beside its range.
func numbersOf(call *parser.Call) (numbers []promql.Vector, ok bool) {
	for _, arg := range call.Args {
		for {
			if wrapped, is := arg.(*parser.StepInvariantExpr); is {
				arg = wrapped.Expr
			} else if paren, is := arg.(*parser.ParenExpr); is {
				arg = paren.Expr
			} else {
				break
			}
		}
		switch n := arg.(type) {
		case *parser.MatrixSelector:
		case *parser.NumberLiteral:
			numbers = append(numbers, promql.Vector{{F: n.Val}})
		default:
			return nil, false
		}
	}
	return numbers, true
}

// of says why a part cannot be stepped for what its selector means, "" when it can.
func (s *stepped) of(u *use, c *catalog, smoothed, folded bool) (why string) {
	found, _ := c.match(s.selector.LabelMatchers)
	switch {
	case len(found) == 0:
		return "nothing has its name"
	case len(found) > 1 || c.stored(found[0].metric) != found[0].kinds || bits.OnesCount8(uint8(found[0].kinds)) > 1:
		return "its name has series of several kinds"
	case smoothed || s.selector.Anchored:
		return "its ranges cut windows, which are interpolated"
	case u.at:
		return "it is evaluated once, for its @"
	}
	switch k, of := found[0].kinds, found[0].facet; {
	case s.quantile != nil && (k != kindSketch || of != whole || !folded):
		return "it is not the quantile of a sum of sketches"
	case s.quantile != nil:
		return ""
	case k == kindLevel && c.native(found[0].metric):
		return "its samples are native histograms"
	case k == kindLevel:
		return ""
	case k&kindClosed != 0:
		return "closed windows are read one by one"
	case k == kindSketch && of != count && of != sum:
		return "its values come from sketches"
	case s.call == nil:
		return "single windows are read one by one"
	}
	return ""
}

// native tells whether a stored metric has native histograms among its samples.
func (c *catalog) native(metric string) bool {
	for i := range c.metas {
		if c.metas[i].Metric == metric && c.metas[i].Native {
			return true
		}
	}
	return false
}

// push replaces what can be stepped in a statement by selectors of its results. It comes after apply.
func (p *plan) push(stmt *parser.EvalStmt, c *catalog, lookback int64) {
	var list []found
	parser.Inspect(stmt.Expr, func(node parser.Node, path []parser.Node) error {
		if selector, ok := node.(*parser.VectorSelector); ok {
			f := partOf(path, selector)
			list = append(list, f)
		}
		return nil
	})
	for i, u := range uses(stmt, noStepSubquery) {
		key := u.selector.LabelMatchers[0]
		chosen, f := p.choices[key], list[i]
		if f.part != nil {
			if q := f.quantile; q != nil && q.part.of(&u, c, chosen.smoothed, chosen.fold != nil) == "" {
				f = *q
			}
			if f.why = f.part.of(&u, c, chosen.smoothed, chosen.fold != nil); f.why == "" && p.covered(u.selector) {
				f.why = "rules have recorded some of it lately"
			}
			if f.why != "" {
				f.part = nil
			}
		}
		if f.part == nil {
			chosen.why = f.why
			p.choices[key] = chosen
			continue
		}
		f.part.use, f.part.lookback = &u, lookback
		// The engine does it for the selectors that it finds.
		f.part.selector.Offset = f.part.selector.OriginalOffset
		f.part.at = evaluations{stmt.Start.UnixMilli(), stmt.End.UnixMilli(), max(1, stmt.Interval.Milliseconds())}
		chosen.steps = f.part
		p.choices[key] = chosen
		f.replace(stmt)
	}
}

// replace puts a selector in the place of a part. Its matchers are those of the part's, by which what was chosen for it
// is found.
func (f *found) replace(stmt *parser.EvalStmt) {
	of := f.part.selector
	results := &parser.VectorSelector{Name: of.Name, LabelMatchers: of.LabelMatchers, PosRange: f.node.PositionRange()}
	put := func(at *parser.Expr) {
		if *at == f.node {
			*at = results
		}
	}
	switch n := f.parent.(type) {
	case nil:
		stmt.Expr = results
	case *parser.AggregateExpr:
		put(&n.Expr)
		put(&n.Param)
	case *parser.BinaryExpr:
		put(&n.LHS)
		put(&n.RHS)
	case *parser.UnaryExpr:
		put(&n.Expr)
	case *parser.Call:
		for i := range n.Args {
			put(&n.Args[i])
		}
	default:
		panic("BUG: a part of a query inside a node of another kind")
	}
}

func (s *stepped) String() string {
	of := "gauges"
	if s.call != nil {
		of = s.call.Func.Name
	}
	if a := s.aggregate; a != nil {
		word := "by"
		if a.Without {
			word = "without"
		}
		of = a.Op.String() + " " + word + " (" + strings.Join(a.Grouping, ", ") + ") of " + of
	}
	if s.quantile != nil {
		of = s.quantile.Func.Name + " of " + of
	}
	return of
}
