package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// TestFiguresRestarts measures, with three processes of one worker under load, how old the newest event of each
// partition in ClickHouse gets during a rolling restart, and how long a reader of results waits while processes are
// killed.
func TestFiguresRestarts(t *testing.T) {
	figures(t)
	rate, kills := number(t, envPace, 50_000), number(t, envStrikes, 20)
	c := newChaos(t)
	finish := c.underLoad(rate)
	time.Sleep(5 * time.Second)

	fresh := newSamples()
	enough := watch(func(ctx context.Context) { c.watchFreshness(ctx, fresh) })
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
	enough()
	t.Logf("freshness during a rolling restart: %s", fresh)

	one, all := newSamples(), newSamples()
	enough = watch(func(ctx context.Context) { c.watchGaps(ctx, one, all) })
	time.Sleep(3 * time.Second)
	t.Logf("gaps of a reader of results before: of one worker's %s; of all %s", one, all)
	one.reset()
	all.reset()
	for range kills {
		worker := c.workers[rand.IntN(len(c.workers))]
		worker.kill()
		worker.start()
		time.Sleep(time.Duration(1000+rand.IntN(2000)) * time.Millisecond)
	}
	enough()
	t.Logf("with %d kills: of one worker's %s; of all %s", kills, one, all)
	finish()
}

// watch runs f beside the test until the function that it returns is called.
func watch(f func(ctx context.Context)) (enough func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var watcher sync.WaitGroup
	watcher.Go(func() { f(ctx) })
	return func() { cancel(); watcher.Wait() }
}

// underLoad sends events at a rate, and probes, until the function that it returns is called, which waits until each
// event is counted once.
func (in *installation) underLoad(rate int) (finish func()) {
	sent := 0
	enough := watch(func(ctx context.Context) {
		var probes sync.WaitGroup
		probes.Go(func() { in.probe(ctx) })
		sent = in.press(ctx, rate)
		probes.Wait()
	})
	in.t.Cleanup(enough)
	return func() {
		in.t.Helper()
		enough()
		in.stored(sent)
		in.t.Logf("%d events, each counted once", sent)
	}
}

// press sends events at a rate until ctx ends, and says how many.
func (in *installation) press(ctx context.Context, rate int) (sent int) {
	client := in.client(in.t, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.Lz4Compression()), kgo.ProducerLinger(5*time.Millisecond))
	values, began, i := payloads(), time.Now(), 0
	for ; ctx.Err() == nil; time.Sleep(5 * time.Millisecond) {
		for ; float64(i*figureEvents) < float64(rate)*time.Since(began).Seconds(); i++ {
			client.Produce(context.Background(), &kgo.Record{Topic: in.topic("metrics"), Partition: int32(i % 8), Key: []byte("acme"), Value: values[i%len(values)]},
				func(_ *kgo.Record, err error) {
					if err != nil {
						in.t.Errorf("produce: %v", err)
					}
				})
		}
	}
	took := time.Since(began)
	if err := client.Flush(context.Background()); err != nil {
		in.t.Errorf("flush: %v", err)
	}
	in.t.Logf("load: %.0f events/s", float64(i*figureEvents)/took.Seconds())
	return i * figureEvents
}

// probe sends one gauge to each partition ten times a second.
func (in *installation) probe(ctx context.Context) {
	client := in.client(in.t, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	for ctx.Err() == nil {
		for partition := range int32(8) {
			client.Produce(ctx, &kgo.Record{Topic: in.topic("metrics"), Partition: partition, Key: []byte("demo"),
				Value: fmt.Appendf(nil, `{"name":"probe","kind":"gauge","time":%d,"value":1,"labels":{"p":"%d"}}`, time.Now().UnixMilli(), partition)}, nil)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// watchFreshness asks, eight times a second, how old the newest probe is in the partition where it is oldest.
func (in *installation) watchFreshness(ctx context.Context, into *samples) {
	for ; ctx.Err() == nil; time.Sleep(125 * time.Millisecond) {
		status, answer := in.trySQL("demo", `SELECT count(), toUnixTimestamp64Milli(min(newest)) FROM
			(SELECT max(last_time) AS newest FROM api.metrics_10s WHERE metric = 'probe' AND ts > now() - INTERVAL 1 MINUTE GROUP BY series_id) FORMAT TSV`)
		if f := strings.Fields(answer); status == 200 && len(f) == 2 && f[0] == "8" {
			into.add(time.Since(time.UnixMilli(integer(in.t, f[1]))))
		}
	}
}

// watchGaps reads committed results and notes how long each partition was silent (a worker writes to one), and how long
// all were.
func (in *installation) watchGaps(ctx context.Context, one, all *samples) {
	client := in.client(in.t, kgo.ConsumeTopics(in.topic("results")), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtEnd()), kgo.FetchMaxWait(50*time.Millisecond))
	last, any := map[int32]time.Time{}, time.Time{}
	for ctx.Err() == nil {
		client.PollFetches(ctx).EachPartition(func(p kgo.FetchTopicPartition) {
			if len(p.Records) == 0 {
				return
			}
			now := time.Now()
			if before, ok := last[p.Partition]; ok {
				one.add(now.Sub(before))
			}
			if !any.IsZero() {
				all.add(now.Sub(any))
			}
			last[p.Partition], any = now, now
		})
	}
}
