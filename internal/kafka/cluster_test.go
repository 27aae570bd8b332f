package kafka_test

import (
	"context"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/vigie-io/vigie/internal/kafka"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/testkit"
)

// envKills is how often TestOneOfThreeBrokersIsKilled kills a broker.
const envKills = "VIGIE_TEST_BROKER_KILLS"

// Three brokers, of which two have to acknowledge a write: one after the other is killed while workers run, and comes
// back. Each event is counted once, and events are counted while one is down. `make chaos BROKERS=3` is the long
// version.
func TestOneOfThreeBrokersIsKilled(t *testing.T) {
	kills, err := strconv.Atoi(os.Getenv(envKills))
	if err != nil {
		t.Skipf("takes a minute: %s=3 runs it", envKills)
	}
	brokers := testkit.MortalCluster(t, 3)
	cfg := install(t, strings.Split(brokers.Addr, ",")...)
	employSlot(t, cfg, 0)
	employSlot(t, cfg, 1)
	seen := watch(t, cfg)
	var sent, failed atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	var producer sync.WaitGroup
	producer.Go(func() {
		c := hasty(t, cfg)
		for n := int64(0); ctx.Err() == nil; n++ {
			record := &kgo.Record{
				Topic: cfg.Topics.Metrics.Name, Partition: int32(n % 4), Key: []byte("acme"),
				Value: []byte(`{"name":"m","value":` + strconv.FormatInt(n, 10) + `}`),
			}
			c.Produce(context.Background(), record, func(_ *kgo.Record, err error) {
				if sent.Add(1); err != nil {
					failed.Add(1)
				}
			})
			time.Sleep(2 * time.Millisecond)
		}
		_ = c.Flush(context.Background())
	})
	defer producer.Wait()
	defer stop()
	await(t, "first events", func() bool { return seen.Load() > 100 })
	observer := client(t, cfg)
	if err := observer.Ping(deadline(t)); err != nil {
		t.Fatal(err)
	}
	for kill := range kills {
		node := kill % brokers.Nodes()
		await(t, "all copies in sync", func() bool { return inSync(t.Context(), observer, brokers.Nodes()) })
		before, start := seen.Load(), time.Now()
		brokers.Kill(node)
		await(t, "events without a broker", func() bool { return seen.Load() > before+500 })
		t.Logf("without broker %d: 500 events after %s", node+1, time.Since(start).Round(time.Millisecond))
		brokers.Revive(node)
	}
	stop()
	producer.Wait()
	await(t, "all events", func() bool { return seen.Load() >= sent.Load() })
	time.Sleep(time.Second) // for what is too much
	if got, want := seen.Load(), sent.Load(); got != want || failed.Load() > 0 {
		t.Errorf("got %d of %d events counted, %d not produced, want each once", got, want, failed.Load())
	}
	t.Logf("%d events, %d kills of one of three brokers", sent.Load(), kills)
}

// hasty is a client that tries again as soon as the workers do, so that it is not the client that is measured.
func hasty(t *testing.T, cfg kafka.Config, options ...kgo.Opt) *kgo.Client {
	t.Helper()
	return client(t, cfg, append(options, kgo.MetadataMinAge(250*time.Millisecond),
		kgo.RetryBackoffFn(func(int) time.Duration { return 250 * time.Millisecond }))...)
}

// inSync says whether all partitions have n copies in sync, as every broker sees it: with fewer, the next broker that
// dies stops writing, and one that has just come back tells of the time when it went.
func inSync(ctx context.Context, c *kgo.Client, n int) bool {
	brokers := c.DiscoveredBrokers()
	for _, broker := range brokers {
		response, err := broker.Request(ctx, kmsg.NewPtrMetadataRequest())
		if err != nil {
			return false
		}
		for _, topic := range response.(*kmsg.MetadataResponse).Topics {
			for _, partition := range topic.Partitions {
				if len(partition.ISR) != n {
					return false
				}
			}
		}
	}
	return len(brokers) == n
}

// watch counts the events of committed results as they come, until the test ends.
func watch(t *testing.T, cfg kafka.Config) *atomic.Int64 {
	t.Helper()
	var seen atomic.Int64
	c := hasty(t, cfg, kgo.ConsumeTopics(cfg.Topics.Results.Name), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.FetchMaxWait(50*time.Millisecond))
	ctx, cancel := context.WithCancel(context.Background())
	var reader sync.WaitGroup
	reader.Go(func() {
		for ctx.Err() == nil {
			c.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
				n, _ := strconv.ParseInt(header(r, pipeline.HeaderCount), 10, 64) // none in other blocks
				seen.Add(n)
			})
		}
	})
	t.Cleanup(func() { cancel(); reader.Wait() })
	return &seen
}
