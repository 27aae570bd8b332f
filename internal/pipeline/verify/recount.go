package verify

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/pipeline/rollup"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
)

// pass is one reading of the topic: the cells of the panes from ≤ start < to.
type pass struct {
	reading
	from, to int64 // to 0 is without end
	rules    []*rule
	cells    map[Key]*Cell
	bytes    int64
	only     map[Key]bool // nil, or the keys to count
	unsure   map[Key]bool // rows of which it is not known what they should hold
	names
}

// names keep one copy of each string that is a batch's.
type names map[string]string

// About what a cell and a bucket take, the maps around them included.
const (
	cellBytes   = 400
	bucketBytes = 40
)

// count reads the topic and counts what falls into the panes from on, as many as fit into memory.
func (v *verifier) count(ctx context.Context, from int64) (*pass, error) {
	p := &pass{from: from, to: v.to, cells: map[Key]*Cell{}, unsure: map[Key]bool{}, names: names{}}
	p.reading = v.read(v.sum.Passes == 0, p.event)
	var err error
	if p.rules, err = v.rulesOf(false); err != nil {
		return nil, err
	}
	for _, c := range p.rules {
		if c.increases() {
			take := func(e *event, d *derived, _ string) { p.metric(e, &d.Metric, d.unsure) }
			p.grown.rules = append(p.grown.rules, fileIncrease{c, series.Hash([]byte(c.Name)).Lo, take})
		}
	}
	if err := v.source.Records(ctx, v.span.From, v.span.To, p.record); err != nil {
		return nil, err
	}
	if err := p.files(ctx, p.narrow); err != nil {
		return nil, err
	}
	if p.first {
		v.reportLost(&p.reading)
	}
	return p, nil
}

// record counts one record.
func (p *pass) record(partition int32, r *pipeline.Record) error {
	p.reading.record(partition, r)
	return p.narrow()
}

// event counts an event in its own metric, and in those that are derived from it.
func (p *pass) event(e *event) {
	m := e.metric
	if m.Histogram != nil && m.Kind == events.Delta {
		m.Kind = events.Observation
	}
	p.metric(e, &m, e.unknown)
	for _, c := range p.rules {
		if e.file != nil && c.increases() {
			continue // it waits for all files
		}
		c.derive(e, func(d derived) { p.metric(e, &d.Metric, e.unknown || d.unsure) })
	}
}

// metric counts a metric of an event, unless it is not sure that it does.
func (p *pass) metric(e *event, m *events.Metric, unsure bool) {
	name := series.AppendKey(nil, byte(m.Kind), m.Name, m.Labels)
	id := series.Hash(name)
	if p.first && !e.unknown && e.file == nil {
		p.v.limits.see(e.partition, m, name)
	}
	start := floor(m.Time/1e9, p.v.cfg.Table.Width)
	if start < p.from || p.to != 0 && start >= p.to || slices.Contains(p.v.foreign, m.Name) {
		return
	}
	key := Key{Tenant: p.name(m.Tenant), Metric: p.name(m.Name), Service: p.name(m.Labels.Get("service")), ID: id, Start: start}
	if p.v.cfg.Table.Service {
		if m.Kind > events.Delta {
			return // levels do not merge across series
		}
		key.ID = series.ID{}
	}
	if unsure {
		p.unsure[key] = true
		return
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
	p.bytes += int64(c.add(m, m.Kind)) * bucketBytes
}

// overNow says whether the tenant's limits of now refuse the event: its letter names the reason of another only.
func (v *verifier) overNow(r *pipeline.Record, tenant string, index int) bool {
	l := v.cfg.Limits(tenants.ID(tenant))
	batch, _ := pipeline.NewReader(v.cfg.Signal, events.NewDecoder(pipeline.DecoderOptions(&l))).Read(r)
	return batch != nil && slices.ContainsFunc(batch.Rejects, func(reject events.Reject) bool { return reject.Index == index })
}

func (n names) name(s string) string {
	kept, known := n[s]
	if !known {
		kept = string([]byte(s))
		n[kept] = kept
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
			return fmt.Errorf("%w: pane %s takes more than %s: give -memory, or one tenant", ErrTooSmall,
				clock(starts[0]), p.v.cfg.Memory)
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

// metrics are the names that the topic's rows have, or have not.
func (v *verifier) metrics() (names []string, except bool) {
	if v.cfg.Signal == events.Metrics {
		return v.foreign, true
	}
	return v.own, false
}

// sortMetrics tells the metrics that come from the topic from those that come, or may come, from another one too.
func (v *verifier) sortMetrics() {
	v.own, v.foreign = nil, nil
	add := func(signal events.Signal, names ...string) {
		if signal == v.cfg.Signal {
			v.own = append(v.own, names...)
		} else {
			v.foreign = append(v.foreign, names...)
		}
	}
	add(events.Spans, rollup.SpanMetric)
	add(events.Logs, rollup.LogMetric)
	for _, r := range v.cfg.Rollups {
		if r.Window != nil {
			continue
		}
		if c, err := newRule(&r); err == nil {
			for _, g := range c.groupings {
				add(r.From, g.metric)
			}
		}
	}
}

// ofSpan is the observation that a span stands for.
func ofSpan(s *events.Span) events.Metric {
	m := events.Metric{Tenant: s.Tenant, Time: s.Time, Name: rollup.SpanMetric, Value: float64(s.Duration) / 1e9}
	for _, l := range []series.Label{
		{Name: "http_route", Value: s.Route}, {Name: "http_status_class", Value: classOf(s.StatusCode)},
		{Name: "peer", Value: s.Peer},
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
	m := events.Metric{Tenant: l.Tenant, Time: l.Time, Name: rollup.LogMetric, Kind: events.Delta, Value: 1}
	if l.Service != "" {
		m.Labels = append(m.Labels, series.Label{Name: "service", Value: l.Service})
	}
	m.Labels = append(m.Labels, series.Label{Name: "severity", Value: l.Severity})
	return m
}

// limits tells whether a limit may have dropped events, which leaves no trace in Kafka: the tenants of a partition and
// the series of a tenant in it. What was never above cannot have been dropped.
type limits struct {
	partitions map[int32]map[string]*limited
}

// limited is what counts toward a tenant's limits of series.
type limited struct {
	series map[series.ID]bool
	bytes  int64
}

// see notes the series of a metric, which is its name.
func (l *limits) see(partition int32, m *events.Metric, name []byte) {
	if l.partitions == nil {
		l.partitions = map[int32]map[string]*limited{}
	}
	all := l.partitions[partition]
	if all == nil {
		all = map[string]*limited{}
		l.partitions[partition] = all
	}
	known := all[m.Tenant]
	if known == nil {
		known = &limited{series: map[series.ID]bool{}}
		all[strings.Clone(m.Tenant)] = known
	}
	if id := series.Hash(name); !known.series[id] {
		known.series[id] = true
		known.bytes += int64(len(name) + len(m.Unit) + len(m.Help))
	}
}

func (l *limits) note(sum *Summary, cfg *Config) {
	above := map[string]bool{}
	for _, all := range l.partitions {
		for tenant, known := range all {
			of := cfg.Limits(tenants.ID(tenant))
			if len(all) > cfg.MaxTenants || len(known.series) > of.ActiveSeries || known.bytes > int64(of.SeriesBytes) {
				above[tenant] = true
			}
		}
	}
	if len(above) == 0 {
		return
	}
	names := make([]string, 0, len(above))
	for tenant := range above {
		names = append(names, tenant)
	}
	slices.Sort(names)
	sum.Notes = append(sum.Notes,
		fmt.Sprintf("%d tenants have more series (or longer names of them) or neighbours in a partition than their limit "+
			"(first: %s): events that it dropped are counted here and not stored, and cannot be told from lost ones "+
			"(vigie_pipeline_dropped_events_total has their number)",
			len(names), names[0]))
}
