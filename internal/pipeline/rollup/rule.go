// Package rollup says what rollups make of events: the names of the default rollups, and the rollups that configuration
// declares, with the conditions, measures, labels and windows of each. Its main type is Rule, a Declared made ready. It
// keeps nothing: package pipeline adds up what rules take.
package rollup

import (
	"slices"

	"github.com/vigie-io/vigie/internal/pipeline/aggregate"
	"github.com/vigie-io/vigie/internal/pipeline/windowed"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/rules"
	"github.com/vigie-io/vigie/pkg/windows"
)

// OneEvent is what each event gives a rollup of MeasureEvents. It is not to be changed.
var OneEvent = aggregate.Measurement{Kind: events.Delta, Value: 1}

// Rule is a declared rollup made ready. It is not to be changed.
type Rule struct {
	Measure   string             // one of the measures
	Groupings []Grouping         // one metric each, at least one
	Window    *windowed.Rule     // nil: panes
	WindowID  uint64             // of Window
	Late      windows.LatePolicy // of Window
	Keep      *windowed.Keep     // nil: nothing more
	CounterID uint64             // tells rules of measure increase apart that take other samples

	where   *rules.Expr  // nil: all
	tenants []tenants.ID // empty: all
}

// Meets says whether the rollup takes an event of a tenant: m is its own measure.
func (r *Rule) Meets(tenant string, f rules.Fields, m *aggregate.Measurement) bool {
	return r.takes(m) && (len(r.tenants) == 0 || slices.Contains(r.tenants, tenants.ID(tenant))) &&
		(r.where == nil || r.where.Match(f))
}

// takes says whether a rollup counts such measurements.
func (r *Rule) takes(m *aggregate.Measurement) bool {
	if r.Measure == MeasureIncrease {
		return m.Kind == events.Cumulative || m.Kind == events.Delta
	}
	return m.Kind != events.Cumulative
}

// Of makes the rollups of a signal ready. They have been validated.
func Of(list []Declared, signal events.Signal) (ready []*Rule) {
	for i := range list {
		if list[i].From == signal {
			ready = append(ready, list[i].ready())
		}
	}
	return ready
}

// Windows are the rules of the windows of rollups, of those that have any.
func Windows(list []*Rule) (rules []*windowed.Rule) {
	for _, r := range list {
		if r.Window != nil {
			rules = append(rules, r.Window)
		}
	}
	return rules
}

// Counters are the ids of rollups of measure increase.
func Counters(list []*Rule) (ids []uint64) {
	for _, r := range list {
		if r.Measure == MeasureIncrease {
			ids = append(ids, r.CounterID)
		}
	}
	return ids
}
