package demo

import (
	"math"
	"math/rand/v2"
	"time"

	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
)

// shop is one tenant's shop.
type shop struct {
	tenant  string
	rate    float64       // events per second, the day's mean
	shift   time.Duration // of its day against UTC
	pace    float64       // how slow its machines are
	random  *rand.Rand
	deploys *deploys
	every   int64   // between two reports, nanoseconds
	credit  float64 // events that may still be emitted; what a visit emits beyond it is paid back by the next ones

	wobble  float64                     // slow random walk of the traffic, around 0
	served  [services][instances]uint64 // running totals, back to zero when an instance is replaced
	running [services][instances]string // version that the totals belong to
	stock   map[string]float64
}

const (
	// reported is how many events a report has: see report.
	reported = 3*services*instances + 8
	// reportShare is the share of a small shop's events that reports may take; they come more rarely there.
	reportShare = 0.25
)

// newShop draws what tells this shop from others; seed and name decide everything.
func newShop(name string, rate float64, seed uint64) *shop {
	id := series.Hash([]byte(name))
	random := rand.New(rand.NewPCG(seed, id.Lo))
	s := &shop{
		tenant: name, rate: rate, random: random,
		shift:   time.Duration(random.IntN(5)-2) * time.Hour,
		pace:    0.8 + 0.5*random.Float64(),
		every:   int64(scrape) * int64(math.Ceil(reported/(rate*scrape.Seconds()*reportShare))),
		deploys: newDeploys(rand.New(rand.NewPCG(seed, id.Hi))),
		stock:   map[string]float64{},
	}
	for _, category := range categories {
		s.stock[category] = float64(500 + random.IntN(1500))
	}
	return s
}

var categories = []string{"books", "garden", "kitchen", "music", "sport", "toys"}

// play emits what happens in the tick (from, to].
func (s *shop) play(out []Record, from, to int64) []Record {
	s.deploys.advance(to)
	out = s.replaceInstances(out, to)
	s.wobble += -s.wobble*0.002 + 0.006*s.random.NormFloat64()
	s.credit += s.rate * busyness(to, s.shift) * math.Exp(s.wobble) * tick.Seconds()
	if to%s.every == 0 {
		before := len(out)
		out = s.report(out, to)
		s.credit -= float64(len(out) - before)
	}
	for s.credit > 0 {
		r := request{random: s.random, shop: s, at: from + 1 + s.random.Int64N(to-from)}
		r.play(s.visit())
		before := len(out)
		out = s.emit(out, &r)
		s.credit -= float64(len(out) - before)
	}
	return out
}

// visit draws the page of the frontend that is asked for.
func (s *shop) visit() *operation {
	at := s.random.Float64()
	for _, e := range entries {
		if at -= e.share; at < 0 {
			return e.op
		}
	}
	return entries[0].op
}

func (s *shop) emit(out []Record, r *request) []Record {
	for i := range r.spans {
		out = append(out, s.record(events.Spans, events.AppendSpan(nil, &r.spans[i])))
	}
	for i := range r.logs {
		out = append(out, s.record(events.Logs, events.AppendLog(nil, &r.logs[i])))
	}
	for i := range r.metrics {
		out = append(out, s.record(events.Metrics, events.AppendMetric(nil, &r.metrics[i])))
	}
	return out
}

func (s *shop) record(signal events.Signal, value []byte) Record {
	return Record{Signal: signal, Key: []byte(s.tenant), Value: value}
}

// replaceInstances starts the running totals of instances with another version anew, and logs it.
func (s *shop) replaceInstances(out []Record, at int64) []Record {
	for service := range services {
		for instance := range instances {
			now := s.deploys.state(service, instance, at).version
			before := s.running[service][instance]
			if before == now {
				continue
			}
			s.running[service][instance], s.served[service][instance] = now, 0
			if before == "" {
				continue
			}
			out = append(out, s.record(events.Logs, events.AppendLog(nil, &events.Log{
				Tenant: s.tenant, Time: at, Service: serviceNames[service], Severity: "info",
				Body:       "instance replaced: version " + before + " by " + now,
				Attributes: labels("service.instance.id", instanceName(service, instance), "service.version", now),
			})))
		}
	}
	return out
}

// report emits levels and running totals.
func (s *shop) report(out []Record, at int64) []Record {
	add := func(name, unit string, kind events.Kind, value float64, ls series.Labels) {
		out = append(out, s.record(events.Metrics, events.AppendMetric(nil, &events.Metric{
			Tenant: s.tenant, Time: at, Name: name, Kind: kind, Value: value, Unit: unit, Labels: ls,
		})))
	}
	busy := busyness(at, s.shift) * math.Exp(s.wobble)
	for service := range services {
		for instance := range instances {
			state := s.deploys.state(service, instance, at)
			ls := labels("service", serviceNames[service], "instance", instanceName(service, instance))
			add("http_requests_total", "", events.Cumulative, float64(s.served[service][instance]), ls)
			load := 0.15 * busy * state.slower * (1 + 0.1*s.random.NormFloat64())
			add("process_cpu_utilization_ratio", "ratio", events.Gauge, round(min(max(load, 0.01), 1), 1e4), ls)
			heap := 150e6 + 60e6*busy + 20e6*s.random.Float64()
			add("process_resident_memory_bytes", "bytes", events.Gauge, math.Round(heap), ls)
		}
	}
	add("shop_active_sessions", "", events.Gauge, math.Round(s.rate*busy*20), labels("service", serviceNames[frontend]))
	add("shop_shipments_waiting", "", events.Gauge, math.Round(40*busy*(1+0.2*s.random.Float64())), labels("service", serviceNames[shipping]))
	for _, category := range categories {
		// Sold piece by piece, filled up when low.
		s.stock[category] -= math.Round(s.random.Float64() * 4 * busy)
		if s.stock[category] < 200 {
			s.stock[category] += 1500
		}
		add("shop_stock_units", "", events.Gauge, s.stock[category], labels("service", serviceNames[catalog], "category", category))
	}
	return out
}

func round(v, parts float64) float64 { return math.Round(v*parts) / parts }
