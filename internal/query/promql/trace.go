package promql

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/vigie-io/vigie/internal/query/querylog"
)

// Trace notes what a query reads. A nil Trace notes nothing. Safe for concurrent use.
type Trace struct {
	plain      bool // set before the query: nothing is to be pushed down
	mu         sync.Mutex
	plan       tracedPlan
	selectors  []*tracedSelector
	statements []tracedStatement
	read       querylog.Read
}

// tracedPlan is what all of a query has in common.
type tracedPlan struct {
	Query     string    `json:"query"`
	Start     time.Time `json:"start"` // of the evaluations, after alignment
	End       time.Time `json:"end"`
	Step      string    `json:"step,omitempty"`
	Watermark time.Time `json:"watermark"`
	// Coarse is how far the tiers of a minute and an hour reach, zero when that is not known; what is later is read of the
	// tier of 10 s.
	Coarse time.Time `json:"coarse,omitzero"`
}

// tracedSelector is how one selector was read.
type tracedSelector struct {
	Selector string `json:"selector"`
	Function string `json:"function,omitempty"`
	Range    string `json:"range,omitempty"`
	Tier     string `json:"tier"`
	// FinerFrom is from when on the windows of the tier are made of finer ones, zero when all are its own.
	FinerFrom time.Time `json:"finer_from,omitzero"`
	Smoothed  bool      `json:"smoothed"`
	// Pushdown is what the database did for the engine, "" for nothing; then Groups are what the engine was given.
	Pushdown string `json:"pushdown"`
	Why      string `json:"why,omitempty"` // its samples were read one by one
	Series   int    `json:"series"`
	Groups   int    `json:"groups"`
	Panes    int    `json:"panes"`
}

type tracedStatement struct {
	SQL    string `json:"sql"`
	Series int    `json:"series"` // in the table ids, which is sent along
}

type traceKey struct{}

// WithTrace has queries under ctx noted in the Trace.
func WithTrace(ctx context.Context) (context.Context, *Trace) {
	t := new(Trace)
	return context.WithValue(ctx, traceKey{}, t), t
}

// TraceOf is the Trace of a context, or nil.
func TraceOf(ctx context.Context) *Trace {
	t, _ := ctx.Value(traceKey{}).(*Trace)
	return t
}

func (t *Trace) wantsPlain() bool { return t != nil && t.plain }

// Statement notes a statement that a Store sends, and of how many series.
func (t *Trace) Statement(sql string, series int) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.statements = append(t.statements, tracedStatement{sql, series})
}

// Read notes what the database read for a statement.
func (t *Trace) Read(r querylog.Read) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.read.Rows += r.Rows
	t.read.Bytes += r.Bytes
}

func (t *Trace) planned(p tracedPlan) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.plan = p
}

// selector notes a selector; what is returned is only written by the reader of that selector.
func (t *Trace) selector(r *reader, matchers []*labels.Matcher) *tracedSelector {
	s := &tracedSelector{Selector: selectorText(matchers), Function: r.hints.Func,
		Tier: time.Duration(r.tier).String(), Smoothed: r.smoothed}
	if r.hints.Range > 0 {
		s.Range = (time.Duration(r.hints.Range) * time.Millisecond).String()
	}
	if t == nil {
		return s
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.selectors = append(t.selectors, s)
	return s
}

// madeOfFiner notes from when on (Unix ms) windows are made of finer ones. Of several times the first counts.
func (s *tracedSelector) madeOfFiner(from int64) {
	if at := time.UnixMilli(from).UTC(); s.FinerFrom.IsZero() || at.Before(s.FinerFrom) {
		s.FinerFrom = at
	}
}

// selectorText is a selector as one could write it.
func selectorText(matchers []*labels.Matcher) string {
	name, rest := "", make([]string, 0, len(matchers))
	for _, m := range matchers {
		if m.Name == model.MetricNameLabel && m.Type == labels.MatchEqual {
			name = m.Value
		} else {
			rest = append(rest, m.String())
		}
	}
	if len(rest) == 0 {
		return name
	}
	return name + "{" + strings.Join(rest, ",") + "}"
}

// pushdown says in a line what the database did for the engine, "none" when it did nothing.
func (t *Trace) pushdown() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var parts []string
	for _, s := range t.selectors {
		if s.Pushdown != "" {
			parts = append(parts, fmt.Sprintf("%s: %d series as %d", s.Pushdown, s.Series, s.Groups))
		}
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, "; ")
}

// explained is the answer to explain=1.
type explained struct {
	tracedPlan
	Selectors  []*tracedSelector `json:"selectors"`
	Statements []tracedStatement `json:"statements"`
	Seconds    float64           `json:"seconds"`
}

func (t *Trace) explained(took time.Duration) explained {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := explained{t.plan, t.selectors, t.statements, took.Seconds()}
	if e.Selectors == nil {
		e.Selectors = []*tracedSelector{}
	}
	if e.Statements == nil {
		e.Statements = []tracedStatement{}
	}
	return e
}
