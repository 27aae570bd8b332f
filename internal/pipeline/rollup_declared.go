package pipeline

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/vigie-io/vigie/internal/pipeline/aggregate"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/rules"
	"github.com/vigie-io/vigie/pkg/series"
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

// oneEvent is what the measure events is of each.
var oneEvent = aggregate.Measurement{Kind: events.Delta, Value: 1}

// Reasons for which an event is not in a declared rollup whose condition it meets.
const (
	// ReasonLongLabel: an attribute is too long for a label.
	ReasonLongLabel events.Reason = "long_label"
	// ReasonNoSession: the event lacks a field that says whose session it is of.
	ReasonNoSession events.Reason = "no_session"
)

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
	window    *WindowRule // nil: panes
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
		if c.keep, err = r.validateKeep(c.measure); err != nil {
			return nil, err
		}
	}
	if r.Window != nil {
		if err := r.Window.validate(); err != nil {
			return nil, err
		}
		c.late, _ = r.Window.late()
		c.window = &WindowRule{r.Name, c.measure, *r.Window, c.keep}
		_, c.windowID = c.window.definition()
	}
	c.groupings, err = r.allGroupings()
	return c, err
}

// validateKeep checks what the windows of the rollup are to keep of a measure, and fills the defaults in.
func (r *Rollup) validateKeep(measure string) (*Keep, error) {
	switch {
	case r.Window == nil:
		return nil, errors.New("keep: want a window, such as {tumbling: 1m}")
	case (r.Keep.First || r.Keep.Last) && measure == measureEvents:
		return nil, errors.New("keep: first and last of events are 1, want another measure")
	case r.Keep.Top == nil:
		return r.Keep.validate()
	}
	for _, fields := range append([][]string{r.By}, r.AlsoBy...) {
		if r.Window.Session != nil {
			fields = append(slices.Clone(fields), r.Window.Session.By...)
		}
		if slices.ContainsFunc(fields, func(f string) bool { return labelLetters.ReplaceAllString(f, "_") == TopLabel }) {
			return nil, fmt.Errorf("keep.top: the label %s of PromQL is its own, want no field of that name in by", TopLabel)
		}
	}
	return r.Keep.validate()
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

// WindowRule is what decides about the rollup's windows. The rollup is valid and has a Window.
func (r *Rollup) WindowRule() *WindowRule { return r.ready().window }

// ready is compile of a rollup that has been validated.
func (r *Rollup) ready() *rollup {
	c, err := r.compile()
	if err != nil {
		panic("BUG: rollups were not validated: " + err.Error())
	}
	return c
}

// counterID tells rules apart that take other samples.
func (r *Rollup) counterID() uint64 { return series.Hash([]byte(r.Name + "\x00" + r.Where)).Lo }

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

// meets says whether the rollup takes an event of a tenant: m is its own measure.
func (r *rollup) meets(tenant string, f rules.Fields, m *aggregate.Measurement) bool {
	return r.takes(m) && (len(r.tenants) == 0 || slices.Contains(r.tenants, tenants.ID(tenant))) && (r.where == nil || r.where.Match(f))
}

// takes says whether a rollup counts such measurements.
func (r *rollup) takes(m *aggregate.Measurement) bool {
	if r.measure == MeasureIncrease {
		return m.Kind == events.Cumulative || m.Kind == events.Delta
	}
	return m.Kind != events.Cumulative
}

// maxDerivedLabel bounds the value of a label that comes from an attribute, which may be longer than a label may be.
const maxDerivedLabel = 4 << 10

// appendLabels appends the labels that an event has in the grouping. refused is why the event is left out, if it is.
func (g *grouping) appendLabels(dst []series.Label, f rules.Fields) (_ []series.Label, refused events.Reason) {
	for i, field := range g.fields {
		value := f.Text(field)
		switch {
		case len(value) > maxDerivedLabel:
			return dst, ReasonLongLabel
		case value != "":
			dst = append(dst, series.Label{Name: g.labels[i], Value: value})
		case g.required != nil && g.required[i]:
			return dst, ReasonNoSession
		}
	}
	return dst, ""
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

// Windows are the rules of the windows of rollups, of those that have any.
func Windows(list []*rollup) (rules []*WindowRule) {
	for _, r := range list {
		if r.window != nil {
			rules = append(rules, r.window)
		}
	}
	return rules
}

// Counters are the ids of rollups of measure increase.
func Counters(list []*rollup) (ids []uint64) {
	for _, r := range list {
		if r.measure == MeasureIncrease {
			ids = append(ids, r.counterID)
		}
	}
	return ids
}
