package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// migrationPatience is how long the holder of the lock may take over one file before others take him for dead.
const migrationPatience = time.Minute

// lockMigrations waits until no other process migrates, and keeps others out until release. Two that replace and alter one view at
// the same time can leave ClickHouse with metadata that it refuses ever after. The lock is a table: to create one that exists fails.
// Its rows say when the holder was last at work; alive writes one.
func (c *Client) lockMigrations(ctx context.Context) (alive func() error, release func(), err error) {
	if err := c.exec(ctx, "CREATE DATABASE IF NOT EXISTS vigie"); err != nil {
		return nil, nil, fmt.Errorf("lock migrations: %w", err)
	}
	alive = func() error { return c.exec(ctx, "INSERT INTO vigie.migrating SELECT now()") }
	for {
		err := c.exec(ctx, "CREATE TABLE vigie.migrating (since DateTime) ENGINE = Memory")
		if err == nil {
			release = func() {
				ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
				defer cancel()
				_ = c.exec(ctx, "DROP TABLE IF EXISTS vigie.migrating SYNC") // others wait for migrationPatience
			}
			if err := alive(); err != nil {
				release()
				return nil, nil, fmt.Errorf("lock migrations: %w", err)
			}
			return alive, release, nil
		}
		var exception *Error
		if !errors.As(err, &exception) || exception.Code != codeTableExists {
			return nil, nil, fmt.Errorf("lock migrations: %w", err)
		}
		if err := c.unlockDead(ctx); err != nil {
			return nil, nil, err
		}
		select {
		case <-ctx.Done():
			return nil, nil, fmt.Errorf("wait for another process that migrates: %w", ctx.Err())
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// unlockDead drops the lock of a process that has not been at work for longer than it may.
func (c *Client) unlockDead(ctx context.Context) error {
	answer, err := c.rows(ctx, "SELECT dateDiff('second', greatest((SELECT max(since) FROM vigie.migrating), max(metadata_modification_time)), now()) FROM system.tables WHERE database = 'vigie' AND name = 'migrating'")
	var exception *Error
	if errors.As(err, &exception) {
		return nil // it is gone
	} else if err != nil {
		return fmt.Errorf("ask who migrates: %w", err)
	}
	if age, err := strconv.Atoi(strings.TrimSpace(answer)); err != nil || age <= int(migrationPatience.Seconds()) {
		return nil // it may have just been made
	}
	return c.exec(ctx, "DROP TABLE IF EXISTS vigie.migrating SYNC")
}
