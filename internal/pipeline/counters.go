package pipeline

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

var _ state.Operator = (*counters)(nil)

// ReasonCounterLimit: the tenant has as many cumulative series in a rollup of measure increase as it may have series. The
// other reasons for which such a rollup leaves a sample out are outcomes of series.Counter.
const ReasonCounterLimit events.Reason = "counter_limit"

// counters are the cumulative series of rollups with the measure increase, as an Operator: under a rule's id, for each tenant,
// when its first sample came, and the newest sample of each series.
//
// A series that has been silent for idle is forgotten, as are those of rules that configuration no longer has; both while changes are
// written, so that memory and log agree.
type counters struct {
	limit   func(tenant string) (series int, bytes int64) // in a rule
	idle    int64                                         // processing time, ms
	rules   map[uint64]bool
	series  map[string]*counterEntry // by state key
	tenants map[string]*counterTenant

	changed []string // state keys, since the last Changes
	undo    state.Undo
	key     []byte
	value   []byte

	now, swept int64 // processing time, ms
	foreign    bool  // the log held rules that are not configured
}

type counterEntry struct {
	series.Counter
	heard   int64 // processing time, ms; 0 after a restore, until the next sweep
	changed bool  // noted in undo
}

// counterTenant is what a rule knows of a tenant.
type counterTenant struct {
	since  int64 // event time of the first sample, Unix ns; 0: not known
	series int
	bytes  int64 // of their keys
}

const (
	countersVersion = 1
	counterSince    = 't'
	counterSeries   = 'c'
	counterBytes    = 2 + 2*binary.MaxVarintLen64 + 16
)

func newCounters(idle time.Duration, limit func(tenant string) (series int, bytes int64), rules []uint64) counters {
	c := counters{
		limit: limit, idle: idle.Milliseconds(), rules: map[uint64]bool{},
		series: map[string]*counterEntry{}, tenants: map[string]*counterTenant{},
	}
	for _, id := range rules {
		c.rules[id] = true
	}
	return c
}

// increase is what a sample adds to what was counted of its series before. ok is false when it adds nothing; what is wrong with it,
// if anything, is the reason.
func (c *counters) increase(rule uint64, m *events.Metric, now int64) (delta float64, ok bool, reason events.Reason) {
	of := c.tenant(rule, m)
	c.key = series.AppendKey(state.AppendRuleKey(c.key[:0], rule, counterSeries, m.Tenant), byte(m.Kind), m.Name, m.Labels)
	e := c.series[string(c.key)]
	if e == nil {
		if series, bytes := c.limit(m.Tenant); of.series >= series || of.bytes+int64(len(c.key)) > bytes {
			return 0, false, ReasonCounterLimit
		}
		e = &counterEntry{}
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
func (c *counters) tenant(rule uint64, m *events.Metric) *counterTenant {
	c.key = state.AppendRuleKey(c.key[:0], rule, counterSince, m.Tenant)
	of := c.tenants[string(c.key)]
	if of == nil {
		of = &counterTenant{}
		c.tenants[string(c.key)] = of
	}
	if of.since == 0 {
		c.note(nil)
		of.since = m.Time
	}
	return of
}

// add counts a series more, or less.
func (of *counterTenant) add(key []byte, n int) {
	of.series += n
	of.bytes += int64(n * len(key))
}

// store keeps the changed entry of c.key.
func (c *counters) store(of *counterTenant, e *counterEntry, before *series.Counter) {
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
func (c *counters) note(value []byte) {
	c.undo.Note(c.key, value)
	c.changed = append(c.changed, string(c.key))
}

// at says what processing time it is when changes are written next, Unix milliseconds.
func (c *counters) at(now int64) { c.now = now }

// Changes implements Operator.
func (c *counters) Changes(emit func(key, value []byte)) {
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
func (c *counters) worth(key string) []byte {
	value := c.value[:0]
	if e := c.series[key]; e != nil {
		value, _ = e.AppendBinary(value)
	} else if of := c.tenants[key]; of != nil {
		value = binary.LittleEndian.AppendUint64(value, uint64(of.since))
	}
	return value
}

// sweep forgets series that have been silent, and what is of rules that are no more, at most four times an idle time.
func (c *counters) sweep() {
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
func (c *counters) forget(key string) {
	c.key = append(c.key[:0], key...)
	c.value = c.worth(key)
	c.note(c.value)
	if c.series[key] != nil {
		c.tenants[counterTenantKey(key)].add(c.key, -1)
		delete(c.series, key)
	}
	delete(c.tenants, key)
}

// Settle implements Operator.
func (c *counters) Settle(committed bool) {
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
func (c *counters) Restore(key, value []byte) error {
	kind, tenant, name := cutCounterKey(string(key))
	if kind == 0 {
		return fmt.Errorf("counter key %x: want a rule, what it is about, and a tenant", key)
	}
	if err := c.restore(string(key), kind, name, value); err != nil {
		return fmt.Errorf("counters of rule %016x, tenant %q: %w", state.RuleOf(string(key)), tenant, err)
	}
	c.foreign = c.foreign || !c.rules[state.RuleOf(string(key))]
	return nil
}

func (c *counters) restore(key string, kind byte, name string, value []byte) error {
	of := c.tenants[counterTenantKey(key)]
	if of == nil {
		of = &counterTenant{}
	}
	switch {
	case kind == counterSince && value == nil:
		of.since = 0
	case kind == counterSince:
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
		e := &counterEntry{}
		if err := e.UnmarshalBinary(value); err != nil {
			return err
		}
		if c.series[key] == nil {
			of.add([]byte(key), 1)
		}
		c.series[key] = e
	}
	if of.since == 0 && of.series == 0 {
		delete(c.tenants, counterTenantKey(key))
	} else {
		c.tenants[counterTenantKey(key)] = of
	}
	return nil
}

// Len implements Operator.
func (c *counters) Len() int { return len(c.series) + len(c.tenants) }

// Bytes implements Operator. Values of series differ in length by their times only: all count as the longest.
func (c *counters) Bytes() (n int64) {
	for key := range c.series {
		n += int64(len(key)) + counterBytes
	}
	for key := range c.tenants {
		n += int64(len(key)) + 8
	}
	return n
}

// counterTenantKey is the key of the tenant that a key is of.
func counterTenantKey(key string) string {
	return key[:8] + string(counterSince) + key[9:10+int(key[9])]
}

// cutCounterKey takes a key apart; kind is 0 when it is none.
func cutCounterKey(key string) (kind byte, tenant, name string) {
	kind, tenant, name = state.CutRuleKey(key)
	if tenants.Validate(tenants.ID(tenant)) != nil || kind != counterSeries && (kind != counterSince || name != "") {
		return 0, "", ""
	}
	return kind, tenant, name
}
