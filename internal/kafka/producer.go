package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/vigie-io/vigie/internal/ingest"
	"github.com/vigie-io/vigie/internal/sink"
)

var (
	_ ingest.Publisher = (*Producer)(nil)
	_ sink.Parker      = (*Producer)(nil)
)

// Producer appends records outside of transactions: idempotent, acknowledged by all in-sync replicas, in order per
// key. It is safe for concurrent use.
type Producer struct {
	cfg     Config
	client  *kgo.Client
	metrics *Metrics
}

// NewProducer returns a producer. It connects at the first record. metrics may be nil.
func NewProducer(cfg Config, metrics *Metrics, log *slog.Logger) (*Producer, error) {
	options, err := cfg.options("producer", log)
	if err != nil {
		return nil, err
	}
	client, err := kgo.NewClient(append(options,
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.RecordPartitioner(newPartitioner()),
		kgo.MaxBufferedBytes(int(cfg.PublishBuffer)),
		kgo.MaxBufferedRecords(1<<20), // the bytes are the limit
		kgo.ProducerLinger(2*time.Millisecond),
		// A caller that has been told 503 must not keep the buffer full with records nobody waits for.
		kgo.RecordDeliveryTimeout(max(time.Second, cfg.PublishTimeout)),
		kgo.AllowIdempotentProduceCancellation(),
		kgo.ProduceRequestTimeout(max(time.Second, cfg.PublishTimeout/2)),
		kgo.RequestTimeoutOverhead(5*time.Second),
		cfg.Topics.batchLimit(),
	)...)
	if err != nil {
		return nil, fmt.Errorf("kafka client: %w", err)
	}
	return &Producer{cfg: cfg, client: client, metrics: metrics}, nil
}

// Close fails what is not yet acknowledged.
func (p *Producer) Close() { p.client.Close() }

// Publish implements ingest.Publisher: nil when every record is acknowledged, else the first error, after
// publish_timeout at the latest. Its error wraps ingest.ErrUnavailable when trying again later may help. At least
// once: after an error any of the records may be in the log, or may still get there.
func (p *Producer) Publish(ctx context.Context, records []ingest.Record) error {
	out := make([]kgo.Record, len(records))
	for i := range records {
		r := &records[i]
		out[i] = kgo.Record{Topic: r.Topic, Partition: byKey, Key: r.Key, Value: r.Value}
		if len(r.Headers) > 0 {
			out[i].Headers = make([]kgo.RecordHeader, len(r.Headers))
			for j, h := range r.Headers {
				out[i].Headers[j] = kgo.RecordHeader{Key: h.Key, Value: h.Value}
			}
		}
	}
	err := p.produce(ctx, out)
	p.metrics.publish(len(records), err)
	if err != nil && unavailable(err) {
		return fmt.Errorf("%w: %w", ingest.ErrUnavailable, err)
	}
	return err
}

// Headers of a parked record, beside the original's (docs/format/results.md).
const (
	HeaderParkedToken = "vigie-parked-token"
	HeaderParkedError = "vigie-parked-error"
)

// maxDetail bounds an error text in a header.
const maxDetail = 4 << 10

// Park implements sink.Parker: the record as it was, key = its token, and why it was refused.
func (p *Producer) Park(ctx context.Context, record sink.Record, token string, cause error) error {
	out := kgo.Record{Topic: p.cfg.Topics.Parked.Name, Partition: byKey, Key: []byte(token), Value: record.Value}
	for _, h := range record.Headers {
		out.Headers = append(out.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
	}
	text := cause.Error()
	out.Headers = append(out.Headers,
		kgo.RecordHeader{Key: HeaderParkedToken, Value: []byte(token)},
		kgo.RecordHeader{Key: HeaderParkedError, Value: []byte(text[:min(len(text), maxDetail)])})
	if err := p.produce(ctx, []kgo.Record{out}); err != nil {
		return fmt.Errorf("park %s: %w", token, err)
	}
	return nil
}

// produce waits for all records or for the time limit, whichever comes first.
func (p *Producer) produce(ctx context.Context, records []kgo.Record) error {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.PublishTimeout)
	defer cancel()
	results := make(chan error, len(records)) // a late promise never blocks
	for i := range records {
		p.client.Produce(ctx, &records[i], func(r *kgo.Record, err error) {
			if err != nil {
				err = fmt.Errorf("produce %d bytes to %s: %w", len(r.Value), r.Topic, err)
			}
			results <- err
		})
	}
	for range records {
		select {
		case err := <-results:
			if err != nil {
				return err
			}
		case <-ctx.Done():
			return fmt.Errorf("no acknowledgement from kafka: %w", ctx.Err())
		}
	}
	return nil
}

// unavailable tells what a later attempt may heal from what the record or the set-up is at fault for.
func unavailable(err error) bool {
	for _, final := range []error{
		kerr.MessageTooLarge, kerr.RecordListTooLarge, kerr.InvalidRecord, kerr.CorruptMessage, kerr.InvalidTopicException,
		kerr.TopicAuthorizationFailed, kerr.ClusterAuthorizationFailed, kerr.SaslAuthenticationFailed,
	} {
		if errors.Is(err, final) {
			return false
		}
	}
	return true
}

func itoa[T ~int32 | ~int64 | ~int](n T) string { return strconv.FormatInt(int64(n), 10) }
