package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/config"
	"github.com/vigie-io/vigie/internal/units"
)

// operatorClickHouse returns a client for an operator's command. Where the configuration names no password and the
// server is that of `vigie dev` with this data directory, the password is the one that it made.
func operatorClickHouse(cfg *config.Config) (*clickhouse.Client, error) {
	of := cfg.ClickHouse
	if of.Password == "" && of.PasswordFile == "" && slices.Equal(of.Addrs, []string{cfg.Dev.ClickHouseHTTP}) {
		made, err := dataDir(cfg.DataDir).madeCredentials()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		of.Password, of.SQLPassword = units.Secret(made.Writer), units.Secret(made.SQL)
	}
	return clickhouse.NewClient(of)
}

// readyClickHouse is operatorClickHouse with a server that can do its job now. The caller closes it.
func readyClickHouse(ctx context.Context, cfg *config.Config) (*clickhouse.Client, error) {
	client, err := operatorClickHouse(cfg)
	if err != nil {
		return nil, err
	}
	if err := client.Ready(ctx); err != nil {
		client.Close()
		return nil, fmt.Errorf("ClickHouse: %w", err)
	}
	return client, nil
}
