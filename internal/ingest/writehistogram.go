package ingest

import (
	"errors"
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/vigie-io/vigie/pkg/events"
)

const (
	schemaMin, schemaMax = -4, 8
	resetHintGauge       = 3
	// maxBuckets bounds the dense form of a histogram, whose sparse form can name any gap in a few bytes.
	maxBuckets = 1 << 14
)

// writeHistogram is one Histogram message, the same in both versions of remote write.
type writeHistogram struct {
	count, sum, zeroThreshold, zeroCount float64
	schema                               int64
	gauge                                bool
	time, start                          int64
	positive, negative                   writeBuckets
	bounds                               []float64 // of events.CustomScale
}

// writeBuckets is one side of a histogram: spans of buckets, and counts as deltas (integer histogram) or as
// they are (float histogram).
type writeBuckets struct {
	spans  []writeSpan
	deltas []uint64 // zigzag
	counts []float64
}

type writeSpan struct {
	offset int64
	length uint64
}

func (h *writeHistogram) reset() {
	positive, negative, bounds := h.positive, h.negative, h.bounds
	positive.reset()
	negative.reset()
	*h = writeHistogram{positive: positive, negative: negative, bounds: bounds[:0]}
}

func (b *writeBuckets) reset() { b.spans, b.deltas, b.counts = b.spans[:0], b.deltas[:0], b.counts[:0] }

func (h *writeHistogram) decode(message []byte) error {
	return walk(message, func(f field) (err error) {
		switch f.num {
		case 8, 9, 10:
			return h.negative.decode(f, f.num-8)
		case 11, 12, 13:
			return h.positive.decode(f, f.num-11)
		case 16:
			h.bounds, err = f.appendDoubles(h.bounds)
			return err
		}
		return h.decodeScalar(f)
	})
}

func (h *writeHistogram) decodeScalar(f field) error {
	want := protowire.VarintType
	switch f.num {
	case 1:
		h.count = float64(f.number)
	case 4:
		h.schema = f.sint64()
	case 6:
		h.zeroCount = float64(f.number)
	case 14:
		h.gauge = f.number == resetHintGauge
	case 15:
		h.time = f.int64()
	case 17:
		h.start = f.int64()
	default:
		want = protowire.Fixed64Type
		switch f.num {
		case 2:
			h.count = f.double()
		case 3:
			h.sum = f.double()
		case 5:
			h.zeroThreshold = f.double()
		case 7:
			h.zeroCount = f.double()
		default:
			return nil
		}
	}
	return f.expect(want)
}

// decode takes one of the three fields of a side: spans, deltas, counts.
func (b *writeBuckets) decode(f field, which protowire.Number) (err error) {
	switch which {
	case 1:
		b.deltas, err = f.appendVarints(b.deltas)
		return err
	case 2:
		b.counts, err = f.appendDoubles(b.counts)
		return err
	}
	if err := f.expect(protowire.BytesType); err != nil {
		return err
	}
	var span writeSpan
	err = walk(f.bytes, func(f field) error {
		switch f.num {
		case 1:
			span.offset = f.sint64()
		case 2:
			span.length = f.number
		default:
			return nil
		}
		return f.expect(protowire.VarintType)
	})
	b.spans = append(b.spans, span)
	return err
}

// dense appends the counts of adjacent buckets to dst, which is empty, and returns the index of the first one.
func (b *writeBuckets) dense(dst []float64) (first int64, counts []float64, err error) {
	source, available, last := 0, max(len(b.deltas), len(b.counts)), int64(0)
	for i, span := range b.spans {
		gap := span.offset // of empty buckets between this span and the one before
		if i == 0 {
			first, gap = span.offset, 0
		}
		switch {
		case gap < 0:
			return 0, dst, fmt.Errorf("span %d begins %d buckets before the last one's end", i, -gap)
		case span.length > uint64(available-source):
			return 0, dst, fmt.Errorf("spans name more buckets than the %d there are", available)
		case gap > maxBuckets || int64(len(dst))+gap+int64(span.length) > maxBuckets:
			return 0, dst, fmt.Errorf("buckets reach over more than %d indexes: use a smaller schema", maxBuckets)
		}
		for range gap {
			dst = append(dst, 0)
		}
		for range span.length {
			count := b.count(source, &last)
			if !(count >= 0) || math.IsInf(count, 1) {
				return 0, dst, fmt.Errorf("bucket %d counts %v", first+int64(len(dst)), count)
			}
			dst = append(dst, count)
			source++
		}
	}
	if source != available {
		return 0, dst, fmt.Errorf("spans name %d buckets of the %d there are", source, available)
	}
	if first < math.MinInt32/2 || first > math.MaxInt32/2 {
		return 0, dst, fmt.Errorf("first bucket %d is out of range", first)
	}
	return first, dst, nil
}

// count is the count of the at-th bucket that was sent. Integer histograms send differences: last is the count before,
// and then this one. Buckets are asked for in order.
func (b *writeBuckets) count(at int, last *int64) float64 {
	if len(b.counts) > 0 {
		return b.counts[at]
	}
	*last += protowire.DecodeZigZag(b.deltas[at])
	return float64(*last)
}

// event fills into with the histogram. The index of an exponential one's buckets is OpenTelemetry's, which is
// Prometheus' less one. into.Bounds are h's.
func (h *writeHistogram) event(into *events.Histogram) error {
	if h.schema != events.CustomScale && (h.schema < schemaMin || h.schema > schemaMax) {
		return fmt.Errorf("schema is %d: want %d to %d, or %d", h.schema, schemaMin, schemaMax, events.CustomScale)
	}
	first := int64(events.PrometheusIndex(int32(h.schema)))
	if err := h.positive.event(&into.Positive, first); err != nil {
		return fmt.Errorf("positive buckets: %w", err)
	}
	if err := h.negative.event(&into.Negative, first); err != nil {
		return fmt.Errorf("negative buckets: %w", err)
	}
	into.Scale, into.Bounds = int32(h.schema), h.bounds
	into.ZeroThreshold, into.ZeroCount = h.zeroThreshold, h.zeroCount
	into.Count, into.Sum = h.count, h.sum
	into.Min, into.Max = math.NaN(), math.NaN()
	return nil
}

// event fills into with a side. first is the index of the bucket that has 0 in an event.
func (b *writeBuckets) event(into *events.Buckets, first int64) error {
	if len(b.deltas) > 0 && len(b.counts) > 0 {
		return errors.New("given both as deltas and as counts")
	}
	at, counts, err := b.dense(into.Counts[:0])
	if into.Counts = counts; err != nil {
		return err
	}
	if into.Offset = int32(at - first); len(counts) == 0 {
		into.Offset = 0
	}
	return nil
}
