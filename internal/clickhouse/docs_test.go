package clickhouse_test

import (
	"os"
	"regexp"
	"testing"
)

// Every statement of docs/sql.md runs as a tenant.
func TestDocumentedStatements(t *testing.T) {
	text, err := os.ReadFile("../../docs/sql.md")
	if err != nil {
		t.Fatal(err)
	}
	_, client := migrated(t, nil)
	statements := regexp.MustCompile("(?s)```sql\n(.*?)```").FindAllSubmatch(text, -1)
	if len(statements) < 5 {
		t.Fatalf("got %d statements, want those of the page", len(statements))
	}
	for _, statement := range statements {
		mustTenantSQL(t, client, "acme", string(statement[1]))
	}
}
