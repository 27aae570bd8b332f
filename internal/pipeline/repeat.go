package pipeline

import (
	"math/rand/v2"

	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
)

// maxKnown bounds what is known of a tenant whose series are not bounded: 128 MiB.
const maxKnown = 1 << 20

// knows returns the tenant of a record whose events may be known by their bytes. Which record that is does not depend
// on what is known, and neither does any result.
func (t *Task) knows(h *sourceHeaders) *tenant {
	if t.cfg.Signal != events.Metrics || h.only != nil || h.barred != nil {
		return nil
	}
	return h.claimant
}

// claimant is the tenant that the record names outside of its value, nil when it is none of the task's, and its meter
// where that is known.
func (t *Task) claimant(r *Record, h *sourceHeaders) (tn *tenant, m *meter) {
	if c := t.claims.find(r.Key); c != nil && (h.tenant == "" || h.tenant == c.tenant.name) {
		return c.tenant, c.meter
	}
	return t.find(claimed(r, h)), nil
}

// find returns the task's tenant of a name, nil when there is none.
func (t *Task) find(name string) *tenant {
	if c := t.claims.find(bytesOf(name)); c != nil && c.tenant.name == name {
		return c.tenant
	}
	tn := t.tenants[name]
	if tn != nil {
		t.claims.remember(bytesOf(name), tn, nil)
	}
	return tn
}

// learn lets an event be known when it comes again. What it says beside time and value has to be what the series says.
func (t *Task) learn(tn *tenant, ref uint32, e *entry, m *events.Metric) {
	if m.Digest == (series.ID{}) || tn.class(e).about != (about{m.Unit, m.Help}) {
		return
	}
	tn.repeats.Learn(m.Digest, ref)
}

// learnBeyond lets an event be known that is of no series, because its tenant has all that it may have: until one of
// them is forgotten, or the limit is another, there is none for it. It is only for tasks that do nothing else with such
// events.
func (t *Task) learnBeyond(tn *tenant, m *events.Metric) {
	if tn != nil && !t.declares && m.Digest != (series.ID{}) {
		tn.repeats.LearnBeyond(m.Digest)
	}
}

// isBeyond says whether a record is one event of a series that its tenant may not have any more, without decoding it.
// It is only for tasks that do nothing else with such events.
func (t *Task) isBeyond(r *Record, h *sourceHeaders, l *events.Look, src *events.Source) bool {
	tn := h.known
	if tn == nil || tn.filter == nil || t.declares || !tn.full() {
		return false
	}
	fill(src, r, h)
	src.Repeats, src.Look = tn.repeats, nil
	return tn.decoder.Beyond(&t.cfg.Scratch.looker, l, src, tn.filter)
}

// maxFiltered is of how many series a filter is made, which is done at once: that takes 100 ms.
const maxFiltered = 1 << 18

// dropDecoded notes that an event had to be decoded to be dropped. When these are a quarter as many as the tenant has
// series, it gets a filter, which costs as much as to decode them.
func (t *Task) dropDecoded(tn *tenant) {
	const few = 64
	tn.decoded++
	n := tn.table.Len()
	if !tn.full() || t.declares || tn.decoded < few+n/4 || n > maxFiltered || tn.filter != nil && !tn.filter.Full() {
		return
	}
	tn.decoded = 0
	tn.filter = events.NewFilter(tn.name, rand.Uint64(), 2*n)
	tn.table.Range(func(ref uint32) bool {
		g := tn.class(tn.table.At(ref)).group
		t.known = tn.table.AppendLabels(t.known[:0], ref)
		tn.filter.Add(g.kind, g.metric, t.known)
		return true
	})
}

// metrics takes the metrics of a record, in their order.
func (t *Task) metrics(h *sourceHeaders, b *events.Batch) {
	known := b.Repeats
	var searches []search
	if h.search > 0 {
		searches = t.cfg.Scratch.ofRun.list[h.search-1:]
	}
	for i := range b.Metrics {
		m, index := &b.Metrics[i], b.MetricIndex[i]
		for len(known) > 0 && known[0].Index < index {
			t.repeat(h.known, &known[0])
			known = known[1:]
		}
		if i%runRecords == 0 && len(b.Metrics) > 1 {
			searches = t.searchSome(h.claimant, b.Metrics[i:min(i+runRecords, len(b.Metrics))])
		}
		if t.wanted(h.only, index, m.Time) {
			if searches == nil {
				t.metric(m)
			} else {
				t.metricOf(h.claimant, &searches[i%runRecords], m)
			}
			if t.declares {
				t.declareMetric(m)
			}
		}
	}
	for len(known) > 0 {
		some := known[:min(len(known), runRecords)]
		t.readAheadOf(h.known, some)
		for i := range some {
			t.repeat(h.known, &some[i])
		}
		known = known[len(some):]
	}
}

// repeat takes an event of a series that the tenant has.
func (t *Task) repeat(tn *tenant, r *events.Repeat) {
	if !t.wanted(nil, r.Index, r.Time) {
		return
	}
	t.current = tn
	if r.Ref == events.Beyond {
		t.exceed(tn)
		return
	}
	e := tn.table.At(r.Ref)
	t.number(t.take(tn, r.Ref, e, r.Time), r.Time, r.Value)
	if t.declares {
		of := tn.class(e)
		t.known = tn.table.AppendLabels(t.known[:0], r.Ref)
		t.declareMetric(&events.Metric{
			Tenant: tn.name, Time: r.Time, Start: r.Start, Name: of.group.metric, Kind: of.group.kind, Value: r.Value,
			Labels: t.known, Unit: of.about.unit, Help: of.about.help,
		})
	}
}
