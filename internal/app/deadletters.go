package app

import (
	"log/slog"

	"github.com/vigie-io/vigie/internal/config"
	"github.com/vigie-io/vigie/internal/kafka"
)

// DeadLetters gives access to the dead letters of the installation.
func DeadLetters(cfg config.Config, log *slog.Logger) *kafka.DeadLetters {
	return kafka.NewDeadLetters(cfg.Kafka, log)
}
