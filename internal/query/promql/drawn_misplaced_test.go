package promql_test

import (
	"fmt"
	"maps"
	"testing"
	"time"

	upstream "github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"pgregory.net/rapid"
)

// misplaced tells whether upstream's engine reads a selector of a query at another time than its @ says. What it
// finds then depends on what a storage gives beyond the range that it is asked for, and is wrong in any case.
//
// The engine evaluates the inside of a subquery from its first step on, and turns @ into an offset from there. It leaves
// that out when the first step is the time from which on what is around it is evaluated (Prometheus 3.16,
// promql.evaluator.runSubquery): the offset was computed for that time, but less the subquery's own.
func misplaced(query string, at times) bool {
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(query)
	if err != nil {
		return false
	}
	end := at.end
	if at.step == 0 {
		end = at.start
	}
	if expr, err = upstream.PreprocessExpr(expr, at.start, end, at.step); err != nil {
		return false
	}
	return placement{at.start.UnixMilli(), at.start.UnixMilli()}.wrong(expr)
}

// placement of a part of a query: when its first evaluation is, and when it is by the engine's offsets. Unix ms.
type placement struct{ first, taken int64 }

func (p placement) wrong(node parser.Node) bool {
	switch n := node.(type) {
	case *parser.VectorSelector:
		return n.Timestamp != nil && p.first != p.taken
	case *parser.SubqueryExpr:
		return n.Timestamp != nil && p.first != p.taken || p.inside(n).wrong(n.Expr)
	}
	for child := range parser.ChildrenIter(node) {
		if p.wrong(child) {
			return true
		}
	}
	return false
}

// inside is the placement of what a subquery evaluates.
func (p placement) inside(sub *parser.SubqueryExpr) placement {
	from, taken := p.first, p.taken
	if sub.Timestamp != nil {
		from, taken = *sub.Timestamp, *sub.Timestamp
	}
	offset, step := sub.OriginalOffset.Milliseconds(), sub.Step.Milliseconds()
	first := (from-offset-sub.Range.Milliseconds())/step*step + step
	if first != p.first {
		return placement{first, first}
	}
	return placement{first, taken - offset}
}

// modifier is @ and offset of a selector or subquery; seconds.
type modifier struct {
	at     int // 0: none
	offset int
}

func drawModifier(t *rapid.T) modifier {
	return modifier{
		at:     rapid.SampledFrom([]int{0, 0, 5000, 5010, 5120}).Draw(t, "at"),
		offset: 10 * rapid.IntRange(-6, 6).Draw(t, "offset"),
	}
}

func (m modifier) String() string {
	at := ""
	if m.at != 0 {
		at = fmt.Sprintf(" @ %d", m.at)
	}
	if m.offset < 0 {
		return fmt.Sprintf("%s offset -%ds", at, -m.offset)
	}
	return fmt.Sprintf("%s offset %ds", at, m.offset)
}

// from is the time that an evaluation at t looks back from.
func (m modifier) from(t int) int {
	if m.at != 0 {
		t = m.at
	}
	return t - m.offset
}

// nest is subqueries around a selector of a series whose value is the time, from the outermost.
type nest struct {
	modifier
	rng, step int
	inner     *nest // nil: the selector
}

func (n *nest) String() string {
	if n.inner == nil {
		return fmt.Sprintf("last_over_time(clock[10s]%s)", n.modifier)
	}
	return fmt.Sprintf("last_over_time((%s)[%ds:%ds]%s)", n.inner, n.rng, n.step, n.modifier)
}

func drawNest(t *rapid.T) *nest {
	n := &nest{modifier: drawModifier(t)}
	for range rapid.IntRange(1, 3).Draw(t, "depth") {
		step := 10 * rapid.IntRange(1, 3).Draw(t, "step")
		n = &nest{drawModifier(t), step * rapid.IntRange(1, 4).Draw(t, "range"), step, n}
	}
	return n
}

func drawTimes(t *rapid.T) times {
	at := times{start: time.Unix(rapid.SampledFrom([]int64{5000, 5010, 5070}).Draw(t, "start"), 0)}
	if rapid.Bool().Draw(t, "steps") {
		at.step = 10 * time.Second
		at.end = at.start.Add(at.step * time.Duration(rapid.IntRange(0, 3).Draw(t, "more")))
	}
	return at
}

// value at t is that at the last step of the range, which is never shorter than a step.
func (n *nest) value(t int) int {
	t = n.from(t)
	if n.inner == nil {
		return t
	}
	return n.inner.value(t / n.step * n.step)
}

// Upstream's engine is right about @ and offsets in subqueries, but for what misplaced says, of which it gets some
// wrong. When it gets none of them wrong any more, misplaced can go.
func TestMisplacedIsUpstreams(t *testing.T) {
	w := &world{width: 10 * time.Second}
	var list []fact
	for s := int64(1000); s <= 9000; s += 10 {
		list = append(list, fact{t: s * 1000, v: float64(s)})
	}
	all := facts{}
	all.add("clock", map[string]string{}, list)
	db, done := all.prometheus(t)
	defer done()
	engine := w.engine()
	right, wrong := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		for range 20 {
			n, at := drawNest(t), drawTimes(t)
			want := make(map[string]string)
			for ts := at.start; ts == at.start || !ts.After(at.end); ts = ts.Add(10 * time.Second) {
				want[fmt.Sprint(`{__name__="clock"} @ `, ts.UnixMilli())] = number64(float64(n.value(int(ts.Unix()))))
			}
			result := ask(engine, db, n.String(), at)
			got := values(result, false)
			switch same := result.Err == nil && maps.Equal(got, want); {
			case misplaced(n.String(), at):
				if !same { // else it finds the same by luck
					wrong++
				}
			case !same:
				t.Fatalf("%s at %s: got %v, error %v, want %v", n, at, got, result.Err, want)
			default:
				right++
			}
		}
	})
	t.Logf("%d right, %d wrong", right, wrong)
	if right == 0 || wrong == 0 {
		t.Errorf("got %d right and %d wrong answers, want some of both", right, wrong)
	}
}
