package simulation

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/vigie-io/vigie/pkg/events"
	"github.com/vigie-io/vigie/pkg/series"
)

// load is what producers send to a Fleet: tenants whose shares fall as the power 1.1 of their rank, each with as many
// series as its share is of all, and at least one.
type load struct {
	stop   context.CancelFunc
	done   chan struct{}
	random *rand.Rand
	upTo   []float64    // shares of series, added up
	series []*spelled   // by rank of tenant
	every  atomic.Int64 // one of so many events is sent

	mu   sync.Mutex
	sent map[string]uint64 // by tenant
	err  error
}

// spelled is one series as it is sent.
type spelled struct {
	tenant string
	key    []byte // of its Kafka records
	metric events.Metric
}

// hot is how many times the mean of all partitions a key may carry until its tenant is spread over more keys.
const hot = 4

// StartLoad begins to send the events of the shape, and goes on until EndLoad.
func (f *Fleet) StartLoad() {
	ctx, stop := context.WithCancel(context.Background())
	f.load = &load{stop: stop, done: make(chan struct{}), random: rand.New(rand.NewPCG(1, 1)), sent: map[string]uint64{}}
	f.Slow(1)
	f.load.spread(&f.shape)
	go func() {
		defer close(f.load.done)
		f.send(ctx)
	}()
}

// Slow sends only one event of so many from now on.
func (f *Fleet) Slow(times int) { f.load.every.Store(int64(times)) }

// EndLoad waits until all that was sent is acknowledged.
func (f *Fleet) EndLoad() {
	if f.load != nil {
		f.load.stop()
		<-f.load.done
	}
}

// spread makes the series of all tenants.
func (l *load) spread(shape *FleetShape) {
	weights, total := make([]float64, shape.Tenants), 0.0
	for i := range weights {
		weights[i] = math.Pow(float64(i+1), -1.1)
		total += weights[i]
	}
	sum := 0.0
	for i, weight := range weights {
		share := weight / total
		tenant := fmt.Sprintf("tenant-%04d", i)
		keys := max(1, int(share*float64(shape.Partitions)/hot))
		for n := range max(1, int(share*float64(shape.Series))) {
			s := &spelled{tenant: tenant, key: []byte(tenant), metric: events.Metric{
				Tenant: tenant, Name: "request_seconds", Kind: events.Observation,
				Labels: series.Labels{{Name: "instance", Value: fmt.Sprint("i", n)}, {Name: "service", Value: "s"}},
			}}
			if shard := n % keys; shard > 0 {
				s.key = fmt.Appendf(nil, "%s#%d", tenant, shard)
			}
			sum += share / float64(max(1, int(share*float64(shape.Series))))
			l.series, l.upTo = append(l.series, s), append(l.upTo, sum)
		}
	}
}

// tick is how often events are sent.
const tick = 250 * time.Millisecond

func (f *Fleet) send(ctx context.Context) {
	l, began, sent := f.load, time.Now(), 0
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			_ = f.client.Flush(context.Background())
			return
		case <-ticker.C:
		}
		for due := int(time.Since(began).Seconds() * float64(f.shape.Events)); sent < due; sent++ {
			if int64(sent)%l.every.Load() != 0 {
				continue
			}
			at, _ := slices.BinarySearch(l.upTo, l.random.Float64()*l.upTo[len(l.upTo)-1])
			s := l.series[at]
			m := s.metric
			m.Time, m.Value = time.Now().UnixNano(), math.Trunc(l.random.ExpFloat64()*1024)/1024
			f.client.Produce(context.Background(),
				&kgo.Record{Key: s.key, Value: events.AppendMetric(nil, &m)}, l.acknowledged(s.tenant))
		}
	}
}

func (l *load) acknowledged(tenant string) func(*kgo.Record, error) {
	return func(_ *kgo.Record, err error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		if err != nil {
			l.err = err
			return
		}
		l.sent[tenant]++
	}
}

// Exact says what differs between what was acknowledged and what is stored; "" is nothing.
func (f *Fleet) Exact() string {
	finest, wider := f.Warehouse.Counted()
	f.load.mu.Lock()
	defer f.load.mu.Unlock()
	if f.load.err != nil {
		return "produce: " + f.load.err.Error()
	}
	return cmp.Or(f.load.differs("the tier of 10 s", finest), f.load.differs("those of a minute and an hour", wider))
}

func (l *load) differs(tiers string, counted map[string]uint64) string {
	for tenant, want := range l.sent {
		if got := counted[tenant]; got != want {
			return fmt.Sprintf("%s: %d events are stored in %s, %d were acknowledged", tenant, got, tiers, want)
		}
	}
	if len(counted) != len(l.sent) {
		return fmt.Sprintf("%d tenants are stored in %s, %d have sent", len(counted), tiers, len(l.sent))
	}
	return ""
}
