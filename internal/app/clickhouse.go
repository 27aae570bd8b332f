package app

import (
	"context"
	"fmt"

	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/config"
)

// readyClickHouse returns a client of a server that can do its job now. The caller closes it.
func readyClickHouse(ctx context.Context, cfg *config.Config) (*clickhouse.Client, error) {
	client, err := clickhouse.NewClient(cfg.ClickHouse)
	if err != nil {
		return nil, err
	}
	if err := client.Ready(ctx); err != nil {
		client.Close()
		return nil, fmt.Errorf("ClickHouse: %w", err)
	}
	return client, nil
}
