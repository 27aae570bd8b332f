package promql

import (
	"fmt"
	"slices"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/vigie-io/vigie/pkg/series"
)

// fold says that what is around a selector, sum by (…) (rate(selector[…])), cannot tell apart the series that agree in some
// labels: windows add up, before rate as well as after it. The database then adds them up, and the engine is given one series
// in place of all that agree.
//
// It holds for counters kept in windows and for functions that are sums of windows; a series counts as active where one of those it
// stands for is.
type fold struct {
	without bool
	names   []string // of labels: those that are kept, or without, those that are not
}

// foldOf finds the sum around a selector; path leads from the root to it. It is nil when there is none right around its function.
func foldOf(path []parser.Node) *fold {
	at := len(path) - 1
	up := func() parser.Node {
		for at >= 0 {
			node := path[at]
			at--
			switch node.(type) {
			case *parser.ParenExpr, *parser.StepInvariantExpr:
			default:
				return node
			}
		}
		return nil
	}
	if _, ok := up().(*parser.MatrixSelector); !ok {
		return nil
	}
	if call, ok := up().(*parser.Call); !ok || !windowSums[call.Func.Name] {
		return nil
	}
	sum, ok := up().(*parser.AggregateExpr)
	if !ok || sum.Op != parser.SUM {
		return nil
	}
	return &fold{sum.Without, sum.Grouping}
}

// of returns the fold of a use that may be folded, nil for others. A range that reaches past the last complete window is
// extrapolated, for each series as its samples lie.
func (f *fold) of(u *use, k kinds, clamp int64) *fold {
	if f == nil || k != kindSketch && k != kindDelta || u.selector.Smoothed || u.selector.Anchored || u.to > clamp {
		return nil
	}
	return f
}

// groups are the series that stand for members, and which one each member belongs to. ok is false when nothing would be gained.
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

func (f *fold) String() string {
	word := "by"
	if f.without {
		word = "without"
	}
	return fmt.Sprintf("sum %s (%s)", word, strings.Join(f.names, ", "))
}
