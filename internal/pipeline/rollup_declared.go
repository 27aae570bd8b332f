package pipeline

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/rules"
	"github.com/vigie-io/vigie/pkg/windows"
)

// Rollup declares a metric that is derived from events, beside the default rollups.
type Rollup struct {
	// Name of the metric, in PromQL's letters; another than those of the default rollups and of incoming metrics.
	Name string `yaml:"name"`
	// From is the signal it is derived from: metrics, spans or logs.
	From events.Signal `yaml:"from"`
	// Where is the condition that events meet (docs/rules.md). Default: all.
	Where string `yaml:"where"`
	// Measure is what is counted: duration_seconds (of spans), value (of metrics: observations and deltas), increase (of
	// metrics: what cumulative counters grew by, and deltas), or events. Default: duration_seconds, value, and events for logs.
	Measure string `yaml:"measure"`
	// By are the fields that become labels; what an event does not have is no label. Default none: one series.
	By []string `yaml:"by"`
	// AlsoBy are further groupings, fewer fields each, as metrics of their own: name:field_field. Long ranges over them are cheap.
	AlsoBy [][]string `yaml:"also_by"`
	// Window counts over windows instead of panes, and keeps each once it has closed: one of tumbling (a duration), hopping
	// (size, every), calendar (unit, zone) and session (gap, by), allowed_lateness and late. Default none.
	Window *Window `yaml:"window,omitempty"`
	// Keep says what its windows hold beside count, sum, extremes and sketch: first, last, distinct (a field) and top (of, k,
	// weight, unit, counters). Default none.
	Keep *Keep `yaml:"keep,omitempty"`
	// Tenants are those it is for. Default: all.
	Tenants []tenants.ID `yaml:"tenants"`
}

// Measures of a Rollup.
const (
	measureEvents   = "events"
	measureDuration = "duration_seconds"
	measureValue    = "value"
	// MeasureIncrease is what cumulative series have grown by, for which their samples have to come in the order of time.
	MeasureIncrease = "increase"
)

// rollup is a Rollup made ready.
type rollup struct {
	where     *rules.Expr // nil: all
	measure   string
	tenants   []tenants.ID // empty: all
	groupings []grouping
	window    *windowRule // nil: panes
	windowID  uint64
	late      windows.LatePolicy
	keep      *Keep  // nil: nothing more
	counterID uint64 // of measure increase
}

// grouping is one metric of a rollup. labels and fields run beside each other, in the order of label names.
type grouping struct {
	metric         string
	labels, fields []string
	required       []bool // fields without which an event is left out; nil: none
}

var (
	metricName   = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)
	labelLetters = regexp.MustCompile(`[^a-zA-Z0-9_]`)
)

// compile checks a rollup and makes it ready.
func (r *Rollup) compile() (c *rollup, err error) {
	c = &rollup{tenants: r.Tenants, counterID: r.counterID()}
	if err := r.validateName(); err != nil {
		return nil, err
	}
	if c.measure, err = r.ownMeasure(); err != nil {
		return nil, err
	}
	if r.Where != "" {
		if c.where, err = rules.Parse(r.Where); err != nil {
			return nil, fmt.Errorf("where: %w", err)
		}
	}
	for _, id := range r.Tenants {
		if err := tenants.Validate(id); err != nil {
			return nil, fmt.Errorf("tenants: %w", err)
		}
	}
	if r.Keep != nil {
		if c.keep, err = r.Keep.validate(r, c.measure); err != nil {
			return nil, err
		}
	}
	if r.Window != nil {
		if err := r.Window.validate(); err != nil {
			return nil, err
		}
		c.late, _ = r.Window.late()
		c.window = &windowRule{r.Name, c.measure, *r.Window, c.keep}
		_, c.windowID = c.window.definition()
	}
	c.groupings, err = r.allGroupings()
	return c, err
}

func (r *Rollup) validateName() error {
	if !metricName.MatchString(r.Name) {
		return fmt.Errorf("name %q: want letters, digits and _", r.Name)
	}
	if r.Name == SpanMetric || r.Name == LogMetric {
		return fmt.Errorf("name %q: it is the name of a default rollup", r.Name)
	}
	return nil
}

var defaultMeasures = map[events.Signal]string{events.Metrics: measureValue, events.Spans: measureDuration, events.Logs: measureEvents}

// ownMeasure is the measure of the rollup, which its signal must have.
func (r *Rollup) ownMeasure() (string, error) {
	own := defaultMeasures[r.From]
	if own == "" {
		return "", fmt.Errorf("from %q: want metrics, spans or logs", r.From)
	}
	measure := cmp.Or(r.Measure, own)
	switch {
	case measure == own || measure == measureEvents || measure == MeasureIncrease && r.From == events.Metrics:
		return measure, nil
	case r.From == events.Metrics:
		return "", fmt.Errorf("measure %q of metrics: want value, increase or events", measure)
	}
	return "", fmt.Errorf("measure %q of %s: want %s or events", measure, r.From, own)
}

// allGroupings are those of By and of AlsoBy, one metric each.
func (r *Rollup) allGroupings() (all []grouping, err error) {
	for i, fields := range append([][]string{r.By}, r.AlsoBy...) {
		g, err := newGrouping(r.Name, fields, i > 0)
		if err == nil && r.Window != nil && r.Window.Session != nil {
			err = g.require(r.Window.Session.By)
		}
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(all, func(o grouping) bool { return o.metric == g.metric }) {
			return nil, fmt.Errorf("also_by %v: it is there already", fields)
		}
		all = append(all, g)
	}
	return all, nil
}

// RuleID is what rows of the rollup's windows have as their rule: a hash of what decides about windows. The rollup is valid and
// has a Window.
func (r *Rollup) RuleID() uint64 { return r.ready().windowID }

// ready is compile of a rollup that has been validated.
func (r *Rollup) ready() *rollup {
	c, err := r.compile()
	if err != nil {
		panic("BUG: rollups were not validated: " + err.Error())
	}
	return c
}

func newGrouping(name string, fields []string, also bool) (grouping, error) {
	g := grouping{metric: name}
	type pair struct{ label, field string }
	pairs := make([]pair, 0, len(fields))
	for _, field := range fields {
		label := labelLetters.ReplaceAllString(field, "_")
		if field == "" || label[0] >= '0' && label[0] <= '9' || label == "__name__" {
			return g, fmt.Errorf("by %q: want the name of a field", field)
		}
		if slices.ContainsFunc(pairs, func(p pair) bool { return p.label == label }) {
			return g, fmt.Errorf("by %v: two fields make the label %s", fields, label)
		}
		pairs = append(pairs, pair{label, field})
	}
	if len(pairs) > 64 {
		return g, fmt.Errorf("by: %d fields, want at most 64", len(pairs))
	}
	slices.SortFunc(pairs, func(a, b pair) int { return strings.Compare(a.label, b.label) })
	for _, p := range pairs {
		g.labels, g.fields = append(g.labels, p.label), append(g.fields, p.field)
	}
	if also {
		g.metric += ":" + strings.Join(g.labels, "_")
	}
	return g, nil
}

// require adds fields that an event must have to those of the grouping. The metric keeps its name.
func (g *grouping) require(by []string) error {
	for _, field := range by {
		if !slices.Contains(g.fields, field) {
			g.fields = append(g.fields, field)
		}
	}
	all, err := newGrouping(g.metric, g.fields, false)
	if err != nil {
		return fmt.Errorf("window.session.%w", err)
	}
	*g = all
	for _, field := range g.fields {
		g.required = append(g.required, slices.Contains(by, field))
	}
	return nil
}

// validateRollups names every rollup that cannot be.
func validateRollups(list []Rollup) error {
	var errs []error
	metrics := map[string]bool{}
	for i := range list {
		c, err := list[i].compile()
		if err != nil {
			errs = append(errs, fmt.Errorf("rollups[%d] %q: %w", i, list[i].Name, err))
			continue
		}
		for _, g := range c.groupings {
			if metrics[g.metric] {
				errs = append(errs, fmt.Errorf("rollups[%d] %q: another rollup makes %s", i, list[i].Name, g.metric))
			}
			metrics[g.metric] = true
		}
	}
	return errors.Join(errs...)
}

// Metrics are the names of the metrics that a valid rollup makes.
func (r *Rollup) Metrics() (names []string) {
	for _, g := range r.ready().groupings {
		names = append(names, g.metric)
	}
	return names
}

// rollupsOf makes the rollups of a signal ready.
func rollupsOf(list []Rollup, signal events.Signal) (ready []*rollup) {
	for i := range list {
		if list[i].From == signal {
			ready = append(ready, list[i].ready())
		}
	}
	return ready
}
