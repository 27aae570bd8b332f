package app

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/vigie-io/vigie/internal/config"
)

// printTable tells a newcomer what runs where, with which key, and what to type next.
func printTable(out io.Writer, cfg config.Config, keys []devKey) {
	query, ingest := "http://"+dialable(cfg.Query.Listen), "http://"+dialable(cfg.Ingest.Listen)
	rows := [][2]string{
		{"PromQL (Grafana: Prometheus)", query},
		{"SQL (ClickHouse over HTTP)", query + "/sql"},
		{"Events in", ingest + "/v1/events/{metrics,spans,logs}"},
		{"OTLP/HTTP in", ingest + "  (/v1/metrics, /v1/traces, /v1/logs)"},
		{"Prometheus remote write in", ingest + "/api/v1/write"},
		{"Kafka", cfg.Dev.KafkaListen + "  (topics vigie.metrics.v1, vigie.spans.v1, vigie.logs.v1)"},
		{"Stream: tasks, lag, sink", "http://" + dialable(cfg.Stream.Listen) + "/topology"},
		{"Stream: metrics", "http://" + dialable(cfg.Stream.Listen) + "/metrics"},
		{"ClickHouse", "HTTP " + cfg.Dev.ClickHouseHTTP + ", native " + cfg.Dev.ClickHouseNative},
		{"Data and keys", cfg.DataDir + ", " + cfg.DataDir + "/keys.env"},
	}
	var b strings.Builder
	b.WriteString("\nVigie is ready.\n\n")
	for _, row := range rows {
		fmt.Fprintf(&b, "  %-30s %s\n", row[0], row[1])
	}
	b.WriteString("\n")
	for _, key := range keys {
		fmt.Fprintf(&b, "  %-30s $%s\n", "API key of tenant "+string(key.tenant), keyVariable(key.tenant))
	}
	if cfg.Auth.LoopbackTenant != "" {
		fmt.Fprintf(&b, "  %-30s requests from this machine without a key are tenant %s\n", "No key", cfg.Auth.LoopbackTenant)
	}
	fmt.Fprintf(&b, `
Try, in another shell. SQL sees an event at once, PromQL when its window of 10 s is complete, after some 20 s:

  . %s/keys.env
  curl -s %s/api/v1/query --data-urlencode 'query=sum by (service) (rate(span_duration_seconds_count[1m]))'
  curl -s %s/sql -d "SELECT service, sum(count) AS n, round(1000 * p99(sketch), 1) AS p99_ms FROM api.metrics_10s
    WHERE metric = 'span_duration_seconds' GROUP BY service ORDER BY n DESC FORMAT PrettyCompact"
  curl -s -H "Authorization: Bearer $VIGIE_KEY_ACME" %s/v1/events/metrics \
    -d '{"name":"checkout_seconds","value":0.123,"labels":{"service":"checkout"}}'

In this directory verify, audit, backfill and dlq of %[5]s know these servers. To count again what came in:

  %[5]s verify -from vigie.metrics.v1 -table all

Ctrl-C ends everything; the data stays in %[6]s.
`, dotQuote(cfg.DataDir), query, query, ingest, shellQuote(os.Args[0]), cfg.DataDir)
	_, _ = io.WriteString(out, b.String())
}

// dotQuote is shellQuote for `.`, which needs a slash to read a file of this directory.
func dotQuote(path string) string {
	if !strings.Contains(path, "/") {
		path = "./" + path
	}
	return shellQuote(path)
}

// shellQuote protects a path with a space or a quote.
func shellQuote(path string) string {
	if !strings.ContainsAny(path, " '\"$`\\*?[](){}<>|&;#~") {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}
