package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Metrics of the load.
const (
	latency  = "e2e_latency_seconds" // observations, dyadic: sums are exact in any order
	requests = "e2e_requests_total"  // deltas
)

const pane = 10 // seconds

// event is one event of the load.
type event struct {
	tenant, metric           string
	service, route, instance string
	time                     int64 // Unix milliseconds
	value                    float64
}

func (e *event) json() []byte {
	kind := ""
	if e.metric == requests {
		kind = `"kind":"delta",`
	}
	return fmt.Appendf(nil, `{"tenant":%q,"time":%d,"name":%q,%s"value":%v,"labels":{"service":%q,"route":%q,"instance":%q}}`,
		e.tenant, e.time, e.metric, kind, e.value, e.service, e.route, e.instance)
}

// seriesKey names a series of the load in the oracle.
type seriesKey struct{ tenant, metric, service, route, instance string }

// cell is what a plain loop says of one series and pane.
type cell struct {
	count         uint64
	sum, min, max float64
}

// oracle is the plain loop over the accepted events.
type oracle struct {
	cells  map[seriesKey]map[int64]*cell
	values map[seriesKey][]float64 // observations by tenant, metric and service
	counts map[string]uint64       // by tenant
}

func newOracle() *oracle {
	return &oracle{cells: map[seriesKey]map[int64]*cell{}, values: map[seriesKey][]float64{}, counts: map[string]uint64{}}
}

func (o *oracle) add(e *event) {
	key := seriesKey{e.tenant, e.metric, e.service, e.route, e.instance}
	panes := o.cells[key]
	if panes == nil {
		panes = map[int64]*cell{}
		o.cells[key] = panes
	}
	start := e.time / 1000 / pane * pane
	c := panes[start]
	if c == nil {
		c = &cell{min: e.value, max: e.value}
		panes[start] = c
	}
	c.count++
	c.sum += e.value
	c.min, c.max = min(c.min, e.value), max(c.max, e.value)
	o.counts[e.tenant]++
	if e.metric == latency {
		group := seriesKey{tenant: e.tenant, metric: e.metric, service: e.service}
		o.values[group] = append(o.values[group], e.value)
	}
}

// quantile is the exact order statistic of a service's observations: the value of rank ⌊q·(n−1)⌋ counted from 0,
// ClickHouse's. next is the one after it: between the two lies every common definition of a quantile.
func (o *oracle) quantile(group seriesKey, q float64) (value, next float64) {
	values := o.values[group]
	if !slices.IsSorted(values) {
		slices.Sort(values)
	}
	rank := int(q * float64(len(values)-1))
	return values[rank], values[min(rank+1, len(values)-1)]
}

// load is a deterministic stream of events over span seconds from start.
type load struct {
	random *rand.Rand
	start  int64 // Unix seconds, on a pane
	span   int64 // seconds
	events int
	series int
	made   int
}

func (l *load) next() event {
	// 60 %, 30 % and 10 % of the traffic
	tenant := testTenants[[]int{0, 0, 0, 0, 0, 0, 1, 1, 1, 2}[l.random.IntN(10)]]
	n := l.random.IntN(l.series)
	at := l.start*1000 + int64(l.made)*l.span*1000/int64(l.events) + l.random.Int64N(6000) - 3000
	e := event{
		tenant: tenant, metric: latency, time: min(max(at, l.start*1000), (l.start+l.span)*1000-1),
		service: fmt.Sprintf("svc-%d", n%10), route: fmt.Sprintf("/r/%d", n/10%50), instance: fmt.Sprintf("i-%d", n/500),
		value: float64(1+l.random.IntN(1<<l.random.IntN(15))) / 1024,
	}
	if l.made%5 == 4 {
		e.metric, e.value = requests, float64(l.random.IntN(4))
	}
	l.made++
	return e
}

// produce sends the load with a plain Kafka client at about rate events a second, and adds what was acknowledged to
// the oracle. Half of the records hold one event, half an array of five of one tenant.
func produce(ctx context.Context, t testing.TB, broker, topic string, l *load, o *oracle, rate int) {
	client, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(broker, ",")...), kgo.ProducerLinger(5*time.Millisecond))
	if err != nil {
		t.Error(err)
		return
	}
	defer client.Close()
	began := time.Now()
	waiting := map[string][]byte{} // started arrays by tenant
	held := map[string]int{}
	send := func(tenant string, value []byte) {
		client.Produce(ctx, &kgo.Record{Topic: topic, Key: []byte(tenant), Value: value}, func(_ *kgo.Record, err error) {
			if err != nil && ctx.Err() == nil {
				t.Errorf("produce: %v", err)
			}
		})
	}
	for i := range l.events {
		e := l.next()
		o.add(&e)
		if i%10 < 5 {
			send(e.tenant, e.json())
		} else {
			if held[e.tenant] == 0 {
				waiting[e.tenant] = []byte("[")
			} else {
				waiting[e.tenant] = append(waiting[e.tenant], ',')
			}
			waiting[e.tenant] = append(waiting[e.tenant], e.json()...)
			if held[e.tenant]++; held[e.tenant] == 5 {
				send(e.tenant, append(waiting[e.tenant], ']'))
				held[e.tenant] = 0
			}
		}
		if i%200 == 199 {
			time.Sleep(time.Until(began.Add(time.Duration(float64(i) / float64(rate) * float64(time.Second)))))
		}
	}
	for tenant, n := range held {
		if n > 0 {
			send(tenant, append(waiting[tenant], ']'))
		}
	}
	if err := client.Flush(ctx); err != nil {
		t.Errorf("flush: %v", err)
	}
}
