package clickhouse_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/migrations"
)

func TestMigrate(t *testing.T) {
	server, client := newServer(t, nil)
	ctx := t.Context()
	if err := client.Ready(ctx); !errors.Is(err, clickhouse.ErrNotMigrated) {
		t.Fatalf("Ready before: got %v, want ErrNotMigrated", err)
	}

	pending, err := client.Migrate(ctx, true)
	if err != nil || len(pending) != migrations.Latest() {
		t.Fatalf("dry run: got %d pending, %v, want %d", len(pending), err, migrations.Latest())
	}
	if got := ask(t, server, "SELECT count() FROM system.databases WHERE name IN ('vigie', 'api')"); got != "0" {
		t.Fatalf("after a dry run: got %s databases, want 0", got)
	}

	// Two processes at once, and a third one later.
	var wait sync.WaitGroup
	for range 3 {
		wait.Go(func() {
			if _, err := client.Migrate(ctx, false); err != nil {
				t.Errorf("migrate beside others: %v", err)
			}
		})
	}
	wait.Wait()
	if pending, err = client.Migrate(ctx, false); err != nil || len(pending) != 0 {
		t.Fatalf("migrate again: got %d pending, %v, want none", len(pending), err)
	}
	if err := client.Ready(ctx); err != nil {
		t.Fatalf("Ready after: %v", err)
	}

	// Every statement can run twice by itself, as it must after a crash in the middle of a file.
	for _, m := range mustStatements(t, migrations.Target{Owner: clickhouse.UserService, ViewOwner: clickhouse.UserViewOwner}) {
		ask(t, server, m)
	}

	// Every table that takes rows from an ingest table remembers tokens.
	got := ask(t, server, `SELECT name FROM system.tables WHERE database = 'vigie' AND engine LIKE '%MergeTree' AND name NOT IN ('schema_migrations', 'backfill', 'stored', 'replaced', 'backfilled')
		AND create_table_query NOT LIKE '%non_replicated_deduplication_window = 100000%'`)
	if got != "" {
		t.Errorf("tables without a deduplication window: got %s, want none", got)
	}

	ask(t, server, "INSERT INTO vigie.schema_migrations (version, name, checksum) VALUES (3, 'x', 'other')")
	if _, err := client.Migrate(ctx, false); !errors.Is(err, clickhouse.ErrNotMigrated) ||
		!strings.Contains(err.Error(), "0003_") {
		t.Errorf("a changed file: got %v, want ErrNotMigrated naming it", err)
	}
	if err := client.Ready(ctx); !errors.Is(err, clickhouse.ErrNotMigrated) {
		t.Errorf("Ready with a changed file: got %v, want ErrNotMigrated", err)
	}
}

// A process that dies while it migrates is taken over from, by one of several, and one that only takes long is waited
// for. Should it come to life again it is told.
func TestMigrateTakesOver(t *testing.T) {
	server, client := newServer(t, nil)
	alive, err := client.LockMigrations(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 3)
	for range cap(done) {
		go func() { done <- client.MigrateAfter(t.Context(), 4*time.Second) }()
	}
	for range 12 { // longer than they have patience for, and at work
		time.Sleep(500 * time.Millisecond)
		if err := alive(); err != nil {
			t.Fatalf("the holder at work: %v", err)
		}
	}
	if n := ask(t, server, "SELECT count() FROM system.tables WHERE database = 'vigie'"); n != "1" || len(done) > 0 {
		t.Fatalf("got %s tables and %d that are done, want the lock alone: its holder was at work", n, len(done))
	}
	for range cap(done) { // it dies
		if err := <-done; err != nil {
			t.Errorf("migrate after its death: %v", err)
		}
	}
	if err := client.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	if locks := ask(t, server, "SELECT name FROM system.tables WHERE database = 'vigie' AND startsWith(name, 'migrating')"); locks != "" {
		t.Errorf("got locks %s left, want none", locks)
	}
	if n := ask(t, server, "SELECT max(c) FROM (SELECT count() AS c FROM vigie.schema_migrations GROUP BY version)"); n != "1" {
		t.Errorf("got a migration applied %s times, want each once", n)
	}
	if err := alive(); err == nil {
		t.Error("the holder that was taken for dead goes on, want it told")
	}
}

func TestNewerSchema(t *testing.T) {
	server, client := migrated(t, nil)
	ask(t, server, "INSERT INTO vigie.schema_migrations (version, name, checksum) VALUES (9999, 'x', 'x')")
	if _, err := client.Migrate(t.Context(), false); !errors.Is(err, clickhouse.ErrNotMigrated) {
		t.Errorf("Migrate: got %v, want ErrNotMigrated", err)
	}
	if err := client.Ready(t.Context()); err != nil {
		t.Errorf("Ready: got %v, want nil, as a rolling upgrade migrates first", err)
	}
}

// The embedded engine cannot run replicated tables, so what a cluster gets is only parsed here.
func TestStatementsForClusterAndStockServerParse(t *testing.T) {
	server, _ := newServer(t, nil)
	statements := mustStatements(t,
		migrations.Target{Cluster: "prod", Owner: clickhouse.UserService, ViewOwner: clickhouse.UserViewOwner})
	for _, cluster := range []string{"", "prod"} {
		sql, err := clickhouse.AccessSQL(access(), cluster)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(sql) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "--") {
				statements = append(statements, strings.TrimSuffix(line, ";"))
			}
		}
	}
	for _, statement := range statements {
		ask(t, server, "EXPLAIN AST "+statement)
		if strings.HasPrefix(statement, "CREATE") && strings.Contains(statement, "MergeTree(") &&
			!strings.Contains(statement, "Replicated") {
			t.Errorf("got a table that is not replicated: %s", statement)
		}
	}
}

func mustStatements(t *testing.T, target migrations.Target) (all []string) {
	t.Helper()
	for _, file := range migrations.All() {
		statements, err := file.Statements(target)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, statements...)
	}
	return all
}
