package simulation

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/ingest"
	"github.com/vigie-io/vigie/internal/kafka"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/sink"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
)

// Shape is how large a World is.
type Shape struct {
	Brokers    int
	Workers    int // that start with it
	Sinks      int
	Partitions int32 // of the topic of metrics; logs have half as many
	Windows    int   // windowed rollups declared
}

// DefaultShape is one of everything, two partitions, and no windows.
func DefaultShape() Shape { return Shape{Brokers: 1, Workers: 1, Sinks: 1, Partitions: 2} }

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
	admin     *kadm.Client
	log       *slog.Logger
	processes map[string]*process // by name: "worker 1"
	abandoned sync.WaitGroup
	limits    map[string]int // active series, by tenant
	registry  *prometheus.Registry
	metrics   *pipeline.Metrics
	counters  *sink.Metrics

	hits    *Hits
	faults  []armed
	lanes   lanes
	refused map[string]bool // source positions of records that have to be in a dead letter
}

// NewWorld starts brokers and processes.
func NewWorld(shape Shape, hits *Hits, log *slog.Logger) (*World, error) {
	w := &World{
		hits: hits, Server: NewServer(), Recount: NewRecount(shape.Windows), shape: shape, start: time.Now(), log: log,
		processes: map[string]*process{}, limits: map[string]int{}, refused: map[string]bool{}, registry: prometheus.NewRegistry(),
	}
	w.Server.hits = hits
	w.metrics, w.counters = pipeline.NewMetrics(w.registry), sink.NewMetrics(w.registry)
	var ports []int
	for i := range shape.Brokers {
		ports = append(ports, 9092+i)
	}
	var err error
	w.cluster, err = kfake.NewCluster(kfake.NumBrokers(shape.Brokers), kfake.Ports(ports...), kfake.ListenFn(w.network.Listen), kfake.SleepOutOfOrder())
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
	cfg.Topics.Metrics.Partitions, cfg.Topics.Spans.Partitions, cfg.Topics.Logs.Partitions = w.shape.Partitions, 1, max(1, w.shape.Partitions/2)
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
	var err error
	w.client, err = kgo.NewClient(kgo.SeedBrokers(w.cfg.Brokers...), kgo.Dialer(w.cfg.Dial), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.DisableClientMetrics(), kgo.ProducerLinger(0), kgo.UnknownTopicRetries(-1)) // metadata may be wrong for a while
	if err != nil {
		return fmt.Errorf("kafka client: %w", err)
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
	if w.client != nil {
		w.client.Close()
	}
	w.cluster.Close()
	time.Sleep(time.Second) // readers of connections end when the answer at hand has arrived
}

// instance is the name of a process for Kafka: "w1".
func instance(process string) string { return process[:1] + process[len(process)-1:] }

func workerName(n int) string { return "worker " + strconv.Itoa(n) }
func sinkName(n int) string   { return "sink " + strconv.Itoa(n) }

// process is one run of a worker or a sink.
type process struct {
	name string
	wire *wire
	stop context.CancelFunc
	done chan struct{}

	mu    sync.Mutex
	traps map[string]func() // by moment
}

// role is worker or sink.
func (p *process) role() string { return p.name[:len(p.name)-2] }

// trap arranges for do to be called at a moment that is no request.
func (p *process) trap(moment string, do func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.traps[moment] = do
}

// reach calls what was arranged for a moment.
func (p *process) reach(moment string) {
	p.mu.Lock()
	do := p.traps[moment]
	delete(p.traps, moment)
	p.mu.Unlock()
	if do != nil {
		do()
	}
}

// launch starts a process that does not run.
func (w *World) launch(name string) {
	ctx, stop := context.WithCancel(context.Background())
	p := &process{name: name, wire: newWire(w.network.DialContext), stop: stop, done: make(chan struct{}), traps: map[string]func(){}}
	cfg := w.cfg
	cfg.Dial = p.wire.DialContext
	cfg.Instance = instance(name)
	w.processes[name] = p
	run := w.worker
	if name[0] == 's' {
		run = w.sink
	}
	go func() {
		defer close(p.done)
		run(ctx, cfg, p)
	}()
}

// kill ends a process without a goodbye: what it does from now on reaches nobody.
func (w *World) kill(name string) {
	p := w.processes[name]
	if p == nil {
		return
	}
	delete(w.processes, name)
	p.wire.cut()
	p.stop()
	w.abandoned.Go(func() { <-p.done })
}

// stop ends a process in order, and waits for it.
func (w *World) stop(name string) {
	p := w.processes[name]
	if p == nil {
		return
	}
	p.stop()
	<-p.done
	delete(w.processes, name)
}

// worker is a stream process without sink.
func (w *World) worker(ctx context.Context, cfg kafka.Config, p *process) {
	shape := pipeline.DefaultConfig()
	shape.ResultsTopic, shape.DLQTopic = cfg.Topics.Results.Name, cfg.Topics.DLQ.Name
	if w.shape.Windows > 0 {
		shape.Rollups, shape.WatermarkDelay, shape.IdleAfter = w.shape.rollups(), 2*time.Second, 3*time.Second
	}
	worker := pipeline.NewWorker(pipeline.WorkerConfig{
		Config: shape, Encoder: clickhouse.Encoder{}, Metrics: w.metrics, Log: w.log.With("process", p.name),
		Limits: w.tenantLimits,
		Open: func(ctx context.Context) (pipeline.Session, func(), error) {
			opening, cancel := context.WithTimeout(ctx, time.Minute)
			defer cancel()
			session, err := kafka.NewSession(opening, cfg, 0, nil, w.log.With("process", p.name))
			if err != nil {
				return nil, nil, err
			}
			w.lanes.set(p.name, session.ResultPartition())
			return watched{session, p}, session.Close, nil
		},
	})
	_ = worker.Run(ctx) // returns nil
}

// lanes are the results partitions that workers write to.
type lanes struct {
	mu sync.Mutex
	of map[string]int32 // by process
}

func (l *lanes) set(process string, partition int32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.of == nil {
		l.of = map[string]int32{}
	}
	l.of[process] = partition
}

func (l *lanes) get(process string) (partition int32, known bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	partition, known = l.of[process]
	return partition, known
}

// watched is a session whose moments can be trapped.
type watched struct {
	pipeline.Session
	process *process
}

// Moments of a worker that are no requests.
const (
	momentPolled     = "polled"     // records were polled
	momentCommitting = "committing" // the epoch ends: nothing has been sent of it
	momentCommitted  = "committed"  // and is committed, which the worker does not know yet
)

func (s watched) Poll(ctx context.Context) (pipeline.Fetch, error) {
	fetch, err := s.Session.Poll(ctx)
	if err == nil && len(fetch.Chunks) > 0 {
		s.process.reach(momentPolled)
	}
	return fetch, err
}

func (s watched) Commit(ctx context.Context, messages []pipeline.Message) (bool, error) {
	if len(messages) > 0 {
		s.process.reach(momentCommitting)
	}
	committed, err := s.Session.Commit(ctx, messages)
	if committed && len(messages) > 0 {
		s.process.reach(momentCommitted)
	}
	return committed, err
}

// sink is a stream process without workers; a sink that failed is made anew, as internal/app does.
func (w *World) sink(ctx context.Context, cfg kafka.Config, p *process) {
	log := w.log.With("process", p.name)
	for ctx.Err() == nil {
		if err := w.sinkOnce(ctx, cfg, p, log); err != nil {
			log.Error("sink ended; starting it again", "err", err)
			select {
			case <-ctx.Done():
			case <-time.After(250 * time.Millisecond):
			}
		}
	}
}

func (w *World) sinkOnce(ctx context.Context, cfg kafka.Config, p *process, log *slog.Logger) error {
	producer, err := kafka.NewProducer(cfg, nil, log)
	if err != nil {
		return err
	}
	defer producer.Close()
	results, err := kafka.NewResults(cfg, 0, log)
	if err != nil {
		return err
	}
	defer results.Close()
	return sink.New(sink.DefaultConfig(), results, inserter{w.Server, p}, producer, w.counters, log).Run(ctx)
}

// inserter is the way of one process to ClickHouse.
type inserter struct {
	server  *Server
	process *process
}

// Moments of a sink that are no requests.
const (
	momentInserting = "inserting" // before an insert
	momentInserted  = "inserted"  // it is stored, and its offset not committed
)

func (i inserter) Insert(ctx context.Context, table, token string, rows int, block []byte) error {
	i.process.reach(momentInserting)
	if ctx.Err() != nil {
		return ctx.Err() // crashed
	}
	err := i.server.Insert(ctx, table, token, rows, block)
	if err == nil {
		i.process.reach(momentInserted)
	}
	return err
}

// publish appends a record, which the brokers acknowledge before it returns, and gives its position.
func (w *World) publish(topic string, partition int32, tenant string, value []byte) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	record := &kgo.Record{Topic: topic, Partition: partition, Key: []byte(tenant), Value: value, Headers: []kgo.RecordHeader{
		{Key: ingest.HeaderTenant, Value: []byte(tenant)}, {Key: ingest.HeaderContentType, Value: []byte("application/json")},
	}}
	if err := w.client.ProduceSync(ctx, record).FirstErr(); err != nil {
		return "", fmt.Errorf("publish to %s/%d: %w", topic, partition, err)
	}
	return position(record.Topic, strconv.Itoa(int(record.Partition)), strconv.FormatInt(record.Offset, 10)), nil
}

func position(topic, partition, offset string) string { return topic + "/" + partition + "/" + offset }

// Publish appends metrics as one record to a partition, and counts them.
func (w *World) publishMetrics(partition int32, metrics []events.Metric) error {
	var value []byte
	for i := range metrics {
		value = append(events.AppendMetric(value, &metrics[i]), '\n')
	}
	if _, err := w.publish(w.cfg.Topics.Metrics.Name, partition, metrics[0].Tenant, value[:len(value)-1]); err != nil {
		return err
	}
	for i := range metrics {
		w.Recount.Metric(&metrics[i])
		w.Recount.windows.metric(&metrics[i], fmt.Sprintf("%s/%d", w.cfg.Topics.Metrics.Name, partition))
		w.claim(w.cfg.Topics.Metrics.Name, partition, &metrics[i])
	}
	return nil
}

// claim notes an event that has been acknowledged, for progress to be held against. Those that a limit may drop are left out.
func (w *World) claim(topic string, partition int32, m *events.Metric) {
	if w.limits[m.Tenant] > 0 {
		return
	}
	key := Key{
		Table: finest, Tenant: m.Tenant, Metric: m.Name, Service: m.Labels.Get("service"), Series: identify(m),
		Start: uint32(m.Time/1e9) / tiers[0].width * tiers[0].width,
	}
	w.Server.published(published{place{topic, partition}, time.Now().UnixMilli(), key, 1})
}

// parked reads the blocks that were put aside, once each.
func (w *World) parked(ctx context.Context) (map[string]*kgo.Record, error) {
	out := map[string]*kgo.Record{}
	err := w.read(ctx, w.cfg.Topics.Parked.Name, func(r *kgo.Record) { out[string(r.Key)] = r })
	return out, err
}

// read calls fn for what a read-committed reader sees of a topic.
func (w *World) read(ctx context.Context, topic string, fn func(*kgo.Record)) error {
	listed, err := w.admin.ListCommittedOffsets(ctx, topic)
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		return fmt.Errorf("list offsets of %s: %w", topic, err)
	}
	left := map[int32]int64{}
	listed.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			left[o.Partition] = o.Offset
		}
	})
	if len(left) == 0 {
		return nil
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(w.cfg.Brokers...), kgo.Dialer(w.cfg.Dial), kgo.ConsumeTopics(topic), kgo.DisableClientMetrics(),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchMaxWait(100*time.Millisecond))
	if err != nil {
		return fmt.Errorf("kafka client: %w", err)
	}
	defer client.Close()
	for len(left) > 0 {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			return fmt.Errorf("read %s: %w (left %v)", topic, ctx.Err(), left)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if !r.Attrs.IsControl() {
				fn(r)
			}
			if end, ok := left[r.Partition]; ok && r.Offset+1 >= end {
				delete(left, r.Partition)
			}
		})
	}
	return nil
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

// tenantLimits are the scenario's limits.
func (w *World) tenantLimits() *tenants.Config {
	limits := tenants.DefaultConfig()
	limits.Overrides = make(map[tenants.ID]tenants.Limits)
	for tenant, n := range w.limits {
		limits.Overrides[tenants.ID(tenant)] = tenants.Limits{ActiveSeries: n}
	}
	return &limits
}
