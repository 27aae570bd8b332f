package simulation

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/coarse"
	"github.com/vigie-io/vigie/internal/kafka"
	"github.com/vigie-io/vigie/internal/pause"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/pipeline/rollup"
	"github.com/vigie-io/vigie/internal/pipeline/windowed"
	"github.com/vigie-io/vigie/internal/sink"
)

// FleetShape is how large a Fleet is. Workers, partitions, tenants, epochs, transactions and inserts are as many as it
// says. One event, series or row may stand for many, so that a machine can hold them: then it costs as much, and
// RowsPerSecond is as much less.
type FleetShape struct {
	Workers    int // processes, each with one worker, mergers and a sink of either topic
	Zones      int // the processes are spread over
	Partitions int32
	Results    int32 // partitions of the topic of results
	Tenants    int
	Events     int // a second
	Series     int
	EventCost  time.Duration // processor time of a worker for an event
	RowCost    time.Duration // the same for a row
	Epoch      pipeline.EpochConfig
	Coarse     coarse.Config
}

// insertTakes is what an insert of a few thousand rows takes ClickHouse at the 99th percentile.
const insertTakes = 20 * time.Millisecond

// Fleet is an installation of many workers in several zones, under a load that Load makes. One goroutine uses it,
// inside a bubble of testing/synctest; Close has to end it there.
//
// Where a World asks whether every row is right, a Fleet asks what the whole of it costs Kafka and ClickHouse, and how
// long it takes to come to rest. Its ClickHouse is a Warehouse. Processor time, which does not pass on fake time, is
// slept.
type Fleet struct {
	Warehouse *Warehouse

	shape     FleetShape
	network   kfake.VirtualNetwork
	cluster   *kfake.Cluster
	cfg       kafka.Config
	client    *kgo.Client // of producers
	log       *slog.Logger
	members   []*member
	abandoned sync.WaitGroup
	load      *load
	metrics   *pipeline.Metrics
	counters  *sink.Metrics
	mergers   mergers
	requests  [256]atomic.Int64 // to the brokers, by key

	mu           sync.Mutex
	transactions map[string]time.Time // when something was last sent in each that is open
	mostOpen     int
}

// member is one process of a Fleet. stop and done are nil while it is down.
type member struct {
	name   string
	zone   int
	wire   *wire
	stop   context.CancelFunc
	done   chan struct{}
	worker atomic.Pointer[pipeline.Worker]
	events atomic.Int64 // polled
}

// NewFleet starts the brokers, and all processes at once.
func NewFleet(shape FleetShape, log *slog.Logger) (*Fleet, error) {
	f := &Fleet{Warehouse: newWarehouse(), shape: shape, log: log, metrics: pipeline.NewMetrics(nil),
		counters: sink.NewMetrics(prometheus.NewRegistry()), mergers: newMergers(coarse.NewMetrics(prometheus.NewRegistry())),
		transactions: map[string]time.Time{}}
	var err error
	f.cluster, err = kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(9092),
		kfake.ListenFn(f.network.Listen), kfake.SleepOutOfOrder())
	if err != nil {
		return nil, fmt.Errorf("start brokers: %w", err)
	}
	f.cluster.Control(func(r kmsg.Request) (kmsg.Response, error, bool) {
		f.requests[r.Key()].Add(1)
		f.open(r)
		f.cluster.KeepControl()
		return nil, nil, false
	})
	f.cfg = kafka.DefaultConfig()
	f.cfg.Brokers, f.cfg.Dial = f.cluster.ListenAddrs(), f.network.DialContext
	f.cfg.ReachInterval = time.Second // a request a partition's leader and worker: with the default, half of all there are
	topics := &f.cfg.Topics
	topics.Metrics.Partitions, topics.Spans.Partitions, topics.Logs.Partitions = shape.Partitions, 1, 1
	topics.Results.Partitions = shape.Results // those of mergers have as many
	if err := f.prepare(); err != nil {
		f.Close()
		return nil, err
	}
	for i := range shape.Workers {
		f.members = append(f.members, &member{name: fmt.Sprintf("vigie-stream-%d", i), zone: i % shape.Zones})
		f.launch(i)
	}
	return f, nil
}

func (f *Fleet) prepare() error {
	if err := ensureTopics(f.cfg, f.log); err != nil {
		return err
	}
	var err error
	f.client, err = kgo.NewClient(kgo.SeedBrokers(f.cfg.Brokers...), kgo.Dialer(f.cfg.Dial), kgo.DisableClientMetrics(),
		kgo.DefaultProduceTopic(f.cfg.Topics.Metrics.Name), kgo.ProducerLinger(50*time.Millisecond),
		kgo.MaxBufferedRecords(1_000_000))
	if err != nil {
		return fmt.Errorf("kafka client: %w", err)
	}
	return nil
}

// Close ends everything.
func (f *Fleet) Close() {
	f.EndLoad()
	for i := range f.members {
		f.kill(i)
	}
	f.abandoned.Wait()
	if f.client != nil {
		f.client.Close()
	}
	f.cluster.Close()
	time.Sleep(time.Second) // readers of connections end when the answer at hand has arrived
}

// launch starts a process that is down.
func (f *Fleet) launch(i int) {
	m := f.members[i]
	ctx, stop := context.WithCancel(context.Background())
	wire, done := newWire(f.network.DialContext), make(chan struct{})
	m.wire, m.stop, m.done = wire, stop, done
	cfg := f.cfg
	cfg.Dial, cfg.Instance = wire.DialContext, m.name
	log := f.log.With("process", m.name)
	go func() {
		defer close(done)
		var all sync.WaitGroup
		all.Go(func() { f.sink(ctx, cfg, kafka.NewResults, log) })
		all.Go(func() { f.sink(ctx, cfg, kafka.NewCoarseResults, log) })
		all.Go(func() { f.merge(ctx, m.name, cfg, log) })
		f.worker(ctx, m, cfg, log)
		all.Wait()
	}()
}

// kill ends a process without a goodbye.
func (f *Fleet) kill(i int) {
	m := f.members[i]
	if m.stop == nil {
		return
	}
	done := m.done
	m.wire.cut()
	m.stop()
	m.stop, m.done = nil, nil
	m.worker.Store(nil)
	f.abandoned.Go(func() { <-done })
}

// terminate ends a process in order, and waits for it.
func (f *Fleet) terminate(i int) {
	m := f.members[i]
	m.stop()
	<-m.done
	m.stop, m.done = nil, nil
	m.worker.Store(nil)
}

// Roll restarts all processes in order, so many at a time, and starts the next when a while has passed.
func (f *Fleet) Roll(together int, between time.Duration) {
	for first := 0; first < len(f.members); first += together {
		var stopped sync.WaitGroup
		for i := first; i < min(first+together, len(f.members)); i++ {
			stopped.Go(func() {
				f.terminate(i)
				f.launch(i)
			})
		}
		stopped.Wait()
		time.Sleep(between)
	}
}

// LoseZone kills all processes of a zone at once.
func (f *Fleet) LoseZone(zone int) (lost int) {
	for i, m := range f.members {
		if m.zone == zone {
			f.kill(i)
			lost++
		}
	}
	return lost
}

// Replace starts all processes that are down.
func (f *Fleet) Replace() {
	for i, m := range f.members {
		if m.stop == nil {
			f.launch(i)
		}
	}
}

func (f *Fleet) worker(ctx context.Context, m *member, cfg kafka.Config, log *slog.Logger) {
	shape := pipeline.DefaultConfig()
	shape.Epoch = f.shape.Epoch
	shape.Rollups = []rollup.Declared{windowedRollup("minutes_w", windowed.Window{Tumbling: time.Minute})}
	w := pipeline.NewWorker(pipeline.WorkerConfig{
		Config: shape, Encoder: clickhouse.Encoder{}, Metrics: f.metrics, Log: log,
		Open: func(ctx context.Context) (pipeline.Session, func(), error) {
			opening, cancel := context.WithTimeout(ctx, time.Minute)
			defer cancel()
			session, err := kafka.NewSession(opening, cfg, 0, nil, log)
			if err != nil {
				return nil, nil, err
			}
			return costly{session, m, &f.shape}, session.Close, nil
		},
	})
	m.worker.Store(w)
	_ = w.Run(ctx) // returns nil
}

// costly is a session whose worker takes time for its events and rows.
type costly struct {
	pipeline.Session
	member *member
	shape  *FleetShape
}

func (c costly) Poll(ctx context.Context) (pipeline.Fetch, error) {
	fetch, err := c.Session.Poll(ctx)
	events := 0
	for i := range fetch.Chunks {
		events += fetch.Chunks[i].Len()
	}
	c.member.events.Add(int64(events))
	time.Sleep(time.Duration(events) * c.shape.EventCost)
	return fetch, err
}

func (c costly) Commit(ctx context.Context, messages []pipeline.Message) (bool, error) {
	time.Sleep(time.Duration(rowsOf(messages)) * c.shape.RowCost)
	return c.Session.Commit(ctx, messages)
}

// sink is as in a World, but that it puts nothing aside.
func (f *Fleet) sink(ctx context.Context, cfg kafka.Config,
	open func(kafka.Config, int, *slog.Logger) (*kafka.Results, error), log *slog.Logger) {
	for ctx.Err() == nil {
		results, err := open(cfg, 0, log)
		if err == nil {
			err = sink.New("results", sink.DefaultConfig(), results, f.Warehouse, nothingParked{}, f.counters, log).Run(ctx)
			results.Close()
		}
		if err != nil {
			log.Error("sink ended; starting it again", "err", err)
			_ = pause.For(ctx, 250*time.Millisecond)
		}
	}
}

// nothingParked panics: a Warehouse refuses nothing.
type nothingParked struct{}

func (nothingParked) Park(_ context.Context, r sink.Record, token string, cause error) error {
	panic(fmt.Sprintf("BUG: %s/%d@%d (%s) was refused: %v", r.Topic, r.Partition, r.Offset, token, cause))
}
