package simulation

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/vigie-io/vigie/internal/coarse"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/pkg/events"
)

// Generate makes the scenario of a seed: records, and trouble of all kinds between them. The same seed gives the same
// scenario in every run of one version of Vigie.
func Generate(seed uint64) *Scenario {
	g := generator{rand.New(rand.NewPCG(seed, 0x7669676965))}
	s := &Scenario{Name: fmt.Sprintf("seed %d", seed), Shape: Shape{
		Brokers: 1 + g.IntN(3), Workers: 1 + g.IntN(3), Sinks: 1 + g.IntN(2), Partitions: int32(1 + g.IntN(4)),
		Windows: pick(g, 0, len(declared[0])), Transactions: pick(g, 1, 2, 2), Protocol: 1,
		Rate: pick(g, 0, 4, 10), Series: pick(g, 0, 1, 2),
		Results: pick(g, 1, 2, 4), Interval: 1 + g.IntN(5), Memory: pick(g, 1, 1024), Earlier: pick(g, 0, 0, 0, 1), Behind: pick(g, 0, 1, 2, 3),
	}}
	if s.Shape.Transactions == 2 {
		s.Shape.Protocol = pick(g, 1, 1, 2) // which brokers of old do not know
	}
	trouble := g.IntN(4) // how much of it: some schedules have none, some little else
	for range 8 + g.IntN(32) {
		if g.IntN(10) < 2*trouble {
			s.Steps = append(s.Steps, g.trouble(&s.Shape))
		} else {
			s.Steps = append(s.Steps, g.traffic(&s.Shape))
		}
	}
	if s.Shape.Earlier > 0 {
		s.Steps = slices.Insert(s.Steps, g.IntN(len(s.Steps)+1), Step(updateStep{}))
	}
	return s
}

type generator struct{ *rand.Rand }

func pick[T any](g generator, from ...T) T { return from[g.IntN(len(from))] }

func (g generator) traffic(shape *Shape) Step {
	tenant := pick(g, "acme", "demo", "zeta")
	switch n := g.IntN(20); {
	case n < 12:
		return eventStep{
			tenant: g.sender(shape, tenant), metric: pick(g, "latency", "size"), value: float64(g.IntN(1<<16)-1024) / 64,
			kind:    pick(g, events.Observation, events.Observation, events.Delta, events.Gauge, events.Cumulative),
			service: pick(g, "", "shop", "cart"), label: pick(g, "", "a", "b"),
			ago:   pick(g, 0, 0, 3*time.Second, 45*time.Second, time.Hour, 25*time.Hour),
			shard: g.IntN(4), times: 1 + g.IntN(5), records: pick(g, 1, 1, 1, 2, 7, 40),
		}
	case n < 14:
		return logStep{
			tenant: tenant, service: pick(g, "shop", "cart"), severity: pick(g, "info", "error"),
			shard: g.IntN(2), times: 1 + g.IntN(3),
		}
	case n < 15:
		return garbageStep{tenant: tenant, shard: g.IntN(4), batch: g.IntN(2) == 0}
	default:
		return advanceStep{g.while()}
	}
}

// sender is a tenant, or one that reaches a limit.
func (g generator) sender(shape *Shape, tenant string) string {
	switch n := g.IntN(5); {
	case n == 0 && shape.Rate > 0:
		return flood
	case n == 1 && shape.Series > 0:
		return crowd
	}
	return tenant
}

func (g generator) while() time.Duration {
	most := pick(g, 50*time.Millisecond, 500*time.Millisecond, 2*time.Second, 8*time.Second)
	return time.Duration(1+g.IntN(int(most/time.Millisecond))) * time.Millisecond
}

func (g generator) process(shape *Shape) string {
	if g.IntN(3) == 0 {
		return sinkName(1 + g.IntN(shape.Sinks))
	}
	return g.worker(shape)
}

func (g generator) worker(shape *Shape) string { return workerName(1 + g.IntN(shape.Workers)) }

func (g generator) trouble(shape *Shape) Step {
	switch n := g.IntN(23); {
	case n < 4:
		return g.crash(shape)
	case n < 7:
		return restartStep{g.process(shape)}
	case n < 9:
		return rebalanceStep{add: g.IntN(2) == 0, process: g.process(&Shape{Workers: shape.Workers + 1, Sinks: shape.Sinks + 1})}
	case n < 12:
		return g.brokerTrouble(shape)
	case n < 15:
		return g.networkTrouble(shape)
	case n < 19:
		return g.sinkTrouble(shape)
	case n < 20:
		return tenantStep{tenant: pick(g, "acme", "demo", "zeta"), shards: 1 + g.IntN(4)}
	case n < 22 && shape.Windows > 0:
		return rulesStep{1 + g.IntN(len(declared))}
	default:
		return healStep{}
	}
}

func (g generator) crash(shape *Shape) Step {
	c := crashStep{process: g.process(shape), elseNow: true}
	moments, ends := momentsOf(c.process)
	if c.at = g.moment(moments, ends); c.at.name == "" {
		c.elseNow = false
	}
	return c
}

// momentsOf are the moments, and the requests, at which something happens to a process.
func momentsOf(process string) (names []string, ends []kmsg.Key) {
	if process[0] == 's' {
		return sinkMoments, sinkEnds
	}
	return workerMoments, workerEnds
}

func (g generator) moment(names []string, ends []kmsg.Key) moment {
	m := moment{name: pick(g, names...)}
	if m.ofRequest() {
		m.request = pick(g, ends...)
	}
	return m
}

// request draws one kind, more often those that are rare, fetches, and those that a commit consists of.
func (g generator) request(shape *Shape, of func(kmsg.Key) bool) kmsg.Key {
	var keys []kmsg.Key
	for key := range requests {
		made := rare[key]
		switch {
		case !of(key) || made != nil && !made(shape):
		case made != nil:
			keys = append(keys, key, key, key)
		default:
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	keys = append(keys, kmsg.Fetch, kmsg.Produce, kmsg.TxnOffsetCommit, kmsg.EndTxn)
	return pick(g, keys...)
}

func (g generator) brokerTrouble(shape *Shape) Step {
	switch g.IntN(11) {
	case 9:
		return brokerFault{what: "fence", merger: true, partition: g.IntN(4)}
	case 10:
		return brokerFault{what: "renew"}
	case 0:
		return brokerFault{what: "move", moved: pick(g, "leaders", "coordinators")}
	case 8:
		return brokerFault{what: "cut", partition: g.IntN(4)}
	case 1:
		return brokerFault{what: "fence", process: g.worker(shape)}
	case 2:
		return brokerFault{what: pick(g, "trim", "trim", "compact")}
	}
	f := brokerFault{what: "error"}
	f.request, f.times = g.request(shape, func(k kmsg.Key) bool { return len(requests[k]) > 0 }), 1+g.IntN(3)
	f.code = pick(g, requests[f.request]...)
	if topics := topicsOf[f.request]; len(topics) > 0 && g.IntN(2) == 0 {
		f.topic = pick(g, topics...)
	}
	return f
}

func (g generator) networkTrouble(shape *Shape) Step {
	if g.IntN(6) == 0 { // its group gives what it has to others, and it does not know
		return networkFault{process: g.process(shape), what: "delay", request: kmsg.Heartbeat, by: 8*time.Second + g.while(),
			times: 3 + g.IntN(6)}
	}
	f := networkFault{process: g.process(shape), what: pick(g, "cut", "lose", "delay", "hold", "silence", "silence")}
	if f.what == "silence" {
		f.by = g.while() + pick(g, 0, 8*time.Second) // beyond the session timeout
		if g.IntN(2) == 0 {
			moments, ends := momentsOf(f.process)
			f.at = g.moment(moments[1:], ends)
		}
		return f
	}
	f.request, f.times = g.request(shape, func(kmsg.Key) bool { return true }), 1+g.IntN(3)
	if f.timed() {
		f.by = g.while()
	}
	return f
}

func (g generator) sinkTrouble(shape *Shape) Step {
	switch g.IntN(8) {
	case 0, 1:
		return sinkFault{what: "stall", process: g.worker(shape), by: g.while() + pick(g, 0, 20*time.Second), parts: 1, times: 1}
	case 2:
		return sinkFault{what: "stall", shard: g.IntN(5) - 1, by: g.while() + pick(g, 0, 20*time.Second), parts: 1, times: 1}
	case 3:
		return sinkFault{what: "away", by: g.while() + pick(g, 0, 4*time.Second), parts: 1, times: 1}
	}
	f := sinkFault{
		what: pick(g, faultBefore, faultDuring, faultDuring, faultAfter, faultAfter, faultSlow, faultHang, faultRefuse,
			"readonly", "readonly"),
		parts: 1, times: 1 + g.IntN(4),
		table: pick(g, "", "", pipeline.TablePanes, pipeline.TableSeries, pipeline.TableProgress, coarse.TableMinutes,
			coarse.TableProgress, coarse.TableMerged),
	}
	switch f.what {
	case faultDuring:
		f.parts = g.IntN(8)
	case faultSlow, faultHang:
		f.by = g.while()
	case "readonly":
		return sinkFault{what: f.what, by: g.while() + 4*time.Second, parts: 1, times: 1}
	}
	return f
}
