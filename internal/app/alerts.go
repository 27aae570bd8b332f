package app

import (
	"context"
	"log/slog"
	"time"

	"github.com/vigie-io/vigie/internal/config"
	"github.com/vigie-io/vigie/internal/kafka"
	"github.com/vigie-io/vigie/internal/notify"
)

// notifyAlerts sends the alerts of this process's partitions to Alertmanagers until ctx ends, in one session after the
// other.
func notifyAlerts(ctx context.Context, cfg *config.Config, n *notify.Notifier, log *slog.Logger) error {
	sessions(ctx, sinkRetryMin, sinkRetryMax, func() error {
		source, err := kafka.NewAlerts(cfg.Kafka, log)
		if err != nil {
			return err
		}
		defer source.Close()
		return n.Run(ctx, source)
	}, func(err error, wait time.Duration) {
		log.Error("reading alerts ended; starting it again", "err", err, "retry_in", wait)
	})
	return nil
}
