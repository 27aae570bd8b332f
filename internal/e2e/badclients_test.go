package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/testkit"
)

// endless is an answer of gigabytes, within the limits of a tenant.
var endless = url.QueryEscape("SELECT repeat(toString(number), 200) FROM numbers(900000)") + "&max_block_size=1000&max_threads=1"

// TestBadClients lets clients of /api/v1 and /sql behave as none should: their queries end in ClickHouse too, and a
// neighbour is answered all the while.
func TestBadClients(t *testing.T) {
	in := install(t, testkit.Kafka(t), []string{"query"})
	answered := func(what string) {
		t.Helper()
		begun := time.Now()
		in.sql("demo", "SELECT count() FROM api.limits")
		if status, answer := in.tryPromQL("demo", "1+1", time.Now().Unix()); status != http.StatusOK {
			t.Errorf("%s: a neighbour got %d %s", what, status, answer)
		}
		if took := time.Since(begun); took > 10*time.Second {
			t.Errorf("%s: a neighbour waited %s", what, took)
		}
	}
	t.Run("connections that idle", func(t *testing.T) {
		for i := range 200 {
			connection := in.dial(t)
			if i%2 == 0 { // half of them in the middle of a header
				_, _ = io.WriteString(connection, "GET /api/v1/query?query=1 HTTP/1.1\r\nHost: x\r\nX-Slow: ")
			}
		}
		answered("200 idle connections")
	})
	t.Run("an upload that drips", func(t *testing.T) {
		for _, path := range []string{"/api/v1/query", "/sql"} {
			connection := in.dial(t)
			fmt.Fprintf(connection, "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: 1000\r\n\r\nquery", path, in.keys["acme"])
			answered("an upload that drips")
		}
	})

	// Reading series takes minutes from here on.
	in.service("RENAME TABLE vigie.series TO vigie.series_stored")
	in.service("CREATE VIEW vigie.series AS SELECT * FROM vigie.series_stored WHERE (SELECT sum(sipHash64(number)) FROM numbers(1000000000000)) >= 0")
	slow := map[string]string{
		"PromQL": "/api/v1/query?query=" + url.QueryEscape(`count({__name__=~".+"})`),
		"labels": "/api/v1/labels",
		"SQL":    "/sql?query=" + url.QueryEscape("SELECT sum(length(SHA256(toString(number)))) FROM numbers(100000000)"),
	}
	for name, path := range slow {
		t.Run("a client that goes: "+name, func(t *testing.T) {
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			gone := in.ask(ctx, "acme", path)
			in.awaitRunning(t, true)
			leave()
			if got := <-gone; !errors.Is(got.err, context.Canceled) {
				t.Errorf("got %d %s %v, want nothing", got.status, got.body, got.err)
			}
			in.awaitRunning(t, false)
		})
	}
	t.Run("a client that stops reading", func(t *testing.T) {
		stopped := in.beginSQL(t)
		answered("a client that does not read")
		_ = stopped.Body.Close()
		in.awaitRunning(t, false)
	})
	t.Run("ClickHouse goes", func(t *testing.T) {
		promql := in.ask(t.Context(), "acme", slow["PromQL"])
		sql := in.beginSQL(t)
		in.awaitRunning(t, true)
		in.clickhouse.Kill()
		if got := <-promql; got.status != http.StatusInternalServerError || !strings.Contains(got.body, `"errorType":"internal"`) || strings.Contains(got.body, "127.0.0.1") {
			t.Errorf("PromQL: got %d %s %v, want an error without addresses", got.status, got.body, got.err)
		}
		if n, err := io.Copy(io.Discard, sql.Body); err == nil {
			t.Errorf("SQL: got a whole answer of %d bytes, want it broken off", n)
		}
		if status, answer := in.trySQL("acme", "SELECT 1"); status != http.StatusBadGateway || !strings.Contains(answer, "Code: 210.") || strings.Contains(answer, "127.0.0.1") {
			t.Errorf("without ClickHouse: got %d %s", status, answer)
		}
		in.clickhouse.Restart()
		testkit.Eventually(t, time.Minute, func() error {
			if status, answer := in.trySQL("acme", "SELECT 1"); status != http.StatusOK {
				return errors.New(answer)
			}
			return nil
		})
	})
	if n := metric(t, in.queryURL, "vigie_query_requests_running"); n > 2 { // the uploads that drip
		t.Errorf("got %v requests still running, want none but the uploads", n)
	}
}

func (in *installation) dial(t *testing.T) net.Conn {
	t.Helper()
	connection, err := net.Dial("tcp", strings.TrimPrefix(in.queryURL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	return connection
}

// beginSQL reads the beginning of a long answer, on a connection of its own.
func (in *installation) beginSQL(t *testing.T) *http.Response {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, in.queryURL+"/sql?query="+endless, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+in.keys["acme"])
	response, err := (&http.Transport{}).RoundTrip(request)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("got %v %v, want the beginning of an answer", response, err)
	}
	t.Cleanup(func() { _ = response.Body.Close() })
	return response
}

// reply is what became of a request.
type reply struct {
	status int
	body   string // its beginning
	err    error
}

// ask sends a request that may take long.
func (in *installation) ask(ctx context.Context, tenant, path string) <-chan reply {
	out := make(chan reply, 1)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, in.queryURL+path, nil)
	if err != nil {
		in.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+in.keys[tenant])
	go func() {
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			out <- reply{err: err}
			return
		}
		defer response.Body.Close()
		beginning, err := io.ReadAll(io.LimitReader(response.Body, 2000))
		if err == nil {
			_, err = io.Copy(io.Discard, response.Body)
		}
		out <- reply{response.StatusCode, string(beginning), err}
	}()
	return out
}

// awaitRunning waits until ClickHouse runs a query over many numbers, or none any more.
func (in *installation) awaitRunning(t *testing.T, want bool) {
	t.Helper()
	testkit.Eventually(t, 30*time.Second, func() error {
		got := in.service("SELECT count() FROM system.processes WHERE (query LIKE '%numbers(1%' OR query LIKE '%vigie.series%') AND query NOT LIKE '%processes%'")
		if running := strings.TrimSpace(got) != "0"; running != want {
			return fmt.Errorf("got %s queries running", got)
		}
		return nil
	})
}
