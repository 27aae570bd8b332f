package clickhouse

import (
	"context"
	"time"

	"github.com/vigie-io/vigie/internal/query/promql"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/migrations"
)

// MigrateAfter is Migrate that takes over from a process that has been silent for so long, whole seconds.
func (c *Client) MigrateAfter(ctx context.Context, patience time.Duration) error {
	_, err := c.migrate(ctx, false, patience)
	return err
}

// MigrateTo brings the schema up to what it was at an earlier version.
func (c *Client) MigrateTo(ctx context.Context, version int) error {
	_, err := c.pending(ctx, func(file migrations.File, statements []string) error {
		if file.Version > version {
			return nil
		}
		return c.apply(ctx, file, statements)
	})
	return err
}

// LockMigrations takes the lock as a process that migrates does.
func (c *Client) LockMigrations(ctx context.Context) (alive func() error, err error) {
	l, err := c.lockMigrations(ctx, time.Hour)
	return func() error { return l.alive(ctx) }, err
}

// RememberParts replaces what a table is taken to remember.
func (l *Ledger) RememberParts(n uint64) { l.parts = n }

// PanesQuery is the statement that reads panes.
func PanesQuery(tenant tenants.ID, q promql.PaneQuery) (string, error) { return panesQuery(tenant, &q) }
