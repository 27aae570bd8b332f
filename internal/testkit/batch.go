package testkit

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"hash/crc32"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Packed is a batch of records as a producer of one's own making may write it to Kafka.
type Packed struct {
	Codec   kgo.CompressionCodecType
	Records int32 // that it claims
	Bytes   []byte
	Millis  int64 // of all its records; 0 is now
}

// Pack packs n records with the same key, value and so many empty headers.
func Pack(t testing.TB, with kgo.CompressionCodec, n int, key, value []byte, headers int) Packed {
	t.Helper()
	compressor, err := kgo.DefaultCompressor(with)
	if err != nil {
		t.Fatal(err)
	}
	var plain []byte
	for i := range n {
		record := []byte{0, 0} // attributes, time
		record = binary.AppendVarint(record, int64(i))
		record = append(binary.AppendVarint(record, int64(len(key))), key...)
		record = append(binary.AppendVarint(record, int64(len(value))), value...)
		record = binary.AppendVarint(record, int64(headers))
		record = append(record, make([]byte, 2*headers)...)
		plain = append(binary.AppendVarint(plain, int64(len(record))), record...)
	}
	if compressor == nil {
		return Packed{Records: int32(n), Bytes: plain}
	}
	packed, codec := compressor.Compress(new(bytes.Buffer), plain)
	return Packed{Codec: codec, Records: int32(n), Bytes: bytes.Clone(packed)}
}

// Produce appends the batch to a partition, at a broker that leads all of them, and returns what it says.
func (p Packed) Produce(ctx context.Context, client *kgo.Client, topic string, partition int32) error {
	lookup := kmsg.NewPtrMetadataRequest()
	lookup.Topics = []kmsg.MetadataRequestTopic{{Topic: kmsg.StringPtr(topic)}}
	found, err := lookup.RequestWith(ctx, client)
	if err != nil {
		return err
	}
	millis := cmp.Or(p.Millis, time.Now().UnixMilli())
	batch := kmsg.RecordBatch{
		PartitionLeaderEpoch: -1, Magic: 2, Attributes: int16(p.Codec), LastOffsetDelta: p.Records - 1,
		FirstTimestamp: millis, MaxTimestamp: millis, ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1,
		NumRecords: p.Records, Records: p.Bytes,
	}
	raw := batch.AppendTo(nil)
	const before, sum = 12, 17 // bytes that the length does not count, and where the checksum is
	binary.BigEndian.PutUint32(raw[8:], uint32(len(raw)-before))
	binary.BigEndian.PutUint32(raw[sum:], crc32.Checksum(raw[sum+4:], crc32.MakeTable(crc32.Castagnoli)))

	part := kmsg.NewProduceRequestTopicPartition()
	part.Partition, part.Records = partition, raw
	to := kmsg.NewProduceRequestTopic()
	to.Topic, to.TopicID, to.Partitions = topic, found.Topics[0].TopicID, append(to.Partitions, part)
	request := kmsg.NewPtrProduceRequest()
	request.Acks, request.TimeoutMillis, request.Topics = -1, 10_000, append(request.Topics, to)
	response, err := request.RequestWith(ctx, client)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(response.Topics[0].Partitions[0].ErrorCode)
}
