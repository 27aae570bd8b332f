package simulation

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/vigie-io/vigie/internal/coarse"
	"github.com/vigie-io/vigie/internal/kafka"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/sink"
	"github.com/vigie-io/vigie/internal/tenants"
)

// Shape is how large a World is.
type Shape struct {
	Brokers    int
	Workers    int // that start with it
	Sinks      int
	Partitions int32 // of the topic of metrics; logs have half as many
	Windows    int   // windowed rollups declared
	// Transactions is the version of transactions: 1 is that of brokers before 4.0, 2 the present one.
	Transactions int
	// Protocol is the version of the workers' group: in 1 the members share partitions out, in 2 the brokers do
	// (KIP-848).
	Protocol int
	Rate     int // events that the tenant flood may send to a partition in a second; 0: any number
	Series   int // active series that the tenant crowd may have in a task; 0: the usual limit
	Results  int // partitions of the topic of results
	Interval int // seconds between the commits of mergers
	Memory   int // KiB that the mergers of a process may hold
	// Earlier is 1 when the processes that start with it are of the version before there were mergers.
	Earlier int
	// Behind says that every so many epochs are of a worker that is behind, whose rows go to all tiers; 0: those that are.
	Behind int
}

// DefaultShape is one of everything, two partitions, no windows, present brokers and members that share partitions out,
// and mergers that commit every two seconds.
func DefaultShape() Shape {
	return Shape{Brokers: 1, Workers: 1, Sinks: 1, Partitions: 2, Transactions: 2, Protocol: 1, Results: 4, Interval: 2, Memory: 1024}
}

// World is one installation: brokers, ClickHouse, and the processes of Vigie. One goroutine uses it, inside a bubble of
// testing/synctest; Close has to end it there.
type World struct {
	Server  *Server
	Recount *Recount

	shape     Shape
	start     time.Time
	network   kfake.VirtualNetwork
	cluster   *kfake.Cluster
	cfg       kafka.Config
	client    *kgo.Client // of the producers, outside of all faults
	garbler   *kgo.Client // the same, of batches that do not unpack
	admin     *kadm.Client
	log       *slog.Logger
	processes map[string]*process // by name: "worker 1"
	gone      map[string]bool     // workers that were stopped in order and do not run
	abandoned sync.WaitGroup
	limits    atomic.Pointer[tenants.Config]
	registry  *prometheus.Registry
	metrics   *pipeline.Metrics
	counters  *sink.Metrics
	mergers   mergers
	earlier   bool // processes that start are of the version before there were mergers

	hits    *Hits
	faults  []armed
	lanes   lanes
	refused map[string]bool // source positions of records that have to be in a dead letter
}

// NewWorld starts brokers and processes.
func NewWorld(shape Shape, hits *Hits, log *slog.Logger) (*World, error) {
	w := &World{
		hits: hits, Server: NewServer(), Recount: NewRecount(shape), shape: shape, start: time.Now(), log: log,
		processes: map[string]*process{}, gone: map[string]bool{}, refused: map[string]bool{}, registry: prometheus.NewRegistry(),
	}
	w.Server.hits = hits
	limits := tenants.DefaultConfig()
	limits.Overrides = binding(shape)
	w.limits.Store(&limits)
	w.metrics, w.counters = pipeline.NewMetrics(w.registry), sink.NewMetrics(w.registry)
	w.mergers = newMergers(coarse.NewMetrics(w.registry))
	w.earlier = shape.Earlier > 0
	w.Server.earlier = w.earlier
	var ports []int
	for i := range shape.Brokers {
		ports = append(ports, 9092+i)
	}
	options := []kfake.Opt{
		kfake.NumBrokers(shape.Brokers), kfake.Ports(ports...), kfake.ListenFn(w.network.Listen), kfake.SleepOutOfOrder(),
	}
	if shape.Transactions == 1 {
		options = append(options, kfake.MaxVersions(kversion.V3_9_0()))
	}
	if shape.Protocol == 2 {
		options = append(options, kfake.BrokerConfigs(map[string]string{
			"group.consumer.session.timeout.ms": "6000", "group.consumer.heartbeat.interval.ms": "1000",
		}))
	}
	var err error
	w.cluster, err = kfake.NewCluster(options...)
	if err != nil {
		return nil, fmt.Errorf("start brokers: %w", err)
	}
	w.cfg = w.config()
	if err := w.prepare(); err != nil {
		w.Close()
		return nil, err
	}
	time.Sleep(time.Until(w.start.Add(time.Second))) // a round time, for readers of scenarios
	for i := range shape.Workers {
		w.launch(workerName(i + 1))
	}
	for i := range shape.Sinks {
		w.launch(sinkName(i + 1))
	}
	return w, nil
}

// config is the documented one but for sizes and for the timeouts, which are the shortest allowed.
func (w *World) config() kafka.Config {
	cfg := kafka.DefaultConfig()
	cfg.Brokers = w.cluster.ListenAddrs()
	cfg.Dial = w.network.DialContext
	cfg.SessionTimeout, cfg.TransactionTimeout = 6*time.Second, 10*time.Second
	cfg.ReachInterval = time.Second
	if w.shape.Protocol == 2 {
		cfg.GroupProtocol = "consumer"
	}
	cfg.Topics.Results.Partitions = int32(w.shape.Results)
	cfg.Topics.Metrics.Partitions, cfg.Topics.Spans.Partitions = w.shape.Partitions, 1
	cfg.Topics.Logs.Partitions = max(1, w.shape.Partitions/2)
	return cfg
}

func ensureTopics(cfg kafka.Config, log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	admin, err := kafka.NewAdmin(cfg, log)
	if err != nil {
		return err
	}
	defer admin.Close()
	_, err = admin.EnsureTopics(ctx)
	return err
}

// prepare makes the topics and the producers' client.
func (w *World) prepare() error {
	if err := ensureTopics(w.cfg, w.log); err != nil {
		return err
	}
	options := []kgo.Opt{
		kgo.SeedBrokers(w.cfg.Brokers...), kgo.Dialer(w.cfg.Dial), kgo.DisableClientMetrics(),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ManualFlushing(),        // so that records sent together are one batch
		kgo.UnknownTopicRetries(-1), // metadata may be wrong for a while
	}
	for _, client := range []struct {
		made *(*kgo.Client)
		kgo.Compressor
	}{{&w.client, nil}, {&w.garbler, garbled{}}} {
		var err error
		all := append(options[:len(options):len(options)], kgo.WithCompressor(client.Compressor))
		if *client.made, err = kgo.NewClient(all...); err != nil {
			return fmt.Errorf("kafka client: %w", err)
		}
	}
	w.admin = kadm.NewClient(w.client)
	return nil
}

// Close ends everything.
func (w *World) Close() {
	w.disarm()
	for _, name := range slices.Sorted(maps.Keys(w.processes)) {
		w.kill(name)
	}
	w.abandoned.Wait()
	w.Server.under.Wait()
	for _, client := range []*kgo.Client{w.client, w.garbler} {
		if client != nil {
			client.Close()
		}
	}
	w.cluster.Close()
	time.Sleep(time.Second) // readers of connections end when the answer at hand has arrived
}

// heal ends all faults. What is down stays down.
func (w *World) heal() {
	w.disarm()
	w.Server.heal()
	for _, p := range w.processes {
		p.wire.heal()
	}
}

// disarm ends the faults that brokers wait with.
func (w *World) disarm() {
	for _, f := range w.faults {
		w.hits.add(f.kind, f.Hits())
		f.Remove()
	}
	w.faults = nil
}

// limit changes what is set of a tenant while everything runs.
func (w *World) limit(tenant string, change func(*tenants.Limits)) {
	limits := *w.limits.Load()
	limits.Overrides = maps.Clone(limits.Overrides)
	if limits.Overrides == nil {
		limits.Overrides = map[tenants.ID]tenants.Limits{}
	}
	of := limits.Overrides[tenants.ID(tenant)]
	change(&of)
	limits.Overrides[tenants.ID(tenant)] = of
	w.limits.Store(&limits)
}
