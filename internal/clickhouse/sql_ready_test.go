package clickhouse_test

import (
	"strings"
	"testing"
)

// A wrong password of the user for SQL shows when query starts, and not when the first tenant asks.
func TestSQLReady(t *testing.T) {
	server, client := newServer(t, nil)
	if err := client.SQLReady(t.Context()); err != nil {
		t.Errorf("got %v, want it ready", err)
	}
	wrong := access()
	wrong.SQLPassword = "another-password-1"
	if err := connect(t, server, wrong).SQLReady(t.Context()); err == nil || !strings.Contains(err.Error(), "clickhouse.sql_user") {
		t.Errorf("got %v, want an error that names clickhouse.sql_user", err)
	}
}
