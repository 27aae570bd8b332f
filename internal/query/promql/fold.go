package promql

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/vigie-io/vigie/pkg/series"
)

// fold says that what is around a selector, sum by (…) (rate(selector[…])), cannot tell apart the series that agree in
// some labels: windows add up, before rate as well as after it. The database then adds them up, and the engine is given
// one series in place of all that agree.
//
// It holds for counters kept in windows and for functions that are sums of windows; a series counts as active where one
// of those it stands for is.
type fold struct {
	without bool
	names   []string // of labels: those that are kept, or without, those that are not
}

// additive are the functions whose value for added-up series is the sum of their values for each. irate is not: a
// series that begins in the last window has none yet, but its window would count in the sum.
var additive = setOf("rate", "increase", "sum_over_time", "histogram_count", "histogram_sum")

// foldOf finds the sum around a selector; path leads from the root to it. It is nil when there is none, or something
// between that is not additive.
func foldOf(path []parser.Node) *fold {
	for _, node := range slices.Backward(path) {
		switch n := node.(type) {
		case *parser.MatrixSelector, *parser.ParenExpr, *parser.StepInvariantExpr, parser.Expressions:
		case *parser.Call:
			if !additive[n.Func.Name] {
				return nil
			}
		case *parser.BinaryExpr:
			if !scales(n) {
				return nil
			}
		case *parser.AggregateExpr:
			if n.Op != parser.SUM {
				return nil
			}
			return &fold{n.Without, n.Grouping}
		default:
			return nil
		}
	}
	return nil
}

// scales tells whether an operator multiplies every sample by one finite number, which a sum of finite samples does not
// mind.
func scales(n *parser.BinaryExpr) bool {
	factor := func(e parser.Expr) bool {
		number, ok := e.(*parser.NumberLiteral)
		return ok && number.Val != 0 && !math.IsInf(number.Val, 0) && !math.IsNaN(number.Val)
	}
	switch n.Op {
	case parser.MUL:
		return factor(n.LHS) || factor(n.RHS)
	case parser.DIV:
		return factor(n.RHS)
	}
	return false
}

// of returns the fold of a use that may be folded, nil for others. A range that reaches past the last complete window
// is extrapolated, for each series as its samples lie.
func (f *fold) of(u *use, k kinds, clamp int64) *fold {
	if f == nil || k != kindSketch && k != kindDelta || u.selector.Anchored || u.to > clamp {
		return nil
	}
	return f
}

// groups are the series that stand for members, and which one each member belongs to. ok is false when nothing would be
// gained.
func (f *fold) groups(members []member) (groups []member, of []uint32, ok bool) {
	index := make(map[string]uint32)
	of = make([]uint32, len(members))
	var key []byte
	for i := range members {
		m := &members[i]
		if len(m.targets) != 1 {
			return nil, nil, false
		}
		kept := f.kept(m)
		key = series.AppendKey(key[:0], 0, m.targets[0].name, kept)
		n, known := index[string(key)]
		if !known {
			n = uint32(len(groups))
			index[string(key)] = n
			one := member{Series: m.Series, targets: m.targets}
			one.ID, one.Labels = series.ID{Lo: uint64(n)}, kept
			groups = append(groups, one)
		}
		of[i] = n
	}
	return groups, of, len(groups) < len(members)
}

// kept are the labels of a member that what is around the selector can see. A derived bucket has an le of its own.
func (f *fold) kept(m *member) (kept series.Labels) {
	for _, l := range m.Labels {
		if l.Name == model.MetricNameLabel || m.targets[0].facet == bucket && l.Name == labels.BucketLabel {
			continue
		}
		if slices.Contains(f.names, l.Name) != f.without {
			kept = append(kept, l)
		}
	}
	return kept
}

// serviceLabel is the label by which counters are kept added up, too, in tiers of their own.
const serviceLabel = "service"

// byService says whether what is around a selector sees at most the service of its series, and the selector picks by no
// other label than that: then the tiers that are kept by service hold what it reads. of is what the selector means.
func (f *fold) byService(c *catalog, matchers []*labels.Matcher) (of named, ok bool) {
	if f == nil || f.without {
		return named{}, false
	}
	found, rest := c.match(matchers)
	if len(found) != 1 || c.stored(found[0].metric) != found[0].kinds {
		return named{}, false // of several kinds the tiers hold the sum
	}
	of = found[0]
	ours := func(name string) bool {
		return name == serviceLabel || name == labels.BucketLabel && of.facet == bucket
	}
	for _, name := range f.names {
		if !ours(name) {
			return named{}, false
		}
	}
	for _, m := range rest {
		if !ours(m.Name) {
			return named{}, false
		}
	}
	return of, true
}

// maxServices is up to how many services the tiers that are kept by service are read: their names stand in the
// statement.
const maxServices = 500

// services reads a selector from the tiers that are kept by service. done is false when it has to be read otherwise.
func (r *reader) services(ctx context.Context, of named, matchers []*labels.Matcher) (done bool, err error) {
	rest := slices.DeleteFunc(slices.Clone(matchers), func(m *labels.Matcher) bool { return m.Name != serviceLabel })
	since := r.service.announced(r.from - r.service.cfg.ActivityHorizon.Milliseconds())
	names, err := r.service.lists.services(ctx, r.plan, of.metric, toStore(rest), since)
	if err != nil {
		return true, r.service.storeError(ctx, r.plan.tenant, "services", err)
	}
	if limit := r.plan.limits.QuerySeries; len(names) > limit {
		return true, seriesLimit(limit)
	}
	if len(names) > maxServices {
		return false, nil
	}
	from := source{metrics: []string{of.metric}, services: names}
	apart := slices.Contains(r.fold.names, serviceLabel)
	for i, name := range names {
		if !apart && i > 0 {
			break
		}
		m := member{Series: Series{Metric: of.metric, ID: series.ID{Lo: uint64(i)}}, targets: []named{of}}
		if apart && name != "" {
			m.Labels = series.Labels{{Name: serviceLabel, Value: name}}
		}
		from.members = append(from.members, m)
	}
	from.apart = apart
	r.trace.Pushdown = r.fold.String() + " of tiers by service"
	r.trace.Series, r.trace.Groups = len(names), len(from.members)
	r.service.metrics.series.Add(float64(len(names)))
	if r.from > r.to || len(names) == 0 {
		return true, nil
	}
	if err := r.windowsOf(ctx, of.kinds, from); err != nil {
		return true, r.service.storeError(ctx, r.plan.tenant, "windows", err)
	}
	return true, nil
}

func (f *fold) String() string {
	word := "by"
	if f.without {
		word = "without"
	}
	return fmt.Sprintf("sum %s (%s)", word, strings.Join(f.names, ", "))
}
