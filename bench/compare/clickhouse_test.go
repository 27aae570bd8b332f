package compare

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/vigie-io/vigie/internal/testkit"
)

// clickhouseSketches are the aggregates of the two peers in ClickHouse.
var clickhouseSketches = map[string]string{"clickhouse": "quantilesDD(0.0054, 0.5, 0.95, 0.99)",
	"clickhouse-tdigest": "quantilesTDigest(0.5, 0.95, 0.99)"}

// clickhouse is ClickHouse's own Kafka table engine, with a materialized view that aggregates into ten seconds: blocks
// as large as they get, for that costs least. The processor time is that of the server until its table counts every
// event.
func (b *bench) clickhouse(t *testing.T, r *Run) {
	t.Helper()
	server := testkit.ClickHouse(t, nil)
	sketch := clickhouseSketches[r.Peer]
	query(t, server.URL(), fmt.Sprintf(`CREATE TABLE windows (tenant LowCardinality(String), name LowCardinality(String), labels Map(LowCardinality(String), String), start DateTime,
		count SimpleAggregateFunction(sum, UInt64), sum SimpleAggregateFunction(sum, Float64), min SimpleAggregateFunction(min, Float64), max SimpleAggregateFunction(max, Float64),
		sketch AggregateFunction(%s, Float64))
		ENGINE = AggregatingMergeTree ORDER BY (tenant, name, labels, start)`, sketch))
	query(t, server.URL(), fmt.Sprintf(`CREATE TABLE queue (tenant LowCardinality(String), time UInt64, name LowCardinality(String), value Float64, labels Map(LowCardinality(String), String))
		ENGINE = Kafka SETTINGS kafka_broker_list = '%s', kafka_topic_list = '%s', kafka_group_name = '%s.clickhouse.%d', kafka_format = 'JSONEachRow',
		kafka_max_block_size = 1048576, kafka_skip_broken_messages = 1048576`, b.broker.Addr, b.topic, b.topic, time.Now().UnixNano()))
	idle := cpuOf(t, server.Pid())
	began := time.Now()
	name, parameters, _ := strings.Cut(sketch, "(")
	query(t, server.URL(), fmt.Sprintf(`CREATE MATERIALIZED VIEW taken TO windows AS
		SELECT tenant, name, labels, toStartOfInterval(toDateTime(intDiv(time, 1000)), INTERVAL 10 SECOND) AS start,
			count() AS count, sum(value) AS sum, min(value) AS min, max(value) AS max, %sState(%s(value) AS sketch
		FROM queue WHERE name != '' GROUP BY tenant, name, labels, start`, name, parameters))
	want := b.log.Events - b.log.Malformed
	got := 0
	for deadline := began.Add(5 * time.Minute); got < want; time.Sleep(100 * time.Millisecond) {
		if got = atoi(t, query(t, server.URL(), "SELECT sum(count) FROM windows")); time.Now().After(deadline) {
			t.Fatalf("ClickHouse's Kafka engine counts %d events, want %d", got, want)
		}
	}
	if got != want {
		t.Fatalf("ClickHouse's Kafka engine counts %d events, want %d", got, want)
	}
	r.Wall, r.CPU, r.Resident = time.Since(began).Seconds(), cpuOf(t, server.Pid())-idle, residentOf(t, server.Pid())
	r.Events, r.Results = b.log.Events, atoi(t, query(t, server.URL(), "SELECT count() FROM windows FINAL"))
	query(t, server.URL(), "DROP TABLE taken")
}
