//go:build linux

package kafka_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/vigie-io/vigie/internal/kafka"
	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/testkit"
)

const polledRecords = 1_000_000

// BenchmarkPoll reads a million JSON events of 200 bytes from Apache Kafka: processor time (of the whole process,
// the broker is another), bytes and allocations a record.
func BenchmarkPoll(b *testing.B) {
	broker := testkit.ApacheKafka(b)
	b.Run("snappy", func(b *testing.B) { benchPoll(b, broker.Addr, kgo.SnappyCompression()) })
	b.Run("lz4", func(b *testing.B) { benchPoll(b, broker.Addr, kgo.Lz4Compression()) })
}

func benchPoll(b *testing.B, addr string, codec kgo.CompressionCodec) {
	cfg := install(b, strings.Split(addr, ",")...)
	fillEvents(b, cfg, codec)
	var cpu time.Duration
	var before, after runtime.MemStats
	runs := 0
	runtime.ReadMemStats(&before)
	for b.Loop() {
		cfg.Group = fmt.Sprintf("%s-%d", cfg.TransactionalIDPrefix, runs)
		runs++
		session, err := kafka.NewSession(b.Context(), cfg, 0, nil, quiet())
		if err != nil {
			b.Fatal(err)
		}
		start := processCPU()
		pollAll(b, session)
		cpu += processCPU() - start
		session.Close()
	}
	runtime.ReadMemStats(&after)
	all := float64(runs * polledRecords)
	b.ReportMetric(float64(cpu.Nanoseconds())/all, "cpu-ns/record")
	b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/all, "B/record")
	b.ReportMetric(float64(after.Mallocs-before.Mallocs)/all, "allocs/record")
}

func pollAll(b *testing.B, session *kafka.Session) {
	var (
		released []pipeline.Reach
		room     [32]pipeline.Record
	)
	for n := 0; n < polledRecords; {
		ctx, cancel := context.WithTimeout(b.Context(), time.Second)
		fetch, err := session.Poll(ctx)
		cancel()
		if err != nil {
			b.Fatal(err)
		}
		if len(fetch.Assigned) > len(released) {
			released = fetch.Assigned
			session.Release(released...)
		}
		for _, chunk := range fetch.Chunks {
			for records := chunk.Unread.Read(room[:]); len(records) > 0; records = chunk.Unread.Read(room[:]) {
				n += len(records)
				look(records)
			}
		}
	}
}

// looked is of no meaning.
var looked byte

// look reads every cache line of the records, as who decodes them does.
func look(records []pipeline.Record) {
	for i := range records {
		for value := records[i].Value; len(value) > 0; value = value[min(64, len(value)):] {
			looked += value[0]
		}
	}
}

func processCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func fillEvents(b *testing.B, cfg kafka.Config, codec kgo.CompressionCodec) {
	c, err := kgo.NewClient(kgo.SeedBrokers(cfg.Brokers...), kgo.ProducerBatchCompression(codec))
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	for i := range polledRecords {
		value := fmt.Appendf(nil,
			`{"tenant":"acme","time":"2026-11-24T12:00:00.%09dZ","name":"http_request_duration_seconds","value":%d.%d,`+
				`"labels":{"instance":"10.0.%d.%d:8080","method":"GET","route":"/api/v1/orders","service":"svc-%d","status":"200"}}`,
			i*997, i%7, i*31, i>>8&255, i&255, i%50)
		c.Produce(b.Context(), &kgo.Record{Topic: cfg.Topics.Metrics.Name, Key: fmt.Appendf(nil, "acme-%d", i/2000), Value: value}, func(_ *kgo.Record, err error) {
			if err != nil {
				b.Error(err)
			}
		})
	}
	if err := c.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
}
