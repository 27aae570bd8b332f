package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/testkit"
	"github.com/vigie-io/vigie/pkg/events"
)

const hotWorkers = 4

// hotLoad is what TestHotTenant sends in one phase: acme ten times as much as each of the others.
type hotLoad struct {
	metric string
	others int // events of each
	want   map[string][2]int
}

func (l *hotLoad) send(in *installation) {
	const batch, rate = 500, 10
	random := uint64(1)
	l.want = map[string][2]int{}
	for _, tenant := range []string{"acme", "demo", "zeta"} {
		n := l.others
		if tenant == "acme" {
			n *= rate
		}
		for done := 0; done < n; done += batch {
			var body strings.Builder
			for range min(batch, n-done) {
				random = random*6364136223846793005 + 1442695040888963407
				series, value := random>>33%200, int(random>>45%100)
				fmt.Fprintf(&body, `{"name":"%s","value":%d,"labels":{"service":"s%d","i":"%d"}}`+"\n", l.metric, value, series%5, series)
				key := fmt.Sprintf("%s\t%d", tenant, series)
				l.want[key] = [2]int{l.want[key][0] + 1, l.want[key][1] + value}
			}
			if status, answer := in.post(tenant, "/v1/events/metrics", body.String(), http.Header{"Content-Type": {"application/x-ndjson"}}); status != http.StatusOK {
				in.t.Fatalf("post: %d %s", status, answer)
			}
		}
	}
}

// await waits until ClickHouse holds every series of every tenant as it was sent.
func (l *hotLoad) await(in *installation) {
	in.t.Helper()
	var lines []string
	for key, n := range l.want {
		lines = append(lines, fmt.Sprintf("%s\t%d\t%d", key, n[0], n[1]))
	}
	slices.Sort(lines)
	testkit.Eventually(in.t, 5*time.Minute, func() error {
		got := strings.Split(in.service(`SELECT r.tenant, s.labels['i'] AS i, sum(r.count), sum(r.sum) FROM vigie.rollups_10s AS r
			LEFT ANY JOIN (SELECT tenant, metric, series_id, any(labels) AS labels FROM vigie.series GROUP BY tenant, metric, series_id) AS s USING (tenant, metric, series_id)
			WHERE metric = '`+l.metric+`' GROUP BY r.tenant, i`), "\n")
		slices.Sort(got)
		if !slices.Equal(got, lines) {
			return fmt.Errorf("got %d series in ClickHouse that are not, or not yet, what was sent of %d", len(got), len(lines))
		}
		return nil
	})
}

// TestHotTenant has one tenant send ten times as much as each of the others, to eight partitions and four workers, as
// one key and then spread by `shards:`, changed while ingest runs. As one key it is the work of one task; spread, every
// task has a fair part of it. Every series of every tenant is exact either way. With VIGIE_FIGURES set it sends more,
// and measures how fast that is worked off.
func TestHotTenant(t *testing.T) {
	others := 1000
	if os.Getenv(envFigures) != "" {
		others = 100_000
	}
	file := filepath.Join(t.TempDir(), "vigie.yaml")
	shards := func(n int) {
		t.Helper()
		if err := os.WriteFile(file, fmt.Appendf(nil, "tenants: {overrides: {acme: {shards: %d}}}\n", n), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	shards(1)
	in := install(t, testkit.Kafka(t), []string{"ingest", "stream"}, "VIGIE_CONFIG="+file, fmt.Sprintf("VIGIE_STREAM_WORKERS=%d", hotWorkers))
	for _, phase := range []struct {
		shards int
		fits   func(most, least float64) bool // shares of tasks
	}{
		{1, func(most, least float64) bool { return most > 0.8 && least == 0 }},
		{64, func(most, least float64) bool { return most < 0.3 && least > 0.04 }},
	} {
		shards(phase.shards)
		if status, answer, err := fetch(http.MethodPost, in.ingestURL+"/-/reload", "", nil, nil); err != nil || status != http.StatusOK {
			t.Fatalf("reload: %d %s (%v)", status, answer, err)
		}
		in.stream.interrupt()
		before := in.ends()
		load := hotLoad{metric: fmt.Sprintf("hot_%d", phase.shards), others: others}
		load.send(in)
		partitions := in.eventsOf(before, in.ends())
		in.stream.start()
		began := time.Now()
		in.awaitReady(in.streamURL)
		load.await(in)
		took := time.Since(began)
		tasks, workers, total := make([]float64, len(partitions)), make([]float64, hotWorkers), 0
		for partition, n := range partitions {
			tasks[partition] = float64(n) / float64(12*others)
			workers[in.ownerOf(int32(partition))] += tasks[partition]
			total += n
		}
		t.Logf("shards %d: shares of tasks %.2f, of workers %.2f; %d events stored %s after the start", phase.shards, tasks, workers, total, took.Round(10*time.Millisecond))
		if total != 12*others || !phase.fits(slices.Max(tasks), slices.Min(tasks)) {
			t.Errorf("shards %d: got shares of tasks %.2f of %d events", phase.shards, tasks, total)
		}
	}
}

// ends are the ends of the partitions of metrics.
func (in *installation) ends() map[int32]int64 {
	in.t.Helper()
	listed, err := kadm.NewClient(in.client(in.t)).ListEndOffsets(in.t.Context(), in.topic("metrics"))
	if err != nil {
		in.t.Fatal(err)
	}
	ends := map[int32]int64{}
	listed.Each(func(o kadm.ListedOffset) { ends[o.Partition] = o.Offset })
	return ends
}

// eventsOf counts the events of metrics between two ends, by partition.
func (in *installation) eventsOf(from, to map[int32]int64) []int {
	in.t.Helper()
	counts, left := make([]int, len(to)), 0
	begin := map[int32]kgo.Offset{}
	for partition, end := range to {
		begin[partition] = kgo.NewOffset().At(from[partition])
		left += int(end - from[partition])
	}
	client := in.client(in.t, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{in.topic("metrics"): begin}))
	reader := pipeline.NewReader(events.Metrics, nil)
	for left > 0 {
		fetches := client.PollFetches(in.t.Context())
		if err := fetches.Err(); err != nil {
			in.t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			batch, _ := reader.Read(&pipeline.Record{Key: r.Key, Value: r.Value, Timestamp: r.Timestamp.UnixNano()})
			counts[r.Partition] += batch.Events
			left--
		})
	}
	return counts
}

// ownerOf is the slot of the worker that has a partition of metrics, once the group has settled.
func (in *installation) ownerOf(partition int32) (slot int) {
	in.t.Helper()
	testkit.Eventually(in.t, time.Minute, func() error {
		_, text, err := fetch(http.MethodGet, in.streamURL+"/topology", "", nil, nil)
		if err != nil {
			return err
		}
		var seen struct {
			Workers []struct {
				Slot  int
				Tasks []struct {
					Topic     string
					Partition int32
				}
			}
		}
		if err := json.Unmarshal([]byte(text), &seen); err != nil {
			return err
		}
		for _, worker := range seen.Workers {
			for _, task := range worker.Tasks {
				if task.Topic == in.topic("metrics") && task.Partition == partition {
					slot = worker.Slot
					return nil
				}
			}
		}
		return fmt.Errorf("nobody has partition %d", partition)
	})
	return slot
}
