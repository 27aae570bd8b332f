package e2e

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/vigie-io/vigie/internal/testkit"
)

// Figures are measured when envFigures is set; `make figures` does that. They say what the machine does meanwhile, and
// fail only where a promise does not depend on it: memory, and counts.
const (
	envFigures = "VIGIE_FIGURES"
	envBacklog = "VIGIE_FIGURES_BACKLOG" // events; default 20 million
	envPace    = "VIGIE_FIGURES_RATE"    // events a second of the restarts; default 50,000
	envStrikes = "VIGIE_FIGURES_KILLS"   // default 20

	figureEvents = 20 // events of one record
)

func figures(t *testing.T) {
	t.Helper()
	if os.Getenv(envFigures) == "" {
		t.Skipf("measures for minutes: %s=1 runs it", envFigures)
	}
	load, _ := os.ReadFile("/proc/loadavg")
	t.Logf("load of the machine before: %s", strings.TrimSpace(string(load)))
	t.Cleanup(func() {
		load, _ := os.ReadFile("/proc/loadavg")
		t.Logf("and after: %s", strings.TrimSpace(string(load)))
	})
}

// payloads are records of figureEvents events of one tenant each, without times: they are of when they are sent.
func payloads() (out [][]byte) {
	random := rand.New(rand.NewPCG(5, 6))
	for range 200 {
		var b strings.Builder
		for range figureEvents {
			n := random.IntN(400)
			fmt.Fprintf(&b, `{"name":"%s","value":%v,"labels":{"service":"svc-%d","route":"/r/%d","instance":"i-%d"}}`+"\n",
				latency, float64(1+random.IntN(4096))/1024, n%10, n/10%10, n/100)
		}
		out = append(out, []byte(b.String()))
	}
	return out
}

func (in *installation) client(t testing.TB, options ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append(options, kgo.SeedBrokers(strings.Split(in.broker.Addr, ",")...))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

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

// TestFiguresRestarts measures, with three processes of one worker under load, how old the newest event of each partition in
// ClickHouse gets during a rolling restart, and how long a reader of results waits while processes are killed.
func TestFiguresRestarts(t *testing.T) {
	figures(t)
	rate, kills := number(t, envPace, 50_000), number(t, envStrikes, 20)
	c := newChaos(t)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	t.Cleanup(func() { cancel(); running.Wait() })
	sent := 0
	running.Go(func() { sent = c.press(ctx, rate) })
	running.Go(func() { c.probe(ctx) })
	time.Sleep(5 * time.Second)

	fresh := newSamples()
	watching, enough := context.WithCancel(ctx)
	var watcher sync.WaitGroup
	watcher.Go(func() { c.watchFreshness(watching, fresh) })
	time.Sleep(5 * time.Second)
	t.Logf("freshness before: %s", fresh)
	fresh.reset()
	for i, worker := range c.workers {
		began := time.Now()
		_ = worker.cmd.Process.Signal(syscall.SIGTERM)
		<-worker.done
		worker.start()
		c.awaitReady("http://" + c.listens[i])
		t.Logf("process %d restarted in %s", i, time.Since(began).Round(time.Millisecond))
		time.Sleep(3 * time.Second)
	}
	t.Logf("freshness during a rolling restart: %s", fresh)
	enough()
	watcher.Wait()

	gaps := newSamples()
	watching, enough = context.WithCancel(ctx)
	watcher.Go(func() { c.watchGaps(watching, gaps) })
	time.Sleep(3 * time.Second)
	t.Logf("a reader's gaps before: %s", gaps)
	gaps.reset()
	for range kills {
		worker := c.workers[rand.IntN(len(c.workers))]
		worker.kill()
		worker.start()
		time.Sleep(time.Duration(1000+rand.IntN(2000)) * time.Millisecond)
	}
	t.Logf("a reader's gaps with %d kills: %s", kills, gaps)
	enough()
	watcher.Wait()
	cancel()
	running.Wait()
	c.stored(sent)
	t.Logf("%d events, each counted once", sent)
}

// press sends events at a rate until ctx ends, and says how many.
func (c *chaos) press(ctx context.Context, rate int) (sent int) {
	client := c.client(c.t, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.Lz4Compression()), kgo.ProducerLinger(5*time.Millisecond))
	values, began, i := payloads(), time.Now(), 0
	for ; ctx.Err() == nil; time.Sleep(5 * time.Millisecond) {
		for ; float64(i*figureEvents) < float64(rate)*time.Since(began).Seconds(); i++ {
			client.Produce(context.Background(), &kgo.Record{Topic: c.topic("metrics"), Partition: int32(i % 8), Key: []byte("acme"), Value: values[i%len(values)]},
				func(_ *kgo.Record, err error) {
					if err != nil {
						c.t.Errorf("produce: %v", err)
					}
				})
		}
	}
	took := time.Since(began)
	if err := client.Flush(context.Background()); err != nil {
		c.t.Errorf("flush: %v", err)
	}
	c.t.Logf("load: %.0f events/s", float64(i*figureEvents)/took.Seconds())
	return i * figureEvents
}

// probe sends one gauge to each partition ten times a second.
func (c *chaos) probe(ctx context.Context) {
	client := c.client(c.t, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	for ctx.Err() == nil {
		for partition := range int32(8) {
			client.Produce(ctx, &kgo.Record{Topic: c.topic("metrics"), Partition: partition, Key: []byte("demo"),
				Value: fmt.Appendf(nil, `{"name":"probe","kind":"gauge","time":%d,"value":1,"labels":{"p":"%d"}}`, time.Now().UnixMilli(), partition)}, nil)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// watchFreshness asks how old the newest probe is, in the partition where it is oldest.
func (c *chaos) watchFreshness(ctx context.Context, into *samples) {
	for ctx.Err() == nil {
		status, answer := c.trySQL("demo", `SELECT count(), toUnixTimestamp64Milli(min(newest)) FROM
			(SELECT max(last_time) AS newest FROM api.metrics_10s WHERE metric = 'probe' GROUP BY series_id) FORMAT TSV`)
		if f := strings.Fields(answer); status == 200 && len(f) == 2 && f[0] == "8" {
			into.add(time.Since(time.UnixMilli(integer(c.t, f[1]))))
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// watchGaps reads committed results and notes how long each partition was silent.
func (c *chaos) watchGaps(ctx context.Context, into *samples) {
	client := c.client(c.t, kgo.ConsumeTopics(c.topic("results")), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtEnd()), kgo.FetchMaxWait(50*time.Millisecond))
	last := map[int32]time.Time{}
	for ctx.Err() == nil {
		client.PollFetches(ctx).EachPartition(func(p kgo.FetchTopicPartition) {
			if len(p.Records) == 0 {
				return
			}
			if before, ok := last[p.Partition]; ok {
				into.add(time.Since(before))
			}
			last[p.Partition] = time.Now()
		})
	}
}

// samples are durations, safe for concurrent use.
type samples struct {
	mu    sync.Mutex
	taken map[time.Duration]int
	count int
}

func newSamples() *samples { return &samples{taken: map[time.Duration]int{}} }

func (s *samples) add(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken[d.Round(time.Millisecond)]++
	s.count++
}

func (s *samples) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken, s.count = map[time.Duration]int{}, 0
}

func (s *samples) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	sorted := slices.Sorted(maps.Keys(s.taken))
	at := func(q float64) time.Duration {
		seen := 0
		for _, d := range sorted {
			if seen += s.taken[d]; float64(seen) >= q*float64(s.count) {
				return d
			}
		}
		return 0
	}
	return fmt.Sprintf("p50 %s, p99 %s, most %s (%d samples)", at(0.5), at(0.99), at(1), s.count)
}
