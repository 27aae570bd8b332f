// Package counters remembers the newest sample of each cumulative series, to say by how much a sample has grown. Its
// main type is Counters, the state.Operator of a task. When a counter has started anew decides series.Counter; what
// increases are added to is the business of package pipeline.
package counters

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/vigie-io/vigie/internal/pipeline/state"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
)

var _ state.Operator = (*Counters)(nil)

// ReasonCounterLimit: the tenant has as many cumulative series in a rollup of measure increase as it may have series.
// The other reasons for which such a rollup leaves a sample out are outcomes of series.Counter.
const ReasonCounterLimit events.Reason = "counter_limit"

// Counters are the cumulative series of rollups with the measure increase, as an Operator: under a rule's id, for each
// tenant, when its first sample came, and the newest sample of each series.
//
// A series that has been silent for idle is forgotten, as are those of rules that configuration no longer has; both
// while changes are written, so that memory and log agree.
type Counters struct {
	limit   func(tenant string) (series int, bytes int64) // in a rule
	idle    int64                                         // processing time, ms
	rules   map[uint64]bool
	series  map[string]*entry // by state key
	tenants map[string]*tenantCounters

	changed []string // state keys, since the last Changes
	undo    state.Undo
	key     []byte
	value   []byte

	now, swept int64 // processing time, ms
	foreign    bool  // the log held rules that are not configured
}

type entry struct {
	series.Counter
	heard   int64 // processing time, ms; 0 after a restore, until the next sweep
	changed bool  // noted in undo
}

// tenantCounters is what a rule knows of a tenant.
type tenantCounters struct {
	since  int64 // event time of the first sample, Unix ns; 0: not known
	series int
	bytes  int64 // of their keys
}

// Version is that of the values in state (docs/format/state.md).
const Version = 1

// What a key of state is about, after the rule's id.
const (
	kindSince  = 't'
	kindSeries = 'c'

	// seriesBytes is the most that the value of a series takes.
	seriesBytes = 2 + 2*binary.MaxVarintLen64 + 16
)

// New returns Counters without series. rules are the ids of the rules that take increases: what the log has of others
// goes with the first changes. limit says how many series a tenant may have in a rule, and how many bytes their keys; a
// series that has been silent for idle, in processing time, is forgotten.
func New(idle time.Duration, limit func(tenant string) (series int, bytes int64), rules []uint64) Counters {
	c := Counters{
		limit: limit, idle: idle.Milliseconds(), rules: map[uint64]bool{},
		series: map[string]*entry{}, tenants: map[string]*tenantCounters{},
	}
	for _, id := range rules {
		c.rules[id] = true
	}
	return c
}

// Increase is what a sample adds to what was counted of its series before. ok is false when it adds nothing; what is
// wrong with it, if anything, is the reason.
func (c *Counters) Increase(rule uint64, m *events.Metric, now int64) (delta float64, ok bool, reason events.Reason) {
	of := c.tenant(rule, m)
	c.key = series.AppendKey(state.AppendRuleKey(c.key[:0], rule, kindSeries, m.Tenant), byte(m.Kind), m.Name, m.Labels)
	e := c.series[string(c.key)]
	if e == nil {
		if series, bytes := c.limit(m.Tenant); of.series >= series || of.bytes+int64(len(c.key)) > bytes {
			return 0, false, ReasonCounterLimit
		}
		e = &entry{}
	}
	e.heard = now
	before := e.Counter
	delta, _, outcome := e.Add(series.CounterSample{Time: m.Time, Start: m.Start, Value: m.Value}, of.since)
	switch outcome {
	case series.Counted, series.Reset, series.Based:
		c.store(of, e, &before)
		return delta, outcome != series.Based, ""
	}
	return 0, false, events.Reason(outcome.String())
}

// tenant is the rule's tenant of a sample; its first sample says since when.
func (c *Counters) tenant(rule uint64, m *events.Metric) *tenantCounters {
	c.key = state.AppendRuleKey(c.key[:0], rule, kindSince, m.Tenant)
	of := c.tenants[string(c.key)]
	if of == nil {
		of = &tenantCounters{}
		c.tenants[string(c.key)] = of
	}
	if of.since == 0 {
		c.note(nil)
		of.since = m.Time
	}
	return of
}

// add counts a series more, or less.
func (of *tenantCounters) add(key []byte, n int) {
	of.series += n
	of.bytes += int64(n * len(key))
}

// store keeps the changed entry of c.key.
func (c *Counters) store(of *tenantCounters, e *entry, before *series.Counter) {
	if e.changed {
		return
	}
	e.changed = true
	if _, known := c.series[string(c.key)]; known {
		c.value, _ = before.AppendBinary(c.value[:0])
		c.note(c.value)
		return
	}
	c.note(nil)
	c.series[string(c.key)] = e
	of.add(c.key, 1)
}

// note says that the key c.key changes, which was worth value.
func (c *Counters) note(value []byte) {
	c.undo.Note(c.key, value)
	c.changed = append(c.changed, string(c.key))
}

// At says what processing time it is when changes are written next, Unix milliseconds.
func (c *Counters) At(now int64) { c.now = now }

// Changes implements Operator.
func (c *Counters) Changes(emit func(key, value []byte)) {
	c.sweep()
	slices.Sort(c.changed)
	c.changed = slices.Compact(c.changed)
	for _, key := range c.changed {
		c.key = append(c.key[:0], key...)
		if c.value = c.worth(key); len(c.value) > 0 {
			emit(c.key, c.value)
		} else {
			emit(c.key, nil)
		}
	}
}

// worth is the value of a key, empty when it is gone.
func (c *Counters) worth(key string) []byte {
	value := c.value[:0]
	if e := c.series[key]; e != nil {
		value, _ = e.AppendBinary(value)
	} else if of := c.tenants[key]; of != nil {
		value = binary.LittleEndian.AppendUint64(value, uint64(of.since))
	}
	return value
}

// sweep forgets series that have been silent, and what is of rules that are no more, at most four times an idle time.
func (c *Counters) sweep() {
	if c.now-c.swept < c.idle/4 && !c.foreign {
		return
	}
	c.swept = c.now
	var gone []string
	for key, e := range c.series {
		if e.heard == 0 {
			e.heard = c.now
		}
		if c.now-e.heard >= c.idle || !c.rules[state.RuleOf(key)] {
			gone = append(gone, key)
		}
	}
	slices.Sort(gone)
	for _, key := range gone {
		c.forget(key)
	}
	gone = gone[:0]
	for key, of := range c.tenants {
		if of.series == 0 {
			gone = append(gone, key)
		}
	}
	slices.Sort(gone)
	for _, key := range gone {
		c.forget(key)
	}
	c.foreign = false
}

// forget removes a key, and notes what it was worth unless that has been noted.
func (c *Counters) forget(key string) {
	c.key = append(c.key[:0], key...)
	c.value = c.worth(key)
	c.note(c.value)
	if c.series[key] != nil {
		c.tenants[tenantKey(key)].add(c.key, -1)
		delete(c.series, key)
	}
	delete(c.tenants, key)
}

// Settle implements Operator.
func (c *Counters) Settle(committed bool) {
	if committed {
		c.undo.Clear()
	} else {
		c.undo.Back(c.Restore)
	}
	for _, key := range c.changed {
		if e := c.series[key]; e != nil {
			e.changed = false
		}
	}
	clear(c.changed)
	c.changed = c.changed[:0]
}

// Restore implements Operator.
func (c *Counters) Restore(key, value []byte) error {
	kind, tenant, name := cutKey(string(key))
	if kind == 0 {
		return fmt.Errorf("counter key %x: want a rule, what it is about, and a tenant", key)
	}
	if err := c.restore(string(key), kind, name, value); err != nil {
		return fmt.Errorf("counters of rule %016x, tenant %q: %w", state.RuleOf(string(key)), tenant, err)
	}
	c.foreign = c.foreign || !c.rules[state.RuleOf(string(key))]
	return nil
}

func (c *Counters) restore(key string, kind byte, name string, value []byte) error {
	of := c.tenants[tenantKey(key)]
	if of == nil {
		of = &tenantCounters{}
	}
	switch {
	case kind == kindSince && value == nil:
		of.since = 0
	case kind == kindSince:
		if len(value) != 8 {
			return fmt.Errorf("first sample: got %d bytes, want 8", len(value))
		}
		of.since = int64(binary.LittleEndian.Uint64(value))
	case value == nil:
		if c.series[key] != nil {
			of.add([]byte(key), -1)
			delete(c.series, key)
		}
	default:
		if _, _, _, err := series.ParseKey([]byte(name)); err != nil {
			return err
		}
		e := &entry{}
		if err := e.UnmarshalBinary(value); err != nil {
			return err
		}
		if c.series[key] == nil {
			of.add([]byte(key), 1)
		}
		c.series[key] = e
	}
	if of.since == 0 && of.series == 0 {
		delete(c.tenants, tenantKey(key))
	} else {
		c.tenants[tenantKey(key)] = of
	}
	return nil
}

// Len implements Operator.
func (c *Counters) Len() int { return len(c.series) + len(c.tenants) }

// Bytes implements Operator. Values of series differ in length by their times only: all count as the longest.
func (c *Counters) Bytes() (n int64) {
	for key := range c.series {
		n += int64(len(key)) + seriesBytes
	}
	for key := range c.tenants {
		n += int64(len(key)) + 8
	}
	return n
}

// tenantKey is the key of the tenant that a key is of.
func tenantKey(key string) string {
	return key[:8] + string(kindSince) + key[9:10+int(key[9])]
}

// cutKey takes a key apart; kind is 0 when it is none.
func cutKey(key string) (kind byte, tenant, name string) {
	kind, tenant, name = state.CutRuleKey(key)
	if tenants.Validate(tenants.ID(tenant)) != nil || kind != kindSeries && (kind != kindSince || name != "") {
		return 0, "", ""
	}
	return kind, tenant, name
}
