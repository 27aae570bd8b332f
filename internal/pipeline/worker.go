package pipeline

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/vigie-io/vigie/internal/pause"
	"github.com/vigie-io/vigie/internal/tenants"
)

// OpenFunc opens a new session and returns how to close it. ctx bounds the opening, not the session.
type OpenFunc func(ctx context.Context) (s Session, close func(), err error)

// WorkerConfig is what a Worker needs.
type WorkerConfig struct {
	Config  Config // valid
	Slot    int    // which worker of the process it is, for logs and metrics
	Open    OpenFunc
	Encoder Encoder
	Metrics *Metrics     // nil counts nothing anyone sees
	Log     *slog.Logger // nil logs nothing

	// Storing is how ClickHouse keeps up with results, as far as this process knows. Nil: it does. Safe for concurrent
	// use.
	Storing func() Storing

	Limits func() *tenants.Config // that of TaskConfig
	Now    func() time.Time       // nil: time.Now
}

// Worker drives the tasks of one session through epochs. Make one for each core.
type Worker struct {
	cfg      WorkerConfig
	scratch  *Scratch
	topology atomic.Pointer[Topology]
	failed   uint64 // sessions
}

// Waits between a failed session and the next.
const (
	minBackoff = 250 * time.Millisecond
	maxBackoff = 15 * time.Second
)

// NewWorker returns a worker that does nothing until Run.
func NewWorker(cfg WorkerConfig) *Worker {
	if cfg.Metrics == nil {
		cfg.Metrics = NewMetrics(nil)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Storing == nil || len(cfg.Config.Alerts) > 0 { // alerts do not wait for ClickHouse
		cfg.Storing = func() Storing { return Storing{} }
	}
	w := &Worker{cfg: cfg, scratch: new(Scratch)}
	w.enter("stopped", nil)
	return w
}

// Topology is what the worker looked like when it last reported. Safe for concurrent use; the result is shared and not
// to be changed.
func (w *Worker) Topology() *Topology { return w.topology.Load() }

// Run processes epochs until ctx ends; then it finishes the epoch under way, commits and closes the session, within
// close_timeout. A session that fails is closed and a new one opened, after a wait that doubles with each failure
// in a row. Run never gives up by itself and always returns nil.
func (w *Worker) Run(ctx context.Context) error {
	w.cfg.Metrics.join(w)
	defer w.cfg.Metrics.leave(w)
	defer w.enter("stopped", nil)
	backoff := minBackoff
	for ctx.Err() == nil {
		w.enter("starting", nil)
		progressed, err := w.session(ctx)
		if err == nil {
			continue // ctx has ended
		}
		if progressed {
			backoff = minBackoff
		}
		w.cfg.Metrics.failures.Inc()
		w.failed++
		if ctx.Err() != nil {
			w.cfg.Log.Warn("last epoch not committed: its records will be processed again", "slot", w.cfg.Slot, "err", err)
			break
		}
		w.cfg.Log.Error("worker failed and starts anew", "slot", w.cfg.Slot, "after", backoff, "err", err)
		w.enter("waiting", err)
		_ = pause.For(ctx, backoff)
		backoff = min(2*backoff, maxBackoff)
	}
	return nil
}

// session runs one session to its end: nil when ctx has ended and the last epoch is committed.
func (w *Worker) session(ctx context.Context) (progressed bool, err error) {
	s, closeSession, err := w.cfg.Open(ctx)
	switch {
	case err != nil && ctx.Err() != nil:
		return false, nil
	case err != nil:
		return false, fmt.Errorf("open session: %w", err)
	}
	defer closeSession()
	w.cfg.Metrics.starts.Inc()
	r := newRun(w, s)
	w.enter("running", nil)
	err = r.loop(ctx)
	return r.committed > 0, err
}

func (w *Worker) enter(state string, err error) {
	t := Topology{
		Slot: w.cfg.Slot, State: state, Since: w.cfg.Now(), Failures: w.failed, EpochTarget: w.cfg.Config.Epoch.Min,
		Tasks: []TaskTopology{},
	}
	if err != nil {
		t.Error = err.Error()
	}
	w.topology.Store(&t)
}
