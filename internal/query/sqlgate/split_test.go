package sqlgate_test

import (
	"slices"
	"testing"

	"github.com/vigie-io/vigie/internal/query/sqlgate"
)

func TestStatements(t *testing.T) {
	f := func(script string, want ...string) {
		t.Helper()
		if got := sqlgate.Statements(script); !slices.Equal(got, want) {
			t.Errorf("%q: got %q, want %q", script, got, want)
		}
	}
	f("")
	f(" ;; \n;")
	f("SELECT 1", "SELECT 1")
	f("SELECT 1;", "SELECT 1")
	f("SELECT 1; SELECT 2;\nSELECT\n3\n", "SELECT 1", "SELECT 2", "SELECT\n3")
	f("\ufeffSELECT 1; SELECT 2", "SELECT 1", "SELECT 2")
	// A semicolon that is none.
	f(`SELECT ';', 'it''s;', '\';', ";", `+"`;`"+`; SELECT 2`, `SELECT ';', 'it''s;', '\';', ";", `+"`;`", "SELECT 2")
	f("SELECT 1 -- one;\n, 2 /* two; */; SELECT $x$;$x$", "SELECT 1 -- one;\n, 2 /* two; */", "SELECT $x$;$x$")
	// A comment belongs to what follows it, and is no statement by itself.
	f("-- first\nSELECT 1; -- done\n", "-- first\nSELECT 1")
	f("/* nothing */")
	// What cannot be read is the server's to refuse.
	f("SELECT 1; SELECT 'open; SELECT 2", "SELECT 1", "SELECT 'open; SELECT 2")
	f("SELECT 1 // one; SELECT 2", "SELECT 1 // one; SELECT 2")
	f("'", "'")
}
