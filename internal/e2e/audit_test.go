package e2e

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/vigie-io/vigie/internal/clickhouse"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/testkit"
	"github.com/vigie-io/vigie/pkg/series"
	"github.com/vigie-io/vigie/pkg/sketches"
)

// TestSinkRestoresALostBlock takes the part of a block for all tiers out of two tables, and that of one of merged rows out of
// the one that they fill, as a kill of ClickHouse does between a block's token and its part: stream, when it is started
// again, finds that and puts the rows back, once.
func TestSinkRestoresALostBlock(t *testing.T) {
	in := install(t, testkit.Kafka(t), []string{"ingest", "stream"}, "VIGIE_STREAM_WATERMARK_DELAY=0s", "VIGIE_STREAM_COARSE_INTERVAL=1s")
	tables := []string{"rollups_10s", "rollups_1m"}
	for _, table := range tables {
		in.service("ALTER TABLE vigie." + table + " MODIFY SETTING max_bytes_to_merge_at_max_space_in_pool = 1, max_bytes_to_merge_at_min_space_in_pool = 1")
	}
	pane := time.Now().Unix()/60*60 - 120
	counts := func(table string) string {
		return in.service("SELECT series_id, sum(r.count), round(sum(r.sum), 6) FROM vigie." + table + " AS r WHERE metric = 'lost' GROUP BY series_id ORDER BY series_id")
	}
	for n := range 3 { // three epochs, three parts
		var body strings.Builder
		for i := range 20 {
			fmt.Fprintf(&body, `{"name":"lost","value":%d,"time":%d,"labels":{"i":"%d"}}`+"\n", n*i+1, pane*1000+int64(i), i%(7+n))
		}
		if status, answer := in.post("acme", "/v1/events/metrics", body.String(), http.Header{"Content-Type": {"application/x-ndjson"}}); status != http.StatusOK {
			t.Fatalf("post: %d %s", status, answer)
		}
		for _, table := range tables {
			in.awaitRows("vigie."+table, fmt.Sprint(20*(n+1)))
		}
	}
	in.produceForAllTiers(pane)
	lost := map[string]int{"rollups_10s": 1, "rollups_1m": 2} // parts, the newest
	before, paths := map[string]string{}, []string{}
	for _, table := range tables {
		in.awaitRows("vigie."+table, "80")
		before[table] = counts(table)
		paths = append(paths, strings.Fields(in.service(fmt.Sprintf(
			"SELECT path FROM system.parts WHERE database = 'vigie' AND active AND table = '%s' ORDER BY max_block_number DESC LIMIT %d",
			table, lost[table])))...)
	}
	in.stream.kill()
	in.clickhouse.Kill()
	for _, path := range paths {
		if !strings.Contains(path, "/clickhouse/") {
			t.Fatalf("path of a part: got %q", path)
		}
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
	in.clickhouse.Restart()
	for _, table := range tables {
		if counts(table) == before[table] {
			t.Fatalf("%s: the part came back by itself: the fault was not injected", table)
		}
	}
	in.stream.start()
	in.awaitReady(in.streamURL)
	for _, table := range tables {
		testkit.Eventually(t, 150*time.Second, func() error {
			if got := counts(table); got != before[table] {
				return fmt.Errorf("%s: got %s, want the rows again: %s", table, got, before[table])
			}
			return nil
		})
		testkit.Eventually(t, 30*time.Second, func() error {
			if got := in.service("SELECT count() FROM vigie.stored WHERE about = '" + table + "'"); got == "0" {
				return fmt.Errorf("%s: nothing noted as known yet", table)
			}
			return nil
		})
		audited := func(name string) int {
			return int(metric(t, in.streamURL, "vigie_sink_audit_"+name, `table="`+table+`"`))
		}
		// Both sinks look at the wider table: who finds the other at work comes again.
		testkit.Eventually(t, 90*time.Second, func() error {
			if got := audited("unrepaired"); got != 0 {
				return fmt.Errorf("%s: got %d blocks unrepaired, want none", table, got)
			}
			return nil
		})
		if got := audited("repaired_total"); got != lost[table] {
			t.Errorf("%s: got %d blocks repaired, want %d", table, got, lost[table])
		}
		if got := audited("differences_total"); got < lost[table] {
			t.Errorf("%s: got %d blocks found missing, want %d", table, got, lost[table])
		}
	}
	if got := in.vigie("audit", "results", "-since", "10m"); !strings.Contains(got, "nothing is missing") {
		t.Errorf("vigie audit results afterwards:\n%s", got)
	}
	for _, table := range tables {
		if got := counts(table); got != before[table] {
			t.Errorf("%s afterwards: got %s, want the rows once: %s", table, got, before[table])
		}
	}
}

// produceForAllTiers writes a result record as a worker does that is behind: 20 events in four series.
func (in *installation) produceForAllTiers(pane int64) {
	in.t.Helper()
	rows := &pipeline.Rollups{}
	for i := range 4 {
		var sketch sketches.Sketch
		sketch.AddN(1, 5)
		rows.Grain, rows.Tenant, rows.Metric = append(rows.Grain, pipeline.GrainSeries), append(rows.Tenant, "acme"), append(rows.Metric, "lost")
		rows.Service, rows.Series = append(rows.Service, ""), append(rows.Series, series.ID{Lo: uint64(i + 1)})
		rows.Pane, rows.Count, rows.Sum = append(rows.Pane, uint32(pane)), append(rows.Count, 5), append(rows.Sum, 5)
		rows.Min, rows.Max = append(rows.Min, 1), append(rows.Max, 1)
		rows.LastTime, rows.Last, rows.LastHist = append(rows.LastTime, 0), append(rows.Last, 0), append(rows.LastHist, "")
		rows.Sketch = sketch.AppendDD(rows.Sketch)
	}
	block, err := clickhouse.Encoder{}.EncodeRollups(nil, rows)
	if err != nil {
		in.t.Fatal(err)
	}
	record := &kgo.Record{Topic: in.topic("results"), Value: block, Headers: []kgo.RecordHeader{
		{Key: pipeline.HeaderTable, Value: []byte(pipeline.TableRollups)},
		{Key: pipeline.HeaderFormat, Value: []byte(pipeline.FormatNative)},
		{Key: pipeline.HeaderRows, Value: []byte("4")},
	}}
	if err := in.client(in.t).ProduceSync(in.t.Context(), record).FirstErr(); err != nil {
		in.t.Fatal(err)
	}
}

// awaitRows waits until so many events of the test are in a table.
func (in *installation) awaitRows(table, want string) {
	in.t.Helper()
	testkit.Eventually(in.t, 60*time.Second, func() error {
		if got := in.service("SELECT sum(count) FROM " + table + " WHERE metric = 'lost'"); got != want {
			return fmt.Errorf("got %s events in %s, want %s", got, table, want)
		}
		return nil
	})
}

// service runs a statement as Vigie's own user.
func (in *installation) service(statement string) string {
	in.t.Helper()
	header := http.Header{"X-ClickHouse-User": {clickhouse.UserService}}
	for _, entry := range in.env {
		if password, ok := strings.CutPrefix(entry, "VIGIE_CLICKHOUSE_PASSWORD="); ok {
			header.Set("X-ClickHouse-Key", password)
		}
	}
	status, answer, err := fetch(http.MethodPost, in.clickhouse.URL(), "", header, strings.NewReader(statement))
	if err != nil || status != http.StatusOK {
		in.t.Fatalf("%s: %d %s (%v)", statement, status, answer, err)
	}
	return strings.TrimSpace(answer)
}

// TestSinkGroupSetBack sets the sink's group back: what is inserted again is dropped as far as tables are sure to know
// it, and from further back the partitions wait, also after another start, until the group is set right.
func TestSinkGroupSetBack(t *testing.T) {
	in := install(t, testkit.Kafka(t), []string{"ingest", "stream"}, "VIGIE_KAFKA_SESSION_TIMEOUT=6s")
	post := func(want string) {
		t.Helper()
		if status, answer := in.post("acme", "/v1/events/metrics", `{"name":"lost","value":1}`, nil); status != http.StatusOK {
			t.Fatalf("post: %d %s", status, answer)
		}
		in.awaitRows("vigie.rollups_10s", want)
	}
	admin := kadm.NewClient(in.client(t))
	group, topic := in.group()+"-sink", in.topic("results")
	set := func(offsets kadm.Offsets) {
		t.Helper()
		testkit.Eventually(t, 60*time.Second, func() error {
			answer, err := admin.CommitOffsets(t.Context(), group, offsets)
			if err == nil {
				err = answer.Error()
			}
			return err
		})
	}
	start := func() {
		t.Helper()
		in.stream.start()
		in.awaitReady(in.streamURL)
	}
	post("1")
	post("2")
	if code := in.stream.interrupt(); code != 0 {
		t.Fatalf("stream: got exit code %d", code)
	}
	right, err := admin.FetchOffsets(t.Context(), group)
	if err != nil {
		t.Fatal(err)
	}
	back := kadm.Offsets{}
	right.Each(func(o kadm.OffsetResponse) { back.AddOffset(topic, o.Partition, 0, -1) })
	set(back)
	start()
	post("3")
	// The results partitions go on by themselves: the last block may be stored before the first ones come again.
	testkit.Eventually(t, 60*time.Second, func() error {
		if got := metric(t, in.streamURL, "vigie_sink_blocks_total", `table="ingest_panes"`); got != 3 {
			return fmt.Errorf("got %v blocks inserted, want the three from the start", got)
		}
		return nil
	})
	if code := in.stream.interrupt(); code != 0 {
		t.Fatalf("stream: got exit code %d", code)
	}
	if right, err = admin.FetchOffsets(t.Context(), group); err != nil {
		t.Fatal(err)
	}
	// As if what was noted at the time had expired, and the tokens been forgotten.
	details, err := admin.ListTopics(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	uuid := details[topic].ID
	id := base64.RawURLEncoding.EncodeToString(uuid[:])
	in.service("TRUNCATE TABLE vigie.stored")
	right.Each(func(o kadm.OffsetResponse) {
		in.service(fmt.Sprintf("INSERT INTO vigie.stored (topic, partition, about, next, at) SELECT '%s', %d, '', %d, now64(3)", id, o.Partition, o.At))
	})
	set(back)
	for range 2 {
		start()
		testkit.Eventually(t, 30*time.Second, func() error {
			if got := metric(t, in.streamURL, "vigie_sink_stalled_partitions"); got == 0 {
				return errors.New("no partition waits")
			}
			return nil
		})
		time.Sleep(3 * time.Second) // until what is stored would have been noted
		if got := metric(t, in.streamURL, "vigie_sink_blocks_total", `table="ingest_panes"`); got != 0 {
			t.Errorf("got %v blocks inserted, want none", got)
		}
		if code := in.stream.interrupt(); code != 0 {
			t.Fatalf("stream: got exit code %d", code)
		}
	}
	set(right.Offsets())
	start()
	post("4")
}

func (in *installation) group() string {
	for _, entry := range in.env {
		if group, ok := strings.CutPrefix(entry, "VIGIE_KAFKA_GROUP="); ok {
			return group
		}
	}
	in.t.Fatal("no group")
	return ""
}
