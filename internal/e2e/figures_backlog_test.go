package e2e

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/vigie-io/vigie/internal/testkit"
)

// TestFiguresBacklog lets stream work off a backlog: with GOMEMLIMIT=512MiB its memory stays below that whatever waits
// for it; and, without the sink, with one worker on one processor and with two on two.
func TestFiguresBacklog(t *testing.T) {
	figures(t)
	in := install(t, testkit.ApacheKafka(t), []string{"query"})
	start(t, testkit.BuildBinary(t, "./cmd/stream"), nil, append(in.env, "VIGIE_STREAM_SINK=false")).awaitTopics(in)
	events := number(t, envBacklog, 20_000_000) / figureEvents * figureEvents
	in.fill(t, events)

	run := func(name string, env ...string) {
		t.Helper()
		unique := strings.ToLower(name)
		addr := testkit.FreeAddr(t)
		p := start(t, testkit.BuildBinary(t, "./cmd/stream"), nil, slices.Concat(in.env, []string{
			"VIGIE_STREAM_LISTEN=" + addr, "VIGIE_KAFKA_GROUP=" + in.topic("metrics") + unique, "VIGIE_KAFKA_TRANSACTIONAL_ID_PREFIX=" + in.topic("metrics") + unique,
			"VIGIE_KAFKA_TOPICS_STATE_METRICS_NAME=" + in.topic("state_metrics") + unique, "VIGIE_KAFKA_TOPICS_RESULTS_NAME=" + in.topic("results") + unique,
		}, env))
		in.awaitReady("http://" + addr)
		var first, last time.Time
		var before float64
		testkit.Eventually(t, 30*time.Minute, func() error {
			done := metric(t, "http://"+addr, "vigie_pipeline_events_total", `signal="metrics"`)
			if done > 0 && first.IsZero() {
				first, before = time.Now(), done
			}
			if last = time.Now(); done < float64(events) {
				return fmt.Errorf("%s: got %v of %d events", name, done, events)
			}
			return nil
		})
		usage, resident := p.usage()
		t.Logf("%s: %d events, %.0f events/s, %.0f per second of processor time, at most %d MiB resident", name, events,
			(float64(events)-before)/last.Sub(first).Seconds(), float64(events)/usage.Seconds(), resident>>20)
		if slices.Contains(env, "GOMEMLIMIT=512MiB") && resident > 512<<20 {
			t.Errorf("%s: got %d MiB resident, want at most 512", name, resident>>20)
		}
		if !slices.Contains(env, "VIGIE_STREAM_SINK=false") {
			in.stored(events)
		}
		p.interrupt()
	}
	run("limited", "GOMEMLIMIT=512MiB")
	run("one", "VIGIE_STREAM_SINK=false", "VIGIE_STREAM_WORKERS=1", "GOMAXPROCS=1")
	run("two", "VIGIE_STREAM_SINK=false", "VIGIE_STREAM_WORKERS=2", "GOMAXPROCS=2")
}

// stored waits until ClickHouse counts the events.
func (in *installation) stored(events int) {
	in.t.Helper()
	testkit.Eventually(in.t, 5*time.Minute, func() error {
		if got := in.sql("acme", "SELECT sum(count) FROM api.metrics_10s WHERE metric = '"+latency+"'"); got != strconv.Itoa(events) {
			return fmt.Errorf("got %s events in ClickHouse, want %d", got, events)
		}
		return nil
	})
}

// awaitTopics waits until the program has made the topics, and ends it.
func (p *program) awaitTopics(in *installation) {
	p.t.Helper()
	admin := kadm.NewClient(in.client(p.t))
	testkit.Eventually(p.t, time.Minute, func() error {
		details, err := admin.ListTopics(p.t.Context(), in.topic("metrics"))
		if err != nil {
			return err
		}
		return details.Error()
	})
	p.interrupt()
}

// fill appends events to metrics, spread over the partitions, as fast as the broker takes them.
func (in *installation) fill(t *testing.T, events int) {
	t.Helper()
	began, values := time.Now(), payloads()
	c := in.client(t, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.Lz4Compression()),
		kgo.ProducerLinger(20*time.Millisecond), kgo.MaxBufferedRecords(50_000))
	for i := range events / figureEvents {
		c.Produce(t.Context(), &kgo.Record{Topic: in.topic("metrics"), Partition: int32(i % 8), Key: []byte("acme"), Value: values[i%len(values)]},
			func(_ *kgo.Record, err error) {
				if err != nil {
					t.Errorf("produce: %v", err)
				}
			})
	}
	if err := c.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("produced %d events in %s", events, time.Since(began).Round(time.Millisecond))
}

// usage is the processor time of a running program and the most memory it had.
func (p *program) usage() (cpu time.Duration, resident int64) {
	p.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if text, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			resident = integer(p.t, strings.Fields(text)[0]) << 10
		}
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+2:]))
	const hertz = 100 // of the kernel's counters
	return time.Duration(integer(p.t, fields[11])+integer(p.t, fields[12])) * time.Second / hertz, resident
}
