package pipeline

import (
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
)

// maxKnown bounds what is known of a tenant whose series are not bounded: 128 MiB.
const maxKnown = 1 << 20

// knows returns the tenant of a record whose events may be known by their bytes. Which record that is does not depend
// on what is known, and neither does any result.
func (t *Task) knows(claimant *tenant, h *sourceHeaders) *tenant {
	if t.cfg.Signal != events.Metrics || h.only != nil {
		return nil
	}
	return claimant
}

// claimant is the tenant that the record names outside of its value, nil when it is none of the task's. The name may be the
// record's bytes.
func (t *Task) claimant(r *Record, h *sourceHeaders) (name string, tn *tenant) {
	name = claimed(r, h)
	if tn := t.current; tn != nil && tn.name == name {
		return name, tn
	}
	return name, t.find(name)
}

// find returns the task's tenant of a name, nil when there is none. Most records are of tenants that were found lately, whose places tell
// without a hash.
func (t *Task) find(name string) *tenant {
	place := &t.lately[placeOf(name)]
	if tn := *place; tn != nil && tn.name == name {
		return tn
	}
	tn := t.tenants[name]
	if tn != nil {
		*place = tn
	}
	return tn
}

// placeOf takes what names differ in mostly, their last letters.
func placeOf(name string) (place uint8) {
	for i := max(len(name)-3, 0); i < len(name); i++ {
		place = 37*place + name[i]
	}
	return place
}

// learn lets an event be known when it comes again. What it says beside time and value has to be what the series says.
func (t *Task) learn(tn *tenant, ref uint32, e *entry, m *events.Metric) {
	if m.Digest == (series.ID{}) || tn.class(e).about != (about{m.Unit, m.Help}) {
		return
	}
	tn.repeats.Learn(m.Digest, ref)
}

// metrics takes the metrics of a record, in their order.
func (t *Task) metrics(h *sourceHeaders, b *events.Batch) {
	known := b.Repeats
	for i := range b.Metrics {
		m, index := &b.Metrics[i], b.MetricIndex[i]
		for len(known) > 0 && known[0].Index < index {
			t.repeat(h.known, &known[0])
			known = known[1:]
		}
		if t.wanted(h.only, index, m.Time) {
			t.metric(m)
			if t.declares {
				t.declareMetric(m)
			}
		}
	}
	for i := range known {
		t.repeat(h.known, &known[i])
	}
}

// repeat takes an event of a series that the tenant has.
func (t *Task) repeat(tn *tenant, r *events.Repeat) {
	if !t.wanted(nil, r.Index, r.Time) {
		return
	}
	e := tn.table.At(r.Ref)
	t.current = tn
	of := tn.class(e)
	t.number(t.take(tn, r.Ref, e, r.Time), of.group.kind, r.Time, r.Value)
	if t.declares {
		t.known = series.AppendLabels(t.known[:0], tn.table.Key(r.Ref))
		t.declareMetric(&events.Metric{
			Tenant: tn.name, Time: r.Time, Start: r.Start, Name: of.group.metric, Kind: of.group.kind, Value: r.Value, Labels: t.known, Unit: of.about.unit, Help: of.about.help,
		})
	}
}
