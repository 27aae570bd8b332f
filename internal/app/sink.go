package app

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/config"
	"github.com/vigie-io/vigie/internal/kafka"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/pipeline/verify"
	"github.com/vigie-io/vigie/internal/sink"
	"github.com/vigie-io/vigie/internal/topology"
)

const (
	// Pauses between a sink that ended with an error and the next.
	sinkRetryMin = 250 * time.Millisecond
	sinkRetryMax = 15 * time.Second
	// duplicatesEvery is how often ClickHouse is asked how many blocks it dropped as duplicates.
	duplicatesEvery = 10 * time.Second
	// auditWait is how long an audit waits for results that are not stored yet, before it tries again later.
	auditWait = 10 * time.Second
)

// sinkRunner moves what is in a topic to ClickHouse, with one sink after the other.
type sinkRunner struct {
	cfg     *config.Config
	p       *Process
	client  *clickhouse.Client
	metrics *sink.Metrics
	auditor *verify.Auditor
	topic   string
	open    func(cfg kafka.Config, member int, log *slog.Logger) (*kafka.Results, error)

	mu      sync.Mutex
	state   string
	since   time.Time
	err     error
	current *sink.Sink
}

// newSinkRunners are that of the results, and that of what is merged of them.
func newSinkRunners(cfg *config.Config, p *Process, client *clickhouse.Client) (results, merged *sinkRunner) {
	metrics, audits := sink.NewMetrics(p.Registry), verify.NewAuditMetrics(p.Registry)
	of := func(topic string, open func(kafka.Config, int, *slog.Logger) (*kafka.Results, error), wide bool) *sinkRunner {
		r := &sinkRunner{cfg: cfg, p: p, client: client, metrics: metrics, auditor: newAuditor(cfg, p, client, wide, audits),
			topic: topic, open: open}
		if cfg.Stream.Sink {
			r.enter("starting", nil, nil)
		} else {
			r.enter("off", nil, nil)
		}
		return r
	}
	return of(cfg.Kafka.Topics.Results.Name, kafka.NewResults, false), of(cfg.Kafka.Topics.Coarse.Name, kafka.NewCoarseResults, true)
}

// run returns when ctx ends. A sink whose session is lost is made anew: what it had not committed is inserted again
// under the same tokens.
func (r *sinkRunner) run(ctx context.Context, connections *kafka.Metrics) error {
	defer r.enter("stopped", nil, nil)
	producer, err := kafka.NewProducer(r.cfg.Kafka, connections, r.p.Log)
	if err != nil {
		return err
	}
	defer producer.Close()
	var watching sync.WaitGroup
	defer watching.Wait()
	watching.Go(func() { r.auditor.Run(ctx, r.stored) })
	sessions(ctx, sinkRetryMin, sinkRetryMax, func() error { return r.once(ctx, producer) }, func(err error, wait time.Duration) {
		r.enter("waiting", err, nil)
		r.p.Log.Error("sink ended; starting it again", "topic", r.topic, "err", err, "retry_in", wait)
	})
	return nil
}

func (r *sinkRunner) once(ctx context.Context, parker sink.Parker) error {
	results, err := r.open(r.cfg.Kafka, 0, r.p.Log)
	if err != nil {
		return err
	}
	defer results.Close()
	inserts := r.cfg.Stream.Inserts
	inserts.Buffer /= 2 // the other sink has the other half
	s := sink.New(r.topic, inserts, results, r.client, parker, r.metrics, r.p.Log)
	s.OnDoubt(r.auditor.Doubt)
	s.BeforeResuming(clickhouse.NewLedger(r.client).Resume)
	r.enter("running", nil, s)
	return s.Run(ctx)
}

// watchDuplicates keeps the count of blocks that ClickHouse knew already. What it cannot tell now, it tells later.
func (r *sinkRunner) watchDuplicates(ctx context.Context) {
	every := time.NewTicker(duplicatesEvery)
	defer every.Stop()
	for ctx.Err() == nil {
		for server, n := range r.client.Duplicates(ctx) {
			r.metrics.Duplicates(server, n)
		}
		select {
		case <-ctx.Done():
		case <-every.C:
		}
	}
}

// newAuditor audits what inserts leave in doubt: those of results, or of what is merged of them, which fill the wide
// tiers. Replicated tables lose nothing in a crash.
func newAuditor(cfg *config.Config, p *Process, client *clickhouse.Client, wide bool, metrics *verify.AuditMetrics) *verify.Auditor {
	of := verify.AuditorConfig{
		Repair: cfg.Stream.Inserts.Audit == sink.AuditRepair, Range: cfg.Stream.Inserts.AuditRange,
		MaxFuture: cfg.Stream.MaxFuture, Decode: clickhouse.Decoder{}.DecodeAmounts,
		Replaced: func(ctx context.Context) (func(string, string, int64) bool, error) { return replacedOf(ctx, client) },
	}
	if cfg.Stream.Inserts.Audit != sink.AuditOff && cfg.ClickHouse.Cluster == "" {
		of.Tables = auditedBy(cfg, wide, p.Log)
	}
	if len(of.Tables) > 0 && !wide {
		for table, ingest := range verify.KeptIngest() {
			of.Kept = append(of.Kept, verify.KeptTable{Name: table, Results: kafka.NewResultsTopic(cfg.Kafka, ingest, auditWait, p.Log)})
		}
	}
	return verify.NewAuditor(of, clickhouse.NewStore(client), clickhouse.NewRepairer(client, clickhouse.RepairPatience),
		clickhouse.NewKept(client), clickhouse.NewLedger(client), metrics, p.Log)
}

// storing is how ClickHouse keeps up with the results that this process stores.
func (r *sinkRunner) storing() pipeline.Storing {
	r.mu.Lock()
	current := r.current
	r.mu.Unlock()
	if current == nil {
		return pipeline.Storing{}
	}
	return pipeline.Storing{Waits: current.Waiting(), Takes: current.Storing()}
}

// stored is how far the partitions of the sink that runs are stored.
func (r *sinkRunner) stored() (out []verify.Stored) {
	r.mu.Lock()
	current := r.current
	r.mu.Unlock()
	if current == nil {
		return nil
	}
	for _, lane := range current.Topology() {
		if !lane.Resumed {
			continue // where it stands says nothing of what was inserted
		}
		out = append(out, verify.Stored{Topic: lane.Topic, Partition: lane.Partition, Next: lane.Next})
	}
	return out
}

func (r *sinkRunner) enter(state string, err error, s *sink.Sink) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state, r.since, r.err, r.current = state, time.Now(), err, s
}

func (r *sinkRunner) topology() topology.Sink {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := topology.Sink{State: r.state, Since: r.since, Deduplicated: r.metrics.Deduplicated(), Lanes: []sink.LaneTopology{}}
	if r.err != nil {
		t.Error = r.err.Error()
	}
	if r.current != nil {
		t.Lanes = append(t.Lanes, r.current.Topology()...)
	}
	return t
}
