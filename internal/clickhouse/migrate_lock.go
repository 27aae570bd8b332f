package clickhouse

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/vigie-io/vigie/internal/pause"
)

// migrationPatience is how long the holder of the lock may take over one file before others take him for dead.
const migrationPatience = time.Minute

// migrationLock is held by one process at a time, with its table. Two that replace and alter one view at the same time
// can leave ClickHouse with metadata that it refuses ever after.
//
// To create a table that exists fails. Its rows say when the holder was last at work, its comment who that is. Who
// takes over from a dead one renames his table after him and makes one: of two that found him dead, the second finds
// that name taken, so that it cannot rename the table that the first has made since.
type migrationLock struct {
	client *Client
	holder string
	over   string // table of the one that it was taken over from
}

const migrationTable = "vigie.migrating"

// lockMigrations waits until no other process migrates, and keeps others out until release.
func (c *Client) lockMigrations(ctx context.Context, patience time.Duration) (*migrationLock, error) {
	if err := c.exec(ctx, "CREATE DATABASE IF NOT EXISTS vigie"); err != nil {
		return nil, fmt.Errorf("lock migrations: %w", err)
	}
	l := &migrationLock{client: c, holder: strings.ToLower(rand.Text())}
	for {
		err := c.exec(ctx, "CREATE TABLE "+migrationTable+" (since DateTime) ENGINE = Memory COMMENT '"+l.holder+"'")
		if err == nil {
			if err := l.alive(ctx); err != nil {
				return nil, err
			}
			return l, nil
		}
		if !isCode(err, codeTableExists) {
			return nil, fmt.Errorf("lock migrations: %w", err)
		}
		if err := l.takeOver(ctx, patience); err != nil {
			return nil, err
		}
		if err := pause.For(ctx, 200*time.Millisecond); err != nil {
			return nil, fmt.Errorf("wait for another process that migrates: %w", err)
		}
	}
}

// alive tells others that the holder is at work. It fails when one of them has taken him for dead.
func (l *migrationLock) alive(ctx context.Context) error {
	err := l.client.exec(ctx, "INSERT INTO "+migrationTable+
		" SELECT if(throwIf(count() = 0, 'another process migrates now'), now(), now())"+
		" FROM system.tables WHERE database = 'vigie' AND name = 'migrating' AND comment = '"+l.holder+"'")
	if err != nil {
		return fmt.Errorf("keep the lock of migrations: %w", err)
	}
	return nil
}

// release lets others in, and does nothing when they are already. When it fails they wait for their patience.
func (l *migrationLock) release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if l.alive(ctx) != nil {
		return
	}
	_ = l.client.exec(ctx, "DROP TABLE IF EXISTS "+migrationTable+" SYNC")
	if l.over != "" {
		_ = l.client.exec(ctx, "DROP TABLE IF EXISTS "+l.over+" SYNC")
	}
}

// takeOver puts the lock of a process aside that has not been at work for longer than it may.
func (l *migrationLock) takeOver(ctx context.Context, patience time.Duration) error {
	answer, err := l.client.rows(ctx, "SELECT dateDiff('second', greatest("+
		"(SELECT max(since) FROM "+migrationTable+"), metadata_modification_time), now()), comment"+
		" FROM system.tables WHERE database = 'vigie' AND name = 'migrating'")
	var exception *Error
	if errors.As(err, &exception) {
		return nil // it is gone
	} else if err != nil {
		return fmt.Errorf("ask who migrates: %w", err)
	}
	text, holder, _ := strings.Cut(strings.TrimSpace(answer), "\t")
	if age, err := strconv.Atoi(text); err != nil || age <= int(patience.Seconds()) {
		return nil // it is gone, or may have just been made
	}
	aside := migrationTable + "_" + holder
	if err := l.client.exec(ctx, "RENAME TABLE "+migrationTable+" TO "+aside); err == nil {
		l.over = aside
	} else if !isCode(err, codeTableExists) && !isCode(err, codeUnknownTable) {
		return fmt.Errorf("take over from a process that migrated: %w", err)
	}
	return nil
}

func isCode(err error, code int) bool {
	var exception *Error
	return errors.As(err, &exception) && exception.Code == code
}
