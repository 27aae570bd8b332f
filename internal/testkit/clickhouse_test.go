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

// Servers that begin with the same have each a copy, which was made once.
func TestPrepared(t *testing.T) {
	var prepared testkit.Prepared
	made := 0
	start := func() *testkit.Server {
		return prepared.ClickHouse(t, nil, func(s *testkit.Server) {
			made++
			for _, sql := range []string{"CREATE TABLE t (n UInt64) ENGINE = MergeTree ORDER BY n", "INSERT INTO t VALUES (1)"} {
				if _, err := query(s, sql); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
	one, two := start(), start()
	if _, err := query(one, "INSERT INTO t VALUES (2)"); err != nil {
		t.Fatal(err)
	}
	for server, want := range map[*testkit.Server]string{one: "3", two: "1", start(): "1"} {
		if got, err := query(server, "SELECT sum(n) FROM t"); err != nil || got != want {
			t.Errorf("got %s, %v, want %s", got, err, want)
		}
	}
	if made != 1 {
		t.Errorf("got %d preparations, want one", made)
	}
}
