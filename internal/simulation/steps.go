package simulation

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
)

// verbs are the statements of a scenario, but for those of its shape.
var verbs map[string]func(*statement) Step

func init() { // as they refer to themselves in their errors
	verbs = map[string]func(*statement) Step{
		"tenant": parseTenant, "event": parseEvent, "log": parseLog, "garbage": parseGarbage, "advance": parseAdvance,
		"rules": parseRules, "crash": parseCrash, "restart": parseRestart, "rebalance": parseRebalance, "fault": parseFault,
		"heal": parseHeal, "update": parseUpdate, "watermark": parseWatermark, "expect": parseExpect,
	}
}

// tenantStep sets a tenant's limit of active series in each task, and in how many shards its events come. Workers
// take it up as they run.
type tenantStep struct {
	tenant string
	series int
	shards int
}

func parseTenant(s *statement) Step {
	return tenantStep{s.name("tenant"), s.numberField("series", 0, 1, 1000), s.numberField("shards", 0, 1, 16)}
}

func (s tenantStep) String() string {
	return "tenant " + s.tenant + add(add(nil, "series", s.series, 0), "shards", s.shards, 0).String()
}

func (s tenantStep) run(w *World) error {
	if err := w.unbound(s.tenant); err != nil {
		return err
	}
	w.limit(s.tenant, func(l *tenants.Limits) {
		if s.shards > 0 && s.shards != l.Shards {
			w.hits.add(hitShards, 1)
		}
		l.ActiveSeries = cmp.Or(s.series, l.ActiveSeries)
		l.Shards = cmp.Or(s.shards, l.Shards)
	})
	return nil
}

// eventStep publishes a batch of equal records, each of equal metrics.
type eventStep struct {
	tenant, metric string
	value          float64
	kind           events.Kind
	service, label string
	ago            time.Duration
	shard, times   int
	records        int
}

var kinds = map[string]events.Kind{
	"observation": events.Observation, "delta": events.Delta, "gauge": events.Gauge, "cumulative": events.Cumulative,
}

func parseEvent(s *statement) Step {
	e := eventStep{tenant: s.name("tenant"), metric: s.name("metric"), value: s.dyadic("value")}
	kind, _ := s.field("kind")
	if kind != "" {
		known := false
		if e.kind, known = kinds[kind]; !known {
			s.fail("kind %q: want observation, delta, gauge or cumulative", kind)
		}
	}
	e.service, e.label = s.nameField("service", ""), s.nameField("label", "")
	e.ago, e.shard, e.times = s.durationField("ago", 0), s.numberField("shard", 0, 0, 63), s.numberField("times", 1, 1, 1000)
	e.records = s.numberField("records", 1, 1, 1000)
	return e
}

func (e eventStep) String() string {
	var f fields
	f = add(f, "kind", e.kind.String(), events.Observation.String())
	f = add(f, "service", e.service, "")
	f = add(f, "label", e.label, "")
	f = add(f, "ago", e.ago, 0)
	f = add(f, "shard", e.shard, 0)
	f = add(f, "times", e.times, 1)
	f = add(f, "records", e.records, 1)
	return "event " + e.tenant + " " + e.metric + " " + strconv.FormatFloat(e.value, 'f', -1, 64) + f.String()
}

func (e eventStep) run(w *World) error {
	m := events.Metric{Tenant: e.tenant, Time: time.Now().Add(-e.ago).UnixNano(), Name: e.metric, Kind: e.kind, Value: e.value}
	for _, l := range []series.Label{{Name: "label", Value: e.label}, {Name: "service", Value: e.service}} {
		if l.Value != "" {
			m.Labels = append(m.Labels, l)
		}
	}
	record := make([]events.Metric, e.times)
	for i := range record {
		record[i] = m
	}
	return w.publishMetrics(int32(e.shard)%w.shape.Partitions, record, e.records)
}

// logStep publishes a record of equal logs.
type logStep struct {
	tenant, service, severity string
	shard, times              int
}

func parseLog(s *statement) Step {
	return logStep{
		s.name("tenant"), s.name("service"), s.name("severity"),
		s.numberField("shard", 0, 0, 63), s.numberField("times", 1, 1, 1000),
	}
}

func (l logStep) String() string {
	return "log " + l.tenant + " " + l.service + " " + l.severity +
		add(add(nil, "shard", l.shard, 0), "times", l.times, 1).String()
}

func (l logStep) run(w *World) error {
	record := events.Log{
		Tenant: l.tenant, Time: time.Now().UnixNano(), Service: l.service, Severity: l.severity, Body: "simulated",
	}
	value := events.AppendLog(nil, &record)
	value = []byte(strings.TrimSuffix(strings.Repeat(string(value)+"\n", l.times), "\n"))
	records, err := w.publish(w.client, w.cfg.Topics.Logs.Name, int32(l.shard)%w.cfg.Topics.Logs.Partitions, l.tenant, value, 1)
	if err != nil || !w.within(records[0], l.tenant, l.times) {
		return err
	}
	for range l.times {
		w.Recount.Log(&record)
		w.claim(w.cfg.Topics.Logs.Name, int32(l.shard)%w.cfg.Topics.Logs.Partitions, logMetric(&record))
	}
	return nil
}

// garbageStep publishes a record that is no event, or a batch that does not unpack.
type garbageStep struct {
	tenant string
	shard  int
	batch  bool
}

func parseGarbage(s *statement) Step {
	return garbageStep{s.name("tenant"), s.numberField("shard", 0, 0, 63), s.next("batch")}
}

func (g garbageStep) String() string {
	text := "garbage " + g.tenant
	if g.batch {
		text += " batch"
	}
	return text + add(nil, "shard", g.shard, 0).String()
}

func (g garbageStep) run(w *World) error {
	if err := w.unbound(g.tenant); err != nil {
		return err
	}
	client, n := w.client, 1
	if g.batch {
		client, n = w.garbler, 3
	}
	partition := int32(g.shard) % w.shape.Partitions
	records, err := w.publish(client, w.cfg.Topics.Metrics.Name, partition, g.tenant, []byte(`{"time":"soon"}`), n)
	if err != nil {
		return err
	}
	last := records[n-1]
	w.refused[position(last.Topic, strconv.Itoa(int(last.Partition)), strconv.FormatInt(last.Offset, 10))] = true
	return nil
}

// advanceStep lets time pass.
type advanceStep struct{ by time.Duration }

func parseAdvance(s *statement) Step { return advanceStep{s.duration("how long")} }

func (a advanceStep) String() string { return "advance " + a.by.String() }

func (a advanceStep) run(*World) error {
	time.Sleep(a.by)
	return nil
}

// restartStep starts a process that is down, and otherwise stops it in order first.
type restartStep struct{ process string }

func parseRestart(s *statement) Step { return restartStep{s.process()} }

func (r restartStep) String() string { return "restart " + r.process }

func (r restartStep) run(w *World) error {
	w.stop(r.process)
	w.launch(r.process)
	return nil
}

// rebalanceStep adds a process to its group or takes one away.
type rebalanceStep struct {
	add     bool
	process string
}

func parseRebalance(s *statement) Step {
	return rebalanceStep{s.oneOf("what to do", "add", "remove") == "add", s.process()}
}

func (r rebalanceStep) String() string {
	if r.add {
		return "rebalance add " + r.process
	}
	return "rebalance remove " + r.process
}

func (r rebalanceStep) run(w *World) error {
	switch {
	case !r.add:
		w.stop(r.process)
	case w.processes[r.process] == nil:
		w.launch(r.process)
	}
	return nil
}

// healStep ends all faults.
type healStep struct{}

func parseHeal(*statement) Step { return healStep{} }

func (healStep) String() string { return "heal" }

func (healStep) run(w *World) error {
	w.heal()
	return nil
}

// watermarkStep checks what readers are told of a tenant.
type watermarkStep struct {
	tenant string
	at     time.Duration // since the start
}

func parseWatermark(s *statement) Step {
	return watermarkStep{s.name("tenant"), s.duration("time since the start")}
}

func (m watermarkStep) String() string { return "watermark " + m.tenant + " " + m.at.String() }

func (m watermarkStep) run(w *World) error {
	got := time.UnixMilli(w.Server.watermark(m.tenant)).Sub(w.start)
	if got != m.at {
		return fmt.Errorf("watermark of %s: got %s, want %s", m.tenant, got, m.at)
	}
	return nil
}
