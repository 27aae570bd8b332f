package clickhouse_test

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	driver "github.com/ClickHouse/clickhouse-go/v2"

	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/testkit"
)

// open connects as tenant acme with clickhouse-go in HTTP mode.
func open(t testing.TB, server *httptest.Server, method driver.CompressionMethod, settings driver.Settings) driver.Conn {
	t.Helper()
	conn, err := driver.Open(&driver.Options{
		Protocol: driver.HTTP, Addr: []string{strings.TrimPrefix(server.URL, "http://")}, HttpUrlPath: "/sql",
		Auth:        driver.Auth{Database: "api", Username: "default", Password: "k-acme"},
		Compression: &driver.Compression{Method: method}, Settings: settings, DialTimeout: 10 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func TestClickHouseGo(t *testing.T) {
	server, client := migrated(t, nil)
	twoTenants(t, server, client)
	http := gate(t, client, nil)
	for _, method := range []driver.CompressionMethod{
		driver.CompressionNone, driver.CompressionGZIP, driver.CompressionDeflate, driver.CompressionBrotli,
		driver.CompressionLZ4, driver.CompressionZSTD,
	} {
		t.Run(method.String(), func(t *testing.T) {
			conn := open(t, http, method, driver.Settings{"max_execution_time": 20})
			if err := conn.Ping(t.Context()); err != nil {
				t.Fatal(err)
			}
			version, err := conn.ServerVersion()
			if err != nil || version.Version.Major < 26 {
				t.Errorf("got server %v (%v), want 26 or later", version, err)
			}
			readTypes(t, conn)
			readViews(t, conn)
			readErrors(t, conn)
		})
	}
}

// readTypes reads every kind of type that a statement can make.
func readTypes(t *testing.T, conn driver.Conn) {
	t.Helper()
	rows, err := conn.Query(t.Context(), `SELECT
		toUInt8(1), toInt64(-2), toUInt128(3), toFloat64(1.5), toDecimal64('2.50', 2), 'text', toFixedString('abc', 3), toDate('2026-11-26'),
		toDateTime('2026-11-26 01:02:03', 'UTC'), toDateTime64('2026-11-26 01:02:03.456', 3, 'UTC'), toUUID('61f0c404-5cb3-11e7-907b-a6006ad3dba0'),
		toIPv4('10.1.2.3'), true, [1, 2, 3], (1, 'a'), map('k', 'v'), CAST(NULL, 'Nullable(String)'), toLowCardinality('low'), CAST('a', 'Enum8(\'a\' = 1)'),
		arrayJoin([10, 20, 30]), {n:UInt32}, {s:String}, '{"a":1}'::JSON`,
		driver.Named("n", "42"), driver.Named("s", "it's"))
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	n := 0
	for rows.Next() {
		n++
		values := make([]any, len(rows.ColumnTypes()))
		for i, column := range rows.ColumnTypes() {
			values[i] = reflect.New(column.ScanType()).Interface()
		}
		if err := rows.Scan(values...); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(read(values[5]), read(values[20]), read(values[21])); got != "text42it's" {
			t.Errorf("got %s, want the text and both parameters", got)
		}
	}
	if rows.Err() != nil || n != 3 {
		t.Errorf("got %d rows (%v), want 3", n, rows.Err())
	}
}

func read(pointer any) any { return reflect.ValueOf(pointer).Elem().Interface() }

func readViews(t *testing.T, conn driver.Conn) {
	t.Helper()
	var tenants []string
	if err := conn.QueryRow(t.Context(),
		"SELECT groupUniqArray(tenant) FROM metrics_10s WHERE metric = {m:String} AND p99(sketch) >= 0 GROUP BY ALL",
		driver.Named("m", "apple")).Scan(&tenants); err == nil {
		t.Error("an aggregate in WHERE: got no error")
	}
	var labels map[string]string
	var p99, last *float64
	if err := conn.QueryRow(t.Context(),
		"SELECT any(m.labels), p99(sketch), any(last) FROM metrics_10s AS m WHERE metric = {m:String}",
		driver.Named("m", "apple")).Scan(&labels, &p99, &last); err != nil {
		t.Fatal(err)
	}
	if labels["apple"] != "apple" || p99 == nil || *p99 < 4.9 || *p99 > 5.1 || last == nil || *last != 5 {
		t.Errorf("got %v, %v, %v, want those of apple", labels, p99, last)
	}
	n := 0
	rows, err := conn.Query(t.Context(), "SELECT number, toString(number) FROM numbers(200000)") // many blocks
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		n++
	}
	if n != 200000 || rows.Err() != nil {
		t.Errorf("got %d rows (%v), want 200000", n, rows.Err())
	}
}

func readErrors(t *testing.T, conn driver.Conn) {
	t.Helper()
	f := func(statement string, code int32) {
		t.Helper()
		err := conn.QueryRow(t.Context(), statement).Err()
		var exception *driver.Exception
		if !errors.As(err, &exception) || exception.Code != code {
			t.Errorf("%s: got %v, want an exception of code %d", statement, err, code)
		}
	}
	f("SELECT nothing FROM series", 47)
	f("SELECT 1 FROM nowhere", 60)
	f("SELECT 1 FROM vigie.series", 497)
	f("SELECT file('/etc/passwd')", 497)
	f("INSERT INTO series VALUES (1)", 164)
	f("SELECT (SELECT 1 SETTINGS max_threads = 1)", 164)
	f("SELECT toUInt8('x')", 6)
	f("SELECT ", 62)
	err := conn.QueryRow(t.Context(), "SELECT 1 FROM vigie.series").Err()
	if text := fmt.Sprint(err); strings.Contains(text, clickhouse.UserSQL) {
		t.Errorf("got %s, want it without the name of the server's user", text)
	}
	// In the middle of an answer.
	rows, err := conn.Query(t.Context(), "SELECT throwIf(number = 900000, 'far in') FROM numbers(950000) SETTINGS max_block_size = 8192")
	if err == nil {
		for rows.Next() {
		}
		err = rows.Err()
		_ = rows.Close()
	}
	if !strings.Contains(fmt.Sprint(err), "far in") {
		t.Errorf("got %v, want the exception in the middle", err)
	}
}

// Nobody waits for a query whose client has gone: the server ends it.
func TestCancelledQueriesEnd(t *testing.T) {
	server, client := migrated(t, nil)
	conn := open(t, gate(t, client, nil), driver.CompressionLZ4, nil)
	running := func() string {
		return ask(t, server, "SELECT count() FROM system.processes WHERE user = '"+clickhouse.UserSQL+"'")
	}
	// One that writes nothing for long, and one that writes without end.
	for _, statement := range []string{
		"SELECT sum(sleepEachRow(0.1)) FROM numbers(200) SETTINGS max_block_size = 1, max_execution_time = 25",
		"SELECT number, sleepEachRow(0.001) FROM numbers(20000) SETTINGS max_block_size = 10",
	} {
		ctx, cancel := context.WithCancel(driver.Context(t.Context(), driver.WithQueryID("mine")))
		done := make(chan error, 1)
		go func() {
			rows, err := conn.Query(ctx, statement)
			if err == nil {
				for rows.Next() {
				}
				err = rows.Err()
			}
			done <- err
		}()
		testkit.Eventually(t, 20*time.Second, func() error {
			if got := running(); got != "1" {
				return fmt.Errorf("got %s queries running, want 1", got)
			}
			return nil
		})
		cancel()
		if err := <-done; err == nil {
			t.Errorf("%s: got no error after the cancellation", statement)
		}
		testkit.Eventually(t, 15*time.Second, func() error {
			if got := running(); got != "0" {
				return fmt.Errorf("%s: still runs after its client has gone", statement)
			}
			return nil
		})
	}
}
