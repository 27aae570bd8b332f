package rollup

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"

	"github.com/vigie-io/vigie/internal/pipeline/windowed"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/rules"
	"github.com/vigie-io/vigie/pkg/series"
)

// Measures of declared rollups.
const (
	// MeasureEvents is the number of events.
	MeasureEvents   = "events"
	measureDuration = "duration_seconds"
	measureValue    = "value"
	// MeasureIncrease is what cumulative series have grown by, for which their samples have to come in the order of
	// time.
	MeasureIncrease = "increase"
)

// Declared is a metric that configuration derives from events, beside the default rollups.
type Declared struct {
	// Name of the metric, in PromQL's letters; another than those of the default rollups and of incoming metrics.
	Name string `yaml:"name"`
	// From is the signal it is derived from: metrics, spans or logs.
	From events.Signal `yaml:"from"`
	// Where is the condition that events meet (docs/rules.md). Default: all.
	Where string `yaml:"where"`
	// Measure is what is counted: duration_seconds (of spans), value (of metrics: observations and deltas), increase
	// (of metrics: what cumulative counters grew by, and deltas), or events. Default: duration_seconds, value, and
	// events for logs.
	Measure string `yaml:"measure"`
	// By are the fields that become labels; what an event does not have is no label. Default none: one series.
	By []string `yaml:"by"`
	// AlsoBy are further groupings, fewer fields each, as metrics of their own: name:field_field. Long ranges over them
	// are cheap.
	AlsoBy [][]string `yaml:"also_by"`
	// Window counts over windows instead of panes, and keeps each once it has closed: one of tumbling (a duration),
	// hopping (size, every), calendar (unit, zone) and session (gap, by), allowed_lateness and late. Default none.
	Window *windowed.Window `yaml:"window,omitempty"`
	// Keep says what its windows hold beside count, sum, extremes and sketch: first, last, distinct (a field) and top
	// (of, k, weight, unit, counters). Default none.
	Keep *windowed.Keep `yaml:"keep,omitempty"`
	// Tenants are those it is for. Default: all.
	Tenants []tenants.ID `yaml:"tenants"`
}

var metricName = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)

// Compile checks a rollup and makes it ready.
func (r *Declared) Compile() (c *Rule, err error) {
	c = &Rule{tenants: r.Tenants, CounterID: r.counterID()}
	if err := r.validateName(); err != nil {
		return nil, err
	}
	if c.Measure, err = r.ownMeasure(); err != nil {
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
		if c.Keep, err = r.validateKeep(c.Measure); err != nil {
			return nil, err
		}
	}
	if r.Window != nil {
		if err := r.Window.Validate(); err != nil {
			return nil, err
		}
		c.Late, _ = r.Window.LatePolicy()
		c.Window = &windowed.Rule{Name: r.Name, Measure: c.Measure, Window: *r.Window, Keep: c.Keep}
		_, c.WindowID = c.Window.Definition()
	}
	c.Groupings, err = r.allGroupings()
	return c, err
}

// validateKeep checks what the windows of the rollup are to keep of a measure, and fills the defaults in.
func (r *Declared) validateKeep(measure string) (*windowed.Keep, error) {
	switch {
	case r.Window == nil:
		return nil, errors.New("keep: want a window, such as {tumbling: 1m}")
	case (r.Keep.First || r.Keep.Last) && measure == MeasureEvents:
		return nil, errors.New("keep: first and last of events are 1, want another measure")
	case r.Keep.Top == nil:
		return r.Keep.Validate()
	}
	for _, fields := range append([][]string{r.By}, r.AlsoBy...) {
		if r.Window.Session != nil {
			fields = append(slices.Clone(fields), r.Window.Session.By...)
		}
		if slices.ContainsFunc(fields,
			func(f string) bool { return labelLetters.ReplaceAllString(f, "_") == windowed.TopLabel }) {
			return nil, fmt.Errorf("keep.top: the label %s of PromQL is its own, want no field of that name in by",
				windowed.TopLabel)
		}
	}
	return r.Keep.Validate()
}

func (r *Declared) validateName() error {
	if !metricName.MatchString(r.Name) {
		return fmt.Errorf("name %q: want letters, digits and _", r.Name)
	}
	if r.Name == SpanMetric || r.Name == LogMetric {
		return fmt.Errorf("name %q: it is the name of a default rollup", r.Name)
	}
	return nil
}

var defaultMeasures = map[events.Signal]string{events.Metrics: measureValue, events.Spans: measureDuration,
	events.Logs: MeasureEvents}

// ownMeasure is the measure of the rollup, which its signal must have.
func (r *Declared) ownMeasure() (string, error) {
	own := defaultMeasures[r.From]
	if own == "" {
		return "", fmt.Errorf("from %q: want metrics, spans or logs", r.From)
	}
	measure := cmp.Or(r.Measure, own)
	switch {
	case measure == own || measure == MeasureEvents || measure == MeasureIncrease && r.From == events.Metrics:
		return measure, nil
	case r.From == events.Metrics:
		return "", fmt.Errorf("measure %q of metrics: want value, increase or events", measure)
	}
	return "", fmt.Errorf("measure %q of %s: want %s or events", measure, r.From, own)
}

// allGroupings are those of By and of AlsoBy, one metric each.
func (r *Declared) allGroupings() (all []Grouping, err error) {
	for i, fields := range append([][]string{r.By}, r.AlsoBy...) {
		g, err := newGrouping(r.Name, fields, i > 0)
		if err == nil && r.Window != nil && r.Window.Session != nil {
			err = g.require(r.Window.Session.By)
		}
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(all, func(o Grouping) bool { return o.Metric == g.Metric }) {
			return nil, fmt.Errorf("also_by %v: it is there already", fields)
		}
		all = append(all, g)
	}
	return all, nil
}

// RuleID is what rows of the rollup's windows have as their rule: a hash of what decides about windows. The rollup is
// valid and has a Window.
func (r *Declared) RuleID() uint64 { return r.ready().WindowID }

// WindowRule is what decides about the rollup's windows. The rollup is valid and has a Window.
func (r *Declared) WindowRule() *windowed.Rule { return r.ready().Window }

// ready is compile of a rollup that has been validated.
func (r *Declared) ready() *Rule {
	c, err := r.Compile()
	if err != nil {
		panic("BUG: rollups were not validated: " + err.Error())
	}
	return c
}

// counterID tells rules apart that take other samples.
func (r *Declared) counterID() uint64 { return series.Hash([]byte(r.Name + "\x00" + r.Where)).Lo }

// Validate names every rollup of a configuration that cannot be.
func Validate(list []Declared) error {
	var errs []error
	metrics := map[string]bool{}
	for i := range list {
		c, err := list[i].Compile()
		if err != nil {
			errs = append(errs, fmt.Errorf("rollups[%d] %q: %w", i, list[i].Name, err))
			continue
		}
		for _, g := range c.Groupings {
			if metrics[g.Metric] {
				errs = append(errs, fmt.Errorf("rollups[%d] %q: another rollup makes %s", i, list[i].Name, g.Metric))
			}
			metrics[g.Metric] = true
		}
	}
	return errors.Join(errs...)
}

// Metrics are the names of the metrics that a valid rollup makes.
func (r *Declared) Metrics() (names []string) {
	for _, g := range r.ready().Groupings {
		names = append(names, g.Metric)
	}
	return names
}
