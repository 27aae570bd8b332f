package kafka_test

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/vigie-io/vigie/internal/kafka"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/testkit"
)

const (
	benchKeys      = 1_000_000
	benchKeyBytes  = 24
	benchHalfValue = 92 // bytes; half of a value does not compress
)

// BenchmarkRestore restores 1 M keys of 208 bytes from Apache Kafka into a map, with the collector's default and with
// less, which trades processor time for memory.
func BenchmarkRestore(b *testing.B) {
	broker := testkit.ApacheKafka(b)
	cfg := install(b, strings.Split(broker.Addr, ",")...)
	fill(b, cfg)
	session, err := kafka.NewSession(b.Context(), cfg, 0, nil, quiet())
	if err != nil {
		b.Fatal(err)
	}
	defer session.Close()
	for _, percent := range []int{100, 50, 20} {
		b.Run(fmt.Sprint("GOGC=", percent), func(b *testing.B) {
			defer debug.SetGCPercent(debug.SetGCPercent(percent))
			benchRestore(b, cfg, session)
		})
	}
}

func benchRestore(b *testing.B, cfg kafka.Config, session *kafka.Session) {
	b.ReportAllocs()
	b.SetBytes(benchKeys * (benchKeyBytes + 2*benchHalfValue))
	var live, peak uint64
	var processor time.Duration
	for b.Loop() {
		state := make(map[string]string)
		runtime.GC()
		debug.FreeOSMemory()
		ctx, stop := context.WithCancel(b.Context())
		sampled := make(chan uint64)
		go sample(ctx, sampled)
		before := processCPU()
		_, err := session.Restore(b.Context(), pipeline.Partition{Topic: cfg.Topics.Metrics.Name, Partition: 0}, func(r *pipeline.Record) error {
			state[string(r.Key)] = string(r.Value)
			return nil
		})
		processor = processCPU() - before
		stop()
		peak = max(peak, <-sampled)
		if err != nil || len(state) != benchKeys {
			b.Fatalf("restore: got %d keys, %v, want %d", len(state), err, benchKeys)
		}
		runtime.GC()
		debug.FreeOSMemory()
		live = taken()
		runtime.KeepAlive(state)
	}
	b.ReportMetric(processor.Seconds(), "processor-s")
	b.ReportMetric(float64(live)/1e6, "live-MB")
	b.ReportMetric(float64(peak)/1e6, "peak-MB")
	b.ReportMetric(float64(peak)/float64(live), "peak/live")
}

func sample(ctx context.Context, result chan<- uint64) {
	peak := uint64(0)
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for ctx.Err() == nil {
		peak = max(peak, taken())
		<-ticker.C
	}
	result <- peak
}

// taken is the memory that the Go runtime has from the system, what it gave back left out: what GOMEMLIMIT bounds.
func taken() uint64 {
	s := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64() - s[1].Value.Uint64()
}

func fill(b *testing.B, cfg kafka.Config) {
	c, err := kgo.NewClient(kgo.SeedBrokers(cfg.Brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	random := make([]byte, benchHalfValue)
	x := uint64(1)
	for i := range benchKeys {
		for j := range random {
			x = x*6364136223846793005 + 1442695040888963407
			random[j] = byte(x >> 56)
		}
		value := append(make([]byte, benchHalfValue), random...)
		c.Produce(b.Context(), &kgo.Record{Topic: cfg.Topics.StateMetrics.Name, Key: fmt.Appendf(nil, "%0*d", benchKeyBytes, i), Value: value}, func(_ *kgo.Record, err error) {
			if err != nil {
				b.Error(err)
			}
		})
	}
	if err := c.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
}
