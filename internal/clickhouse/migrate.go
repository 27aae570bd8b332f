package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/vigie-io/vigie/migrations"
)

// Migration is one pending or applied file, with its SQL for this server.
type Migration struct {
	Version int
	Name    string
	SQL     string // statements, each with its semicolon
}

// Migrate brings the schema up to this program's and returns what was pending. With dryRun it only returns it. Several
// processes may do so at once: one does, the others wait; one that dies in the middle is taken up by the next. It
// refuses a server whose applied files differ from this program's, which is also what an older program on a newer
// schema meets.
func (c *Client) Migrate(ctx context.Context, dryRun bool) ([]Migration, error) {
	return c.migrate(ctx, dryRun, migrationPatience)
}

func (c *Client) migrate(ctx context.Context, dryRun bool, patience time.Duration) ([]Migration, error) {
	pending, err := c.pending(ctx, func(migrations.File, []string) error { return nil })
	if err != nil || dryRun || len(pending) == 0 {
		return pending, err
	}
	lock, err := c.lockMigrations(ctx, patience)
	if err != nil {
		return nil, err
	}
	defer lock.release(ctx)
	return c.pending(ctx, func(file migrations.File, statements []string) error {
		if err := lock.alive(ctx); err != nil {
			return err
		}
		return c.apply(ctx, file, statements)
	})
}

// pending lists the files that are not applied, and calls each with each of them and its statements.
func (c *Client) pending(ctx context.Context, each func(file migrations.File, statements []string) error) ([]Migration, error) {
	applied, err := c.applied(ctx)
	if err != nil {
		return nil, fmt.Errorf("read vigie.schema_migrations: %w", err)
	}
	files := migrations.All()
	if err := compare(files, applied); err != nil {
		return nil, err
	}
	var pending []Migration
	for _, file := range files {
		if _, done := applied[file.Version]; done {
			continue
		}
		statements, err := file.Statements(migrations.Target{Cluster: c.cfg.Cluster, Owner: c.cfg.User, ViewOwner: UserViewOwner})
		if err != nil {
			return nil, err
		}
		pending = append(pending, Migration{file.Version, file.Name, strings.Join(statements, ";\n") + ";\n"})
		if err := each(file, statements); err != nil {
			return nil, err
		}
	}
	return pending, nil
}

func (c *Client) apply(ctx context.Context, file migrations.File, statements []string) error {
	for i, statement := range statements {
		if err := c.execWithin(ctx, statement, c.cfg.InsertTimeout); err != nil { // a file may fill a new table from others
			return fmt.Errorf("apply migration %s, statement %d of %d: %w", file.Name, i+1, len(statements), err)
		}
	}
	record := fmt.Sprintf("INSERT INTO vigie.schema_migrations (version, name, checksum) SELECT %d, '%s', '%s'",
		file.Version, file.Name, file.Checksum)
	if err := c.exec(ctx, record); err != nil {
		return fmt.Errorf("record migration %s: %w", file.Name, err)
	}
	return nil
}

// applied maps versions to checksums; empty on a fresh server.
func (c *Client) applied(ctx context.Context) (map[int]string, error) {
	const query = "SELECT version, argMax(checksum, applied_at) FROM vigie.schema_migrations GROUP BY version"
	body, err := c.rows(ctx, query)
	var exception *Error
	if errors.As(err, &exception) && (exception.Code == codeUnknownTable || exception.Code == codeUnknownDB) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out := map[int]string{}
	for line := range strings.Lines(body) {
		number, checksum, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		version, err := strconv.Atoi(number)
		if err != nil {
			return nil, fmt.Errorf("version %q: %w", number, err)
		}
		out[version] = checksum
	}
	return out, nil
}

func compare(files []migrations.File, applied map[int]string) error {
	for _, file := range files {
		if checksum, done := applied[file.Version]; done && checksum != file.Checksum {
			return fmt.Errorf("compare migration %s: the server has applied another text of it (checksum %.12s, ours %.12s): "+
				"use the program that the server was migrated with, or a newer one: %w",
				file.Name, checksum, file.Checksum, ErrNotMigrated)
		}
	}
	for version := range applied {
		if version > len(files) {
			return fmt.Errorf("compare migrations: the server has version %d, this program knows up to %d: "+
				"use a newer program: %w", version, len(files), ErrNotMigrated)
		}
	}
	return nil
}

// Ready returns nil when the server answers and has at least this program's schema.
func (c *Client) Ready(ctx context.Context) error {
	applied, err := c.applied(ctx)
	if err != nil {
		return err
	}
	// A newer schema is fine: during a rolling upgrade the old program reads and writes what is still there.
	for _, file := range migrations.All() {
		switch checksum, done := applied[file.Version]; {
		case !done:
			return fmt.Errorf("migration %s is pending: run `vigie migrate`: %w", file.Name, ErrNotMigrated)
		case checksum != file.Checksum:
			return compare([]migrations.File{file}, applied)
		}
	}
	return nil
}
