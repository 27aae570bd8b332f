package simulation

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/vigie-io/vigie/internal/ingest"
	"github.com/vigie-io/vigie/internal/tenants"
	"github.com/vigie-io/vigie/pkg/events"
)

// publish appends so many equal records, which the brokers acknowledge before it returns.
func (w *World) publish(client *kgo.Client, topic string, partition int32, tenant string, value []byte,
	n int) ([]*kgo.Record, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var failed kgo.FirstErrPromise
	records := make([]*kgo.Record, n)
	for i := range records {
		records[i] = &kgo.Record{Topic: topic, Partition: partition, Key: w.key(tenant, i), Value: value}
		records[i].Headers = []kgo.RecordHeader{
			{Key: ingest.HeaderTenant, Value: []byte(tenant)}, {Key: ingest.HeaderContentType, Value: []byte("application/json")},
		}
		client.Produce(ctx, records[i], failed.Promise())
	}
	if err := cmp.Or(client.Flush(ctx), failed.Err()); err != nil {
		return nil, fmt.Errorf("publish to %s/%d: %w", topic, partition, err)
	}
	return records, nil
}

// key is the Kafka key of a tenant's record: its shards take turns.
func (w *World) key(tenant string, i int) []byte {
	if shard := i % w.limits.Load().For(tenants.ID(tenant)).Shards; shard > 0 {
		return fmt.Appendf(nil, "%s#%d", tenant, shard)
	}
	return []byte(tenant)
}

// garbled packs batches into what nobody can unpack.
type garbled struct{}

// Compress implements kgo.Compressor.
func (garbled) Compress(*bytes.Buffer, []byte, ...kgo.CompressFlag) ([]byte, kgo.CompressionCodecType) {
	return []byte("no gzip"), kgo.CodecGzip
}

func position(topic, partition, offset string) string { return topic + "/" + partition + "/" + offset }

// publishMetrics appends so many records of the same metrics to a partition, and counts them.
func (w *World) publishMetrics(partition int32, metrics []events.Metric, n int) error {
	var value []byte
	for i := range metrics {
		value = append(events.AppendMetric(value, &metrics[i]), '\n')
	}
	records, err := w.publish(w.client, w.cfg.Topics.Metrics.Name, partition, metrics[0].Tenant, value[:len(value)-1], n)
	if err != nil {
		return err
	}
	for _, record := range records {
		if !w.within(record, metrics[0].Tenant, len(metrics)) {
			continue
		}
		for i := range metrics {
			w.Recount.Metric(&metrics[i])
			w.Recount.windows.metric(&metrics[i], fmt.Sprintf("%s/%d", w.cfg.Topics.Metrics.Name, partition))
			w.claim(w.cfg.Topics.Metrics.Name, partition, &metrics[i])
		}
	}
	return nil
}

// claim notes an event that has been acknowledged, for progress to be held against. Those that a limit may drop are
// left out.
func (w *World) claim(topic string, partition int32, m *events.Metric) {
	if w.limits.Load().Overrides[tenants.ID(m.Tenant)].ActiveSeries > 0 {
		return
	}
	key := Key{
		Table: finest, Tenant: m.Tenant, Metric: m.Name, Service: m.Labels.Get("service"), Series: identify(m),
		Start: uint32(m.Time/1e9) / tiers[0].width * tiers[0].width,
	}
	w.Server.published(published{place{topic, partition}, time.Now().UnixMilli(), key, 1})
}

// parked reads the blocks that were put aside, once each.
func (w *World) parked(ctx context.Context) (map[string]*kgo.Record, error) {
	out := map[string]*kgo.Record{}
	err := w.read(ctx, w.cfg.Topics.Parked.Name, func(r *kgo.Record) { out[string(r.Key)] = r })
	return out, err
}

// read calls fn for what a read-committed reader sees of a topic.
func (w *World) read(ctx context.Context, topic string, fn func(*kgo.Record)) error {
	listed, err := w.admin.ListCommittedOffsets(ctx, topic)
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		return fmt.Errorf("list offsets of %s: %w", topic, err)
	}
	left := map[int32]int64{}
	listed.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			left[o.Partition] = o.Offset
		}
	})
	if len(left) == 0 {
		return nil
	}
	client, err := kgo.NewClient(
		kgo.SeedBrokers(w.cfg.Brokers...), kgo.Dialer(w.cfg.Dial), kgo.ConsumeTopics(topic), kgo.DisableClientMetrics(),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchMaxWait(100*time.Millisecond))
	if err != nil {
		return fmt.Errorf("kafka client: %w", err)
	}
	defer client.Close()
	for len(left) > 0 {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			return fmt.Errorf("read %s: %w (left %v)", topic, ctx.Err(), left)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if !r.Attrs.IsControl() {
				fn(r)
			}
			if end, ok := left[r.Partition]; ok && r.Offset+1 >= end {
				delete(left, r.Partition)
			}
		})
	}
	return nil
}
