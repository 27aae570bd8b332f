package verify

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
)

// pass is one reading of the topic: the cells of the panes from ≤ start < to.
type pass struct {
	v        *verifier
	from, to int64 // to 0 is without end
	cells    map[Key]*Cell
	bytes    int64
	only     map[Key]bool // nil, or the keys to count
	unknown  map[int64]bool
	names    map[string]string
	rates    *rates
	first    bool // counts records and events for the summary
	lost     []Difference
}

// About what a cell and a bucket take, the maps around them included.
const (
	cellBytes   = 400
	bucketBytes = 40
)

// count reads the topic and counts what falls into the panes from on, as many as fit into memory.
func (v *verifier) count(ctx context.Context, from int64) (*pass, error) {
	p := &pass{v: v, from: from, to: v.to, cells: map[Key]*Cell{}, unknown: map[int64]bool{}, names: map[string]string{}, rates: newRates(v.cfg.Limits), first: v.sum.Passes == 0}
	if err := v.source.Records(ctx, v.span.From, v.span.To, p.record); err != nil {
		return nil, err
	}
	if p.first {
		p.reportLost()
		p.rates.note(&v.sum)
	}
	return p, nil
}

// record counts one record.
func (p *pass) record(partition int32, r *pipeline.Record) error {
	batch, standsFor := p.v.reader.Read(r)
	at := position{partition, r.Offset, r.Timestamp / 1e6}
	l := p.v.letters[at]
	if p.first {
		p.v.sum.Records++
	}
	if !p.rates.take(partition, r.Timestamp, p.v.reader.Charge()) {
		return nil
	}
	if batch == nil {
		p.refused(at, l, -1)
		return nil
	}
	for i := range batch.Rejects {
		if index := batch.Rejects[i].Index; index < 0 || standsFor(index) {
			p.refused(at, l, index)
		}
	}
	take := func(index int, m *events.Metric) {
		if standsFor(index) {
			p.event(at, r, l, index, m)
		}
	}
	for i := range batch.Metrics {
		take(batch.MetricIndex[i], &batch.Metrics[i])
	}
	for i := range batch.Spans {
		m := ofSpan(&batch.Spans[i])
		take(batch.SpanIndex[i], &m)
	}
	for i := range batch.Logs {
		m := ofLog(&batch.Logs[i])
		take(batch.LogIndex[i], &m)
	}
	return p.narrow()
}

// refused notes an event that the contract refuses: it must be in a dead letter.
func (p *pass) refused(at position, l *Refusal, index int) {
	if !p.first {
		return
	}
	p.v.sum.Refused++
	if l == nil || !l.Unknown && index >= 0 && !l.refuses(index) {
		p.lose(at, index, "is refused, and in no dead letter")
	}
}

func (p *pass) lose(at position, index int, what string) {
	if len(p.lost) < maxDifferences {
		p.lost = append(p.lost, Difference{What: fmt.Sprintf("event %d of record %d/%d %s", index, at.partition, at.offset, what)})
	}
}

// event counts an event that the contract accepts, unless a letter says that its time or its labels were refused.
func (p *pass) event(at position, r *pipeline.Record, l *Refusal, index int, m *events.Metric) {
	if p.v.cfg.Tenant != "" && m.Tenant != string(p.v.cfg.Tenant) {
		return
	}
	start := floor(m.Time/1e9, p.v.cfg.Table.Width)
	switch {
	case l != nil && l.Unknown:
		p.unknown[start] = true
		return
	case l.refuses(index):
		if p.first {
			p.v.sum.Refused++
			if !l.outOfTime(m.Time, p.v.cfg.MaxPast, p.v.cfg.MaxFuture) && !l.overLabels() && !p.v.overNow(r, m.Tenant, index) {
				p.lose(at, index, "is in a dead letter, and nothing is wrong with it")
			}
		}
		return
	}
	if p.first {
		p.v.sum.Events++
	}
	kind := m.Kind
	if m.Histogram != nil && kind == events.Delta {
		kind = events.Observation
	}
	id := series.Hash(series.AppendKey(nil, byte(kind), m.Name, m.Labels))
	if p.first {
		p.v.limits.see(at.partition, m.Tenant, id)
	}
	if start < p.from || p.to != 0 && start >= p.to || p.v.foreign(m.Name) {
		return
	}
	key := Key{Tenant: p.name(m.Tenant), Metric: p.name(m.Name), Service: p.name(m.Labels.Get("service")), ID: id, Start: start}
	if p.v.cfg.Table.Service {
		if kind > events.Delta {
			return // levels do not merge across series
		}
		key.ID = series.ID{}
	}
	if p.only != nil && !p.only[key] {
		return
	}
	c := p.cells[key]
	if c == nil {
		c = newCell()
		p.cells[key] = c
		p.bytes += cellBytes
	}
	p.bytes += int64(c.add(m, kind)) * bucketBytes
}

// overNow says whether the tenant's limits of now refuse the event: its letter names the reason of another only.
func (v *verifier) overNow(r *pipeline.Record, tenant string, index int) bool {
	l := v.cfg.Limits(tenants.ID(tenant))
	batch, _ := pipeline.NewReader(v.cfg.Signal, events.NewDecoder(pipeline.DecoderOptions(&l))).Read(r)
	return batch != nil && slices.ContainsFunc(batch.Rejects, func(reject events.Reject) bool { return reject.Index == index })
}

// name keeps one copy of a string that is a batch's.
func (p *pass) name(s string) string {
	kept, known := p.names[s]
	if !known {
		kept = string([]byte(s))
		p.names[kept] = kept
	}
	return kept
}

// narrow gives up the later half of the panes when the cells take more than they may: another pass counts them.
func (p *pass) narrow() error {
	if p.bytes <= int64(p.v.cfg.Memory) || p.only != nil {
		return nil
	}
	starts := make([]int64, 0, len(p.cells))
	for key := range p.cells {
		starts = append(starts, key.Start)
	}
	slices.Sort(starts)
	to := starts[len(starts)/2]
	if to == starts[0] {
		if to = starts[0] + p.v.cfg.Table.Width; starts[len(starts)-1] < to {
			return fmt.Errorf("%w: pane %s takes more than %s: give -memory, or one tenant", ErrTooSmall, clock(starts[0]), p.v.cfg.Memory)
		}
	}
	p.to = to
	for key, c := range p.cells {
		if key.Start >= to {
			delete(p.cells, key)
			p.bytes -= cellBytes + bucketBytes*int64(len(c.positive)+len(c.negative))
		}
	}
	return nil
}

// foreign says whether rows of the metric come, or may come, from another topic too.
func (v *verifier) foreign(metric string) bool {
	return v.cfg.Signal == events.Metrics && (metric == pipeline.SpanMetric || metric == pipeline.LogMetric)
}

// metrics are the names that the topic's rows have, or have not.
func (v *verifier) metrics() (names []string, except bool) {
	switch v.cfg.Signal {
	case events.Spans:
		return []string{pipeline.SpanMetric}, false
	case events.Logs:
		return []string{pipeline.LogMetric}, false
	}
	return append([]string{pipeline.SpanMetric, pipeline.LogMetric}, v.cfg.Declared...), true
}

// ofSpan is the observation that a span stands for.
func ofSpan(s *events.Span) events.Metric {
	m := events.Metric{Tenant: s.Tenant, Time: s.Time, Name: pipeline.SpanMetric, Value: float64(s.Duration) / 1e9}
	class := ""
	if s.StatusCode >= 100 && s.StatusCode < 600 {
		class = strconv.Itoa(s.StatusCode/100) + "xx"
	}
	for _, l := range []series.Label{
		{Name: "http_route", Value: s.Route}, {Name: "http_status_class", Value: class}, {Name: "peer", Value: s.Peer},
		{Name: "service", Value: s.Service}, {Name: "span_kind", Value: s.Kind}, {Name: "span_name", Value: s.Name},
		{Name: "status", Value: s.Status},
	} {
		if l.Value != "" {
			m.Labels = append(m.Labels, l)
		}
	}
	return m
}

// ofLog is the count that a log record stands for.
func ofLog(l *events.Log) events.Metric {
	m := events.Metric{Tenant: l.Tenant, Time: l.Time, Name: pipeline.LogMetric, Kind: events.Delta, Value: 1}
	if l.Service != "" {
		m.Labels = append(m.Labels, series.Label{Name: "service", Value: l.Service})
	}
	m.Labels = append(m.Labels, series.Label{Name: "severity", Value: l.Severity})
	return m
}

// limits tells whether a limit may have dropped events, which leaves no trace in Kafka: the tenants of a partition and
// the series of a tenant in it, counted up to the limit. What was never above cannot have been dropped.
type limits struct {
	partitions map[int32]map[string]map[series.ID]bool
}

func (l *limits) see(partition int32, tenant string, id series.ID) {
	if l.partitions == nil {
		l.partitions = map[int32]map[string]map[series.ID]bool{}
	}
	all := l.partitions[partition]
	if all == nil {
		all = map[string]map[series.ID]bool{}
		l.partitions[partition] = all
	}
	known := all[tenant]
	if known == nil {
		known = map[series.ID]bool{}
		all[string([]byte(tenant))] = known
	}
	known[id] = true
}

func (l *limits) note(sum *Summary, cfg *Config) {
	limited := map[string]bool{}
	for _, all := range l.partitions {
		for tenant, known := range all {
			if len(all) > cfg.MaxTenants || len(known) > cfg.Limits(tenants.ID(tenant)).ActiveSeries {
				limited[tenant] = true
			}
		}
	}
	if len(limited) == 0 {
		return
	}
	names := make([]string, 0, len(limited))
	for tenant := range limited {
		names = append(names, tenant)
	}
	slices.Sort(names)
	sum.Notes = append(sum.Notes, fmt.Sprintf("%d tenants have more series or neighbours in a partition than their limit (first: %s): events that it dropped are counted here and not stored, and cannot be told from lost ones (vigie_pipeline_dropped_events_total has their number)",
		len(names), names[0]))
}
