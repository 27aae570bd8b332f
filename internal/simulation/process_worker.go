package simulation

import (
	"context"
	"sync"
	"time"

	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/kafka"
	"github.com/vigie-io/vigie/internal/pipeline"
)

// worker is a stream process without sink.
func (w *World) worker(ctx context.Context, cfg kafka.Config, p *process) {
	shape := pipeline.DefaultConfig()
	shape.ResultsTopic, shape.DLQTopic = cfg.Topics.Results.Name, cfg.Topics.DLQ.Name
	if w.shape.Windows > 0 {
		shape.WatermarkDelay, shape.IdleAfter = 2*time.Second, 3*time.Second
	}
	for _, d := range rollups(p.rules, w.shape.Windows) {
		shape.Rollups = append(shape.Rollups, d.Declared)
	}
	worker := pipeline.NewWorker(pipeline.WorkerConfig{
		Config: shape, Encoder: clickhouse.Encoder{}, Metrics: w.metrics, Log: w.log.With("process", p.name),
		Limits: w.limits.Load,
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
	s.process.aim(messages)
	committed, err := s.Session.Commit(ctx, messages)
	if committed && len(messages) > 0 {
		s.process.reach(momentCommitted)
	}
	return committed, err
}

// aim has the rollups of an epoch go to all tiers where the version knows no other way, and in every so many epochs: simulated
// workers are hardly ever behind.
func (p *process) aim(messages []pipeline.Message) {
	if len(messages) > 0 {
		p.epochs++
	}
	if !p.earlier && (p.behind == 0 || p.epochs%p.behind > 0) {
		return
	}
	for i := range messages {
		for j := range messages[i].Headers {
			if h := &messages[i].Headers[j]; h.Key == pipeline.HeaderTable && string(h.Value) == pipeline.TablePanes {
				h.Value = []byte(pipeline.TableRollups)
			}
		}
	}
}
