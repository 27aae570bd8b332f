package alertmanager

import (
	"context"
	"encoding/json"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vigie-io/vigie/internal/tenants"
)

// Target takes the alerts of a tenant, JSON as API v2 has it.
type Target interface {
	Send(ctx context.Context, tenant tenants.ID, alerts []byte) error
}

var (
	_ Target = (*External)(nil)
	_ Target = (*Embedded)(nil)
)

// waiting is how many batches may wait for a Target; further ones are dropped and come again with the next resend.
const waiting = 256

// Sender passes alerts on without making its callers wait. Safe for concurrent use.
type Sender struct {
	target Target
	log    *slog.Logger
	queue  chan batch
	sent   *prometheus.CounterVec
}

type batch struct {
	tenant tenants.ID
	alerts []byte
	count  int
}

// NewSender makes a Sender, which sends while Run runs. r may be nil.
func NewSender(target Target, r prometheus.Registerer, log *slog.Logger) *Sender {
	s := &Sender{target: target, log: log, queue: make(chan batch, waiting), sent: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "vigie_ruler_alerts_sent_total",
		Help: "Alerts passed on to Alertmanagers, each as often as it was, by result: ok, failed, dropped (too many waited). " +
			"What fails comes again after rules.resend_delay.",
	}, []string{"result"})}
	for _, result := range []string{"ok", "failed", "dropped"} {
		s.sent.WithLabelValues(result)
	}
	if r != nil {
		r.MustRegister(s.sent)
	}
	return s
}

// Send queues count alerts, a list that marshals as API v2 has it.
func (s *Sender) Send(tenant tenants.ID, alerts any, count int) {
	text, err := json.Marshal(alerts)
	if err != nil {
		panic("BUG: alerts do not marshal: " + err.Error())
	}
	select {
	case s.queue <- batch{tenant, text, count}:
	default:
		s.sent.WithLabelValues("dropped").Add(float64(count))
	}
}

// Run sends until ctx ends.
func (s *Sender) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case b := <-s.queue:
			result := "ok"
			if err := s.target.Send(ctx, b.tenant, b.alerts); err != nil {
				result = "failed"
				s.log.Warn("alerts were not passed on; they come again", "tenant", b.tenant, "alerts", b.count, "err", err)
			}
			s.sent.WithLabelValues(result).Add(float64(b.count))
		}
	}
}
