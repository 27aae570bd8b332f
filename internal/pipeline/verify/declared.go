package verify

import (
	"cmp"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/vigie-io/vigie/internal/pipeline/rollup"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/rules"
	"github.com/vigie-io/vigie/pkg/series"
)

// rule is a declared rollup, and what of its cumulative series has been seen.
type rule struct {
	rollup.Declared
	where     *rules.Expr // nil: all
	groupings []grouping

	idle     time.Duration
	cut      map[int32]time.Time // partitions without their first records
	counters map[counterKey]*counter
	firsts   map[counterKey]*first // of the tenants: without a series
}

// grouping is one metric of a rule.
type grouping struct {
	metric string
	fields []groupField // in the order of their labels
}

type groupField struct {
	label, name string
	required    bool
}

// derived is what an event adds to a metric of a rule.
type derived struct {
	rule *rule
	events.Metric
	// unsure is an increase of which it is not known from what it grew: the sample before is not there any more, or so
	// long ago that the series may have begun anew.
	unsure bool
}

// rulesOf are the rollups of a signal, those with windows or those without.
func (v *verifier) rulesOf(windowed bool) (out []*rule, err error) {
	for _, r := range v.cfg.Rollups {
		if r.From != v.cfg.Signal || (r.Window != nil) != windowed {
			continue
		}
		c, err := newRule(&r)
		if err != nil {
			return nil, fmt.Errorf("rollup %s: %w", r.Name, err)
		}
		c.idle, c.cut = v.cfg.SeriesIdle, v.span.Cut
		out = append(out, c)
	}
	return out, nil
}

func newRule(r *rollup.Declared) (c *rule, err error) {
	c = &rule{Declared: *r, counters: map[counterKey]*counter{}, firsts: map[counterKey]*first{}}
	if r.Where != "" {
		if c.where, err = rules.Parse(r.Where); err != nil {
			return nil, err
		}
	}
	if c.Measure == "" {
		c.Measure = map[events.Signal]string{events.Metrics: "value", events.Spans: "duration_seconds",
			events.Logs: "events"}[r.From]
	}
	var session []string
	if r.Window != nil && r.Window.Session != nil {
		session = r.Window.Session.By
	}
	c.groupings = []grouping{newGrouping(r.Name, r.By, session)}
	for _, fields := range r.AlsoBy {
		var labels []string
		for _, f := range newGrouping("", fields, nil).fields {
			labels = append(labels, f.label)
		}
		c.groupings = append(c.groupings, newGrouping(r.Name+":"+strings.Join(labels, "_"), fields, session))
	}
	return c, nil
}

var noLabelLetter = regexp.MustCompile(`[^a-zA-Z0-9_]`)

func newGrouping(metric string, fields, required []string) grouping {
	g := grouping{metric: metric}
	for _, name := range slices.Concat(fields, required) {
		if !slices.ContainsFunc(g.fields, func(f groupField) bool { return f.name == name }) {
			g.fields = append(g.fields,
				groupField{noLabelLetter.ReplaceAllString(name, "_"), name, slices.Contains(required, name)})
		}
	}
	slices.SortFunc(g.fields, func(a, b groupField) int { return cmp.Compare(a.label, b.label) })
	return g
}

// derive calls fn for each metric that the event adds something to.
func (c *rule) derive(e *event, fn func(derived)) {
	if !c.wants(e) {
		return
	}
	d, counts := c.measure(e)
	if !counts {
		return
	}
	for _, g := range c.groupings {
		labels, is := g.of(e.fields)
		if is {
			d.Name, d.Labels = g.metric, labels
			fn(d)
		}
	}
}

// wants says whether the event meets the rule's condition.
func (c *rule) wants(e *event) bool {
	return (len(c.Tenants) == 0 || slices.Contains(c.Tenants, tenants.ID(e.metric.Tenant))) &&
		(c.where == nil || c.where.Match(e.fields))
}

// increases says whether the rule needs samples in the order of time.
func (c *rule) increases() bool { return c.Measure == rollup.MeasureIncrease }

// measure is what the event gives the rule.
func (c *rule) measure(e *event) (d derived, counts bool) {
	m := &e.metric
	d = derived{rule: c,
		Metric: events.Metric{Tenant: m.Tenant, Time: m.Time, Kind: m.Kind, Value: m.Value, Histogram: m.Histogram}}
	level := m.Kind == events.Gauge || m.Kind == events.Cumulative
	if m.Histogram != nil && !level {
		d.Kind = events.Observation
	}
	switch {
	case m.Stale:
		return d, false
	case c.Measure == rollup.MeasureIncrease && m.Kind == events.Cumulative && m.Histogram == nil:
		d.Kind = events.Delta
		d.Value, counts, d.unsure = c.increase(e)
		return d, counts
	case c.Measure == rollup.MeasureIncrease:
		return d, d.Kind == events.Delta
	case level:
		return d, false
	case c.Measure == "events":
		d.Kind, d.Value, d.Histogram = events.Delta, 1, nil
	}
	return d, true
}

// of are the labels of an event; is is false when it is left out.
func (g *grouping) of(f rules.Fields) (labels series.Labels, is bool) {
	for _, field := range g.fields {
		value := f.Text(field.name)
		switch {
		case len(value) > 4096 || value == "" && field.required:
			return nil, false
		case value != "":
			labels = append(labels, series.Label{Name: field.label, Value: value})
		}
	}
	return labels, true
}

// counterKey is a cumulative series, or with the zero id a tenant, in a partition.
type counterKey struct {
	partition int32
	tenant    string
	id        series.ID
}

// counter is the newest sample of a series.
type counter struct {
	time, start, heard int64
	value              float64
	unsure             bool
}

// first says between which times the first sample of a tenant in a rule is, and when it was heard of last. It is not
// known which it is until there is a series, and again when all may have been forgotten.
type first struct {
	least, latest, heard int64
	begun                bool
}

// increase is what the series grew by: docs/rollups.md.
func (c *rule) increase(e *event) (grown float64, counts, unsure bool) {
	m := &e.metric
	at := counterKey{partition: e.partition, tenant: m.Tenant}
	of := c.firsts[at]
	if of == nil {
		at.tenant = strings.Clone(at.tenant)
		of = &first{least: m.Time, latest: m.Time, heard: e.timestamp}
		c.firsts[at] = of
	}
	if of.begun = of.begun && !c.silent(of.heard, e); !of.begun {
		of.least, of.latest = min(of.least, m.Time), max(of.latest, m.Time)
	}
	of.heard = max(of.heard, e.timestamp)
	if !(m.Value >= 0) || math.IsInf(m.Value, 1) {
		return 0, false, false
	}
	of.begun = true
	at.id = series.Hash(series.AppendKey(nil, byte(m.Kind), m.Name, m.Labels))
	before := c.counters[at]
	now := counter{m.Time, m.Start, e.timestamp, m.Value, e.unknown}
	if before == nil {
		at.tenant = strings.Clone(at.tenant)
		c.counters[at] = &now
		begun := m.Start != 0 && m.Start <= m.Time
		_, cut := c.cut[e.partition]
		unsure = e.unknown || cut || begun && m.Start >= of.least && m.Start < of.latest
		return m.Value, begun && m.Start >= of.least || unsure, unsure
	}
	unsure = e.unknown || before.unsure || c.silent(before.heard, e)
	if m.Time <= before.time {
		before.heard, before.unsure = max(before.heard, e.timestamp), unsure
		return 0, unsure, unsure
	}
	was := *before
	*before = now // and not c.counters[at], which would take at's tenant for its key: it is a batch's
	if m.Value < was.value || m.Start > was.start && m.Start >= was.time && m.Start <= m.Time {
		return m.Value, true, unsure
	}
	return m.Value - was.value, true, unsure
}

// silent says whether what was heard of then may have been forgotten meanwhile: of a topic by a worker that was faster
// or slower than the records came, and of files by their events' own clock, which has milliseconds.
func (c *rule) silent(heard int64, e *event) bool {
	if e.file != nil {
		return e.timestamp/1e6-heard/1e6 >= fileIdle.Milliseconds()
	}
	return e.timestamp-heard >= int64(c.idle)/2
}
