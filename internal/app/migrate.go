package app

import (
	"context"
	"fmt"
	"io"

	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/config"
)

// Migrate brings ClickHouse's tables up to date, or prints what would run, and says on out what it did.
func Migrate(ctx context.Context, cfg config.Config, dryRun bool, out io.Writer) error {
	client, err := operatorClickHouse(&cfg)
	if err != nil {
		return err
	}
	defer client.Close()
	pending, err := client.Migrate(ctx, dryRun)
	if err != nil {
		return err
	}
	if len(pending) == 0 {
		fmt.Fprintln(out, "ClickHouse is up to date")
	}
	for _, migration := range pending {
		if dryRun {
			fmt.Fprintf(out, "-- would run %s\n%s\n", migration.Name, migration.SQL)
		} else {
			fmt.Fprintf(out, "applied %s\n", migration.Name)
		}
	}
	return nil
}

// PrintAccess writes the statements with which an administrator makes the users and rights of Vigie on a server of
// their own.
func PrintAccess(cfg *config.Config, out io.Writer) error {
	access, err := cfg.ClickHouse.Access()
	if err != nil {
		return fmt.Errorf("write access statements: %w", err)
	}
	statements, err := clickhouse.AccessSQL(access, cfg.ClickHouse.Cluster)
	if err != nil {
		return err
	}
	_, err = io.WriteString(out, statements)
	return err
}
