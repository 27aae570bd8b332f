package testkit_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/vigie-io/vigie/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func query(server *testkit.Server, sql string) (string, error) {
	response, err := http.Post(server.URL(), "text/plain", strings.NewReader(sql))
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return "", err
	}
	text := strings.TrimSpace(string(body))
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s: %s", sql, response.Status, text)
	}
	return text, nil
}

func TestClickHouseKeepsDataOverKillAndRestart(t *testing.T) {
	server := testkit.ClickHouse(t, nil)
	for _, sql := range []string{
		"CREATE TABLE t (n UInt64) ENGINE = MergeTree ORDER BY n SETTINGS non_replicated_deduplication_window = 100",
		"INSERT INTO t SELECT number FROM numbers(1000)",
	} {
		if _, err := query(server, sql); err != nil {
			t.Fatal(err)
		}
	}
	check := func(after string) {
		t.Helper()
		got, err := query(server, "SELECT sum(n) FROM t")
		if err != nil || got != "499500" {
			t.Fatalf("sum after %s: got %q, %v, want 499500", after, got, err)
		}
	}
	check("insert")
	server.Kill()
	if _, err := query(server, "SELECT 1"); err == nil {
		t.Fatal("query to a killed server: got an answer, want an error")
	}
	server.Restart()
	check("kill")
	server.Restart()
	check("restart")
}
