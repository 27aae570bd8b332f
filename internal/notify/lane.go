package notify

import (
	"context"
	"log/slog"
	"time"

	"github.com/vigie-io/vigie/internal/alertapi"
)

const (
	maxBatch   = 256 // alerts in one request
	minBackoff = time.Second
	maxBackoff = 30 * time.Second
)

// lane sends to one Alertmanager. It remembers what it has sent, and when.
type lane struct {
	name    string
	resend  time.Duration
	book    *book
	post    func(ctx context.Context, alerts []alertapi.Alert) error
	metrics *Metrics
	log     *slog.Logger

	changed chan struct{}
	sent    map[*alert]time.Time
}

// run sends what is due until ctx ends.
func (l *lane) run(ctx context.Context) {
	l.book.watch(l.changed)
	backoff, next := minBackoff, time.Duration(0)
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.changed:
			if backoff > minBackoff { // it does not answer: the change goes with the next attempt
				continue
			}
		case <-time.After(next):
		}
		if err := l.flush(ctx); err != nil && ctx.Err() == nil {
			l.log.Error("alerts not sent; trying again", "alertmanager", l.name, "retry_in", backoff, "err", err)
			next, backoff = backoff, min(2*backoff, maxBackoff)
			continue
		}
		backoff, next = minBackoff, l.resend/4
	}
}

// flush sends what the Alertmanager has not had, or not lately.
func (l *lane) flush(ctx context.Context) error {
	now := time.Now()
	list := l.book.current(now)
	due, known := list[:0:0], make(map[*alert]time.Time, len(list))
	for _, e := range list {
		at, sent := l.sent[e]
		if sent {
			known[e] = at
		}
		if !sent || now.Sub(at) >= l.resend {
			due = append(due, e)
		}
	}
	l.sent = known
	l.metrics.pending.WithLabelValues(l.name).Set(float64(len(due)))
	for len(due) > 0 {
		batch := due[:min(maxBatch, len(due))]
		alerts := make([]alertapi.Alert, len(batch))
		for i, e := range batch {
			alerts[i] = e.post(now.Add(4 * l.resend))
		}
		if err := l.post(ctx, alerts); err != nil {
			l.metrics.failures.WithLabelValues(l.name).Inc()
			return err
		}
		l.metrics.sent.WithLabelValues(l.name).Add(float64(len(batch)))
		for _, e := range batch {
			if _, sent := l.sent[e]; !sent {
				l.metrics.delay.Observe(time.Since(e.written).Seconds())
			}
			l.sent[e] = now
		}
		due = due[len(batch):]
		l.metrics.pending.WithLabelValues(l.name).Set(float64(len(due)))
	}
	return nil
}
