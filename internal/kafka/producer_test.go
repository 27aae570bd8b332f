package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/vigie-io/vigie/internal/ingest"
	"github.com/vigie-io/vigie/internal/kafka"
	"github.com/vigie-io/vigie/internal/sink"
)

func newProducer(t *testing.T, cfg kafka.Config) *kafka.Producer {
	t.Helper()
	p, err := kafka.NewProducer(cfg, nil, quiet())
	if err != nil {
		t.Fatalf("producer: %v", err)
	}
	t.Cleanup(p.Close)
	return p
}

// Acknowledged records are there, a key's in order on the partition that every murmur2 producer would choose.
func TestPublish(t *testing.T) {
	_, cfg := fake(t)
	p := newProducer(t, cfg)
	topic := cfg.Topics.Metrics.Name
	var batch []ingest.Record
	for i := range 200 {
		batch = append(batch, ingest.Record{Topic: topic, Key: fmt.Appendf(nil, "tenant%d", i%10), Value: fmt.Appendf(nil, "%03d", i),
			Headers: []ingest.Header{{Key: "x-scope-orgid", Value: []byte("t")}}})
	}
	if err := p.Publish(deadline(t), batch); err != nil {
		t.Fatalf("publish: %v", err)
	}
	last, partitions := map[string]string{}, map[string]int32{}
	got := committed(t, cfg, topic)
	for _, r := range got {
		key := string(r.Key)
		if string(r.Value) <= last[key] || header(r, "x-scope-orgid") != "t" {
			t.Errorf("key %s: got %s after %s, want them in order and with their header", key, r.Value, last[key])
		}
		if at, ok := partitions[key]; ok && at != r.Partition {
			t.Errorf("key %s: got it on partitions %d and %d, want one", key, at, r.Partition)
		}
		last[key], partitions[key] = string(r.Value), r.Partition
	}
	if len(got) != 200 {
		t.Errorf("records: got %d, want 200", len(got))
	}
	stock, err := kgo.NewClient(kgo.SeedBrokers(cfg.Brokers...))
	if err != nil {
		t.Fatal(err)
	}
	defer stock.Close()
	for key, partition := range partitions {
		r := &kgo.Record{Topic: topic, Key: []byte(key)}
		if err := stock.ProduceSync(deadline(t), r).FirstErr(); err != nil || r.Partition != partition {
			t.Errorf("key %s: got partition %d, want %d as the default partitioner (%v)", key, partition, r.Partition, err)
		}
	}
}

func wantUnavailable(t *testing.T, p *kafka.Producer, cfg kafka.Config) {
	t.Helper()
	err := p.Publish(deadline(t), []ingest.Record{{Topic: cfg.Topics.Metrics.Name, Key: []byte("a"), Value: []byte("v")}})
	if !errors.Is(err, ingest.ErrUnavailable) {
		t.Errorf("publish: got %v, want ErrUnavailable", err)
	}
}

func TestPublishWithoutABroker(t *testing.T) {
	leaks(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := config(listener.Addr().String())
	listener.Close()
	cfg.PublishTimeout = 200 * time.Millisecond
	wantUnavailable(t, newProducer(t, cfg), cfg)
}

// The broker goes away under a working producer, and one that hangs; when it answers again so does Publish.
func TestPublishWhenTheBrokerGoesAway(t *testing.T) {
	cluster, cfg := fake(t)
	cfg.PublishTimeout = 300 * time.Millisecond
	p := newProducer(t, cfg)
	record := []ingest.Record{{Topic: cfg.Topics.Metrics.Name, Key: []byte("a"), Value: []byte("v")}}
	if err := p.Publish(deadline(t), record); err != nil {
		t.Fatalf("publish: %v", err)
	}

	hanging := make(chan struct{})
	cluster.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		select {
		case <-hanging:
			return nil, nil, false
		default:
		}
		cluster.SleepControl(func() { <-hanging })
		return nil, nil, false
	})
	wantUnavailable(t, p, cfg)
	close(hanging)
	await(t, "acknowledgement after the hang", func() bool { return p.Publish(deadline(t), record) == nil })

	cluster.Close()
	wantUnavailable(t, p, cfg)
}

func TestPublishErrorsThatDoNotPass(t *testing.T) {
	_, cfg := fake(t)
	p := newProducer(t, cfg)
	err := p.Publish(deadline(t),
		[]ingest.Record{{Topic: cfg.Topics.Metrics.Name, Key: []byte("a"), Value: make([]byte, cfg.Topics.Metrics.MaxMessage+1)}})
	if err == nil || errors.Is(err, ingest.ErrUnavailable) {
		t.Errorf("too large: got %v, want an error that is not ErrUnavailable", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Publish(ctx, []ingest.Record{{Topic: cfg.Topics.Metrics.Name, Value: []byte("v")}}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v, want it", err)
	}
}

func TestPark(t *testing.T) {
	_, cfg := fake(t)
	p := newProducer(t, cfg)
	refused := sink.Record{Topic: "r", Partition: 1, Offset: 7, Key: []byte("k"),
		Value: make([]byte, cfg.Topics.Results.MaxMessage-1024), Headers: []sink.Header{{Key: "vigie-table", Value: []byte("x")}}}
	if err := p.Park(deadline(t), refused, "id/1/7/x", errors.New("code 117")); err != nil {
		t.Fatalf("park: %v", err)
	}
	parked := committed(t, cfg, cfg.Topics.Parked.Name)
	if len(parked) != 1 || len(parked[0].Value) != len(refused.Value) || string(parked[0].Key) != "id/1/7/x" {
		t.Fatalf("parked: got %d records, want the one", len(parked))
	}
	if got := header(parked[0], "vigie-table") + " " + header(parked[0], kafka.HeaderParkedToken) + " " + header(parked[0], kafka.HeaderParkedError); got != "x id/1/7/x code 117" {
		t.Errorf("headers: got %q, want table, token and error", got)
	}
}
