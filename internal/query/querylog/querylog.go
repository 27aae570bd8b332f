// Package querylog keeps a row of every query that tenants ask, off the queries' path: they are queued, and written in
// batches. Its main type is Log. It does not know what a query is, and a row that cannot be kept is counted and lost:
// it is no audit.
package querylog

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vigie-io/vigie/internal/pause"
	"github.com/vigie-io/vigie/internal/units"
)

const (
	batch    = 1000             // entries of one insert
	retryMax = 30 * time.Second // between attempts
	attempt  = 5 * time.Second  // of one insert, and how long the end of a process may wait for one
)

// Reasons of lost entries.
const (
	lostFull = "full" // the queue was
	lostEnd  = "end"  // the process ended while the database did not answer
)

// Log queues entries and writes them. A nil Log keeps none. Safe for concurrent use.
type Log struct {
	cfg   Config
	store Store
	log   *slog.Logger
	queue chan Entry

	// Of Run alone.
	name  string // of this process, in tokens
	count int    // of batches
	ended bool   // nothing more is written

	written prometheus.Counter
	lost    *prometheus.CounterVec
	failed  prometheus.Counter
}

// New makes a Log; nil when cfg, which must be valid, does not want one. r takes the metrics when it is not nil.
func New(cfg Config, store Store, r prometheus.Registerer, log *slog.Logger) *Log {
	if !cfg.Enabled {
		return nil
	}
	l := &Log{
		cfg: cfg, store: store, log: log, queue: make(chan Entry, cfg.Queue), name: rand.Text(),
		written: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "vigie_query_log_written_total", Help: "Queries written to api.queries.",
		}),
		lost: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "vigie_query_log_lost_total",
			Help: "Queries that are not in api.queries, by reason: full (query.log.queue were waiting), " +
				"end (the process ended while the database did not answer).",
		}, []string{"reason"}),
		failed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "vigie_query_log_failures_total", Help: "Attempts to write to api.queries that failed; each is made again.",
		}),
	}
	if l.log == nil {
		l.log = slog.Default()
	}
	for _, reason := range []string{lostFull, lostEnd} {
		l.lost.WithLabelValues(reason)
	}
	waiting := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "vigie_query_log_waiting", Help: "Queries waiting to be written to api.queries.",
	}, func() float64 { return float64(len(l.queue)) })
	if r != nil {
		r.MustRegister(l.written, l.lost, l.failed, waiting)
	}
	return l
}

// Add queues an entry. It never blocks.
func (l *Log) Add(e Entry) {
	if l == nil {
		return
	}
	e.Text, e.Plan = units.Printable(e.Text, int(l.cfg.MaxText)), units.Printable(e.Plan, int(l.cfg.MaxText))
	select {
	case l.queue <- e:
	default:
		l.lost.WithLabelValues(lostFull).Inc()
	}
}

// Run writes entries until ctx ends, and then what is queued, if the database takes it at once.
func (l *Log) Run(ctx context.Context) error {
	if l == nil {
		<-ctx.Done()
		return nil
	}
	for ctx.Err() == nil {
		l.keep(ctx, l.gather(ctx))
	}
	for list := l.rest(); len(list) > 0; list = l.rest() {
		l.keep(ctx, list)
	}
	return nil
}

// gather waits for the first entry, then takes more until there are enough or time is over.
func (l *Log) gather(ctx context.Context) (list []Entry) {
	select {
	case <-ctx.Done():
		return nil
	case e := <-l.queue:
		list = append(list, e)
	}
	over := time.NewTimer(l.cfg.Every)
	defer over.Stop()
	for len(list) < batch {
		select {
		case <-ctx.Done():
			return list
		case <-over.C:
			return list
		case e := <-l.queue:
			list = append(list, e)
		}
	}
	return list
}

// rest is what is queued, at most a batch.
func (l *Log) rest() (list []Entry) {
	for len(list) < batch {
		select {
		case e := <-l.queue:
			list = append(list, e)
		default:
			return list
		}
	}
	return list
}

// keep writes a batch, again and again while ctx lasts. An attempt outlives ctx: this may be the last batch.
func (l *Log) keep(ctx context.Context, list []Entry) {
	if len(list) == 0 {
		return
	}
	l.count++
	token := fmt.Sprintf("queries/%s/%d", l.name, l.count)
	for wait := time.Second; !l.ended; wait = min(2*wait, retryMax) {
		err := l.insert(ctx, token, list)
		if err == nil {
			l.written.Add(float64(len(list)))
			return
		}
		l.failed.Inc()
		if l.ended = ctx.Err() != nil; l.ended {
			break // and what else is queued would only wait as long again
		}
		l.log.Warn("queries wait to be logged; trying again", "queries", len(list), "err", err, "retry_in", wait)
		_ = pause.For(ctx, wait) // when ctx has ended, one attempt more follows
	}
	l.lost.WithLabelValues(lostEnd).Add(float64(len(list)))
}

func (l *Log) insert(ctx context.Context, token string, list []Entry) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), attempt)
	defer cancel()
	return l.store.InsertQueries(ctx, token, list)
}
