package kafka

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"slices"
	"syscall"
	"testing"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"

	"github.com/vigie-io/vigie/internal/pipeline"
)

// BenchmarkList reads the places of a thousand events in a batch, and then the records.
func BenchmarkList(b *testing.B) {
	const n = 1000
	var batch []byte
	for i := range int32(n) {
		batch = appendRecord(batch, int64(i)/4, i, []byte("tenant-17"), make([]byte, 230))
	}
	entries, _ := list(nil, batch)
	measure := func(name string, run func()) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			before := cpu()
			for b.Loop() {
				run()
			}
			b.ReportMetric(float64(cpu()-before)/float64(b.N)/n, "cpu-ns/record")
		})
	}
	measure("places", func() { entries, _ = list(entries, batch) })
	var into [32]pipeline.Record
	measure("records", func() {
		o := opened{batch: batch, entries: entries, unit: 1e6}
		for len(o.entries) > 0 {
			o.read(into[:], nil)
		}
	})
}

// cpu is the processor time of the process, in nanoseconds.
func cpu() int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// appendRecord appends a record as it stands in a batch.
func appendRecord(dst []byte, time int64, offset int32, key, value []byte, headers ...pipeline.Header) []byte {
	b := kbin.AppendVarlong([]byte{0}, time)
	b = kbin.AppendVarint(b, offset)
	b = kbin.AppendVarintBytes(b, key)
	b = kbin.AppendVarintBytes(b, value)
	b = kbin.AppendVarint(b, int32(len(headers)))
	for _, h := range headers {
		b = kbin.AppendVarintBytes(kbin.AppendVarintString(b, h.Key), h.Value)
	}
	return append(kbin.AppendVarint(dst, int32(len(b))), b...)
}

const (
	logAppendTime = 1 << 3
	transactional = 1 << 4
	control       = 1 << 5
)

// appendBatch appends a batch, with its length and sum.
func appendBatch(dst []byte, b kmsg.RecordBatch) []byte {
	b.Magic = 2
	raw := b.AppendTo(nil)
	binary.BigEndian.PutUint32(raw[8:], uint32(len(raw)-12))
	binary.BigEndian.PutUint32(raw[17:], crc32.Checksum(raw[21:], crc32.MakeTable(crc32.Castagnoli)))
	return append(dst, raw...)
}

// brokersLog is a partition as a broker has it.
type brokersLog struct {
	batches [][]byte
	begins  []int64 // first offset of each batch
	end     int64
	aborted []kmsg.FetchResponseTopicPartitionAbortedTransaction
	markers []int64 // where each of aborted ends
}

func drawBytes(t *rapid.T, name string) []byte {
	if rapid.IntRange(0, 9).Draw(t, "no "+name) == 0 {
		return nil
	}
	return rapid.SliceOfN(rapid.Byte(), 0, 90).Draw(t, name)
}

// data appends a batch as a producer sent it, or as compaction has left it.
func (l *brokersLog) data(t *rapid.T, attributes int16, producer int64) {
	var raw []byte
	count, offset := 0, int32(0)
	for range rapid.IntRange(1, 8).Draw(t, "records") {
		offset += int32(rapid.SampledFrom([]int{0, 0, 0, 0, 1, 300}).Draw(t, "compacted"))
		if rapid.IntRange(0, 5).Draw(t, "removed") > 0 {
			var headers []pipeline.Header
			for range rapid.SampledFrom([]int{0, 0, 0, 1, 3}).Draw(t, "headers") {
				headers = append(headers,
					pipeline.Header{Key: rapid.StringN(0, 5, 20).Draw(t, "header"), Value: drawBytes(t, "of header")})
			}
			time := rapid.SampledFrom([]int64{0, 3, -7, 1 << 20, math.MaxInt64, math.MinInt64}).Draw(t, "time")
			raw = appendRecord(raw, time, offset, drawBytes(t, "key"), drawBytes(t, "value"), headers...)
			count++
		}
		offset++
	}
	codec := rapid.IntRange(0, 4).Draw(t, "codec")
	if compressor, _ := kgo.DefaultCompressor(codecsOfKafka()[codec]); compressor != nil && len(raw) > 0 {
		raw, _ = compressor.Compress(new(bytes.Buffer), raw)
		raw = bytes.Clone(raw)
		attributes |= int16(codec)
	}
	l.append(kmsg.RecordBatch{
		Attributes: attributes, ProducerID: producer, LastOffsetDelta: offset - 1, NumRecords: int32(count), Records: raw,
		FirstTimestamp: rapid.Int64Range(0, 1<<42).Draw(t, "first time"),
		MaxTimestamp:   rapid.Int64Range(0, 1<<42).Draw(t, "max time"),
	})
}

func codecsOfKafka() [5]kgo.CompressionCodec {
	return [...]kgo.CompressionCodec{kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(),
		kgo.Lz4Compression(), kgo.ZstdCompression()}
}

func (l *brokersLog) append(b kmsg.RecordBatch) {
	b.FirstOffset = l.end
	l.begins = append(l.begins, l.end)
	l.end += int64(b.LastOffsetDelta) + 1
	l.batches = append(l.batches, appendBatch(nil, b))
}

// marker ends a transaction that began at first.
func (l *brokersLog) marker(producer, first int64, commit bool) {
	key := []byte{0, 0, 0, 0}
	if commit {
		key[3] = 1
	} else {
		l.aborted = append(l.aborted,
			kmsg.FetchResponseTopicPartitionAbortedTransaction{ProducerID: producer, FirstOffset: first})
		l.markers = append(l.markers, l.end)
	}
	l.append(kmsg.RecordBatch{
		Attributes: transactional | control, ProducerID: producer, NumRecords: 1,
		Records: appendRecord(nil, 0, 0, key, make([]byte, 6)),
	})
}

func drawLog(t *rapid.T) *brokersLog {
	l := &brokersLog{end: rapid.Int64Range(0, 1000).Draw(t, "log begins")}
	l.data(t, 0, -1)
	open := map[int64]int64{} // where a producer's transaction began
	for range rapid.IntRange(1, 12).Draw(t, "batches") {
		producer := rapid.Int64Range(1, 3).Draw(t, "producer")
		attributes := int16(rapid.SampledFrom([]int{0, 0, logAppendTime}).Draw(t, "time of"))
		first, begun := open[producer]
		switch rapid.IntRange(0, 3).Draw(t, "kind") {
		case 0:
			l.data(t, attributes, -1)
		case 1:
			if begun {
				l.marker(producer, first, rapid.Bool().Draw(t, "commit"))
				delete(open, producer)
			}
		default:
			if !begun {
				open[producer] = l.end
			}
			l.data(t, attributes|transactional, producer)
		}
	}
	for producer, first := range open {
		l.marker(producer, first, producer == 2)
	}
	return l
}

// fetch is a broker's answer: the batch of an offset and some behind it, the last of them cut off.
func (l *brokersLog) fetch(t *rapid.T, offset int64) *kmsg.FetchResponseTopicPartition {
	answer := kmsg.NewFetchResponseTopicPartition()
	from, found := slices.BinarySearch(l.begins, offset)
	if !found {
		from--
	}
	to := min(from+rapid.IntRange(1, 4).Draw(t, "fetched"), len(l.batches))
	answer.RecordBatches = slices.Concat(l.batches[from:to]...)
	if to < len(l.batches) {
		answer.RecordBatches = append(answer.RecordBatches,
			l.batches[to][:rapid.IntRange(0, len(l.batches[to])-1).Draw(t, "cut off")]...)
	}
	for i, a := range l.aborted {
		if l.markers[i] >= offset {
			answer.AbortedTransactions = append(answer.AbortedTransactions, a)
		}
	}
	return &answer
}

func someBundler(t rapid.TB) *bundler {
	b, err := newBundler(1<<20, 64<<20)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func textOf(offset, time int64, key, value []byte, headers []pipeline.Header) string {
	return fmt.Sprintf("%d %d %v %q %v %q %q", offset, time, key == nil, key, value == nil, value, headers)
}

// readPlain is what the client makes of an answer.
func readPlain(t *rapid.T, answer *kmsg.FetchResponseTopicPartition, o kgo.ProcessFetchPartitionOpts) (out []string, next int64) {
	part, next := kgo.ProcessFetchPartition(o, answer, kgo.DefaultDecompressor(), nil)
	if part.Err != nil {
		t.Fatal(part.Err)
	}
	for _, r := range part.Records {
		if !r.Attrs.IsControl() {
			var headers []pipeline.Header
			for _, h := range r.Headers {
				headers = append(headers, pipeline.Header{Key: h.Key, Value: h.Value})
			}
			out = append(out, textOf(r.Offset, nanoseconds(r.Timestamp), r.Key, r.Value, headers))
		}
	}
	return out, next
}

// readBundled is the same by way of bundles. It gives the memory of the answer back.
func readBundled(t *rapid.T, answer *kmsg.FetchResponseTopicPartition, o kgo.ProcessFetchPartitionOpts, p *polled,
	place int64) (out []string, next int64) {
	o.Pools = []kgo.Pool{recordsOnly{p.bundles.memory}}
	part, next := kgo.ProcessFetchPartition(o, answer, p.bundles, nil)
	if part.Err != nil {
		t.Fatal(part.Err)
	}
	p.fetches = kgo.Fetches{{Topics: []kgo.FetchTopic{{Partitions: []kgo.FetchPartition{part}}}}}
	defer p.release()
	all, _ := p.unread(part.Records, place)
	var offsets []int64
	room := make([]pipeline.Record, rapid.IntRange(1, 5).Draw(t, "room"))
	for list := all.Read(room); len(list) > 0; list = all.Read(room) {
		for _, r := range list {
			out = append(out, textOf(r.Offset, r.Timestamp, r.Key, r.Value, r.Headers))
			offsets = append(offsets, r.Offset)
		}
	}
	if n := len(offsets); n != all.Len || n > 0 && (all.First != offsets[0] || all.Last != offsets[n-1]) {
		t.Fatalf("got offsets %d, told of %d from %d to %d", offsets, all.Len, all.First, all.Last)
	}
	return out, next
}

// Bundles hold what the client reads, wherever it begins: of all codecs, with aborted transactions, gaps that
// compaction left, and batches that are cut off. Where one ends with such a gap, one more fetch gets past it.
func TestBundlesAreWhatTheClientReads(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		log := drawLog(t)
		p := &polled{bundles: someBundler(t)}
		for round := range 2 { // the second time all batches have been seen
			begin := rapid.Int64Range(log.begins[0], log.end-1).Draw(t, "place")
			options := func(at int64) kgo.ProcessFetchPartitionOpts {
				return kgo.ProcessFetchPartitionOpts{KeepControlRecords: true, Offset: at, IsolationLevel: kgo.ReadCommitted()}
			}
			var want, got []string
			for at := begin; at < log.end; {
				out, next := readPlain(t, log.fetch(t, at), options(at))
				want, at = append(want, out...), next
			}
			stuck := 0
			for at, place := begin, begin; at < log.end; {
				out, next := readBundled(t, log.fetch(t, at), options(at), p, place)
				if stuck++; next > at {
					stuck = 0
				}
				if stuck > 1 {
					t.Fatalf("round %d: the client does not get beyond offset %d", round, at)
				}
				if len(out) > 0 {
					place = next
				}
				got, at = append(got, out...), next
			}
			if !slices.Equal(got, want) {
				t.Fatalf("round %d, from %d: got\n%q\nwant\n%q", round, begin, got, want)
			}
		}
	})
}

// Batches that are no sequence of records are the client's, and so are those of one record.
func TestBundlesLeaveTheRest(t *testing.T) {
	record := func(dst []byte, offset int32) []byte { return appendRecord(dst, 0, offset, []byte("k"), []byte("v")) }
	compressor, _ := kgo.DefaultCompressor(kgo.Lz4Compression())
	for name, raw := range map[string][]byte{
		"one": record(nil, 0), "back": record(record(nil, 1), 0), "twice": record(record(nil, 1), 1),
		"before": record(record(nil, -1), 0), "text": []byte("no records"),
	} {
		packed, codec := compressor.Compress(new(bytes.Buffer), raw)
		got, err := someBundler(t).Decompress(bytes.Clone(packed), codec)
		if err != nil || !bytes.Equal(got, raw) {
			t.Errorf("%s: got %q, %v, want %q", name, got, err, raw)
		}
	}
}

// A record that looks like one of a placeholder is a record, by itself and in a batch.
func TestPlaceholdersCannotBeForged(t *testing.T) {
	stranger, p := someBundler(t), &polled{bundles: someBundler(t)}
	var raw []byte
	for i := range 3 {
		raw = appendRecord(raw, 0, int32(i), []byte("k"), []byte("v"))
	}
	compressor, _ := kgo.DefaultCompressor(kgo.Lz4Compression())
	packed, codec := compressor.Compress(new(bytes.Buffer), raw)
	packed = bytes.Clone(packed)
	placeholder, err := stranger.Decompress(packed, codec)
	if err != nil || bytes.Equal(placeholder, raw) {
		t.Fatalf("got %q, %v, want a placeholder", placeholder, err)
	}
	for name, b := range map[string]kmsg.RecordBatch{
		"alone":  {Records: placeholder, NumRecords: 2, LastOffsetDelta: 2},
		"packed": {Attributes: int16(codec), NumRecords: 2, LastOffsetDelta: 2},
	} {
		if b.Records == nil {
			forged, _ := compressor.Compress(new(bytes.Buffer), placeholder)
			b.Records = bytes.Clone(forged)
		}
		answer := kmsg.NewFetchResponseTopicPartition()
		answer.RecordBatches = appendBatch(nil, b)
		part, _ := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{}, &answer, p.bundles, nil)
		all, _ := p.unread(part.Records, 0)
		list := all.Read(make([]pipeline.Record, 9))
		if len(list) != 2 || len(list[0].Key) != keySize || list[0].Offset != 0 || list[1].Offset != 2 {
			t.Errorf("%s: got %+v, %v, want the two records as they are", name, list, part.Err)
		}
	}
}

// FuzzEntry reads whatever there is as the client does.
func FuzzEntry(f *testing.F) {
	f.Add(appendRecord(nil, 1, 2, []byte("key"), []byte("value"), pipeline.Header{Key: "h", Value: []byte("of h")}))
	f.Add(appendRecord(nil, math.MinInt64, math.MaxInt32, nil, bytes.Repeat([]byte{7}, 300)))
	f.Add(appendRecord(nil, 7, 100, []byte("tenant-17"), make([]byte, 230)))
	f.Add(appendRecord(appendRecord(nil, -70_000, 1<<14, nil, make([]byte, 1<<14)), 0, 0, nil, nil))
	f.Add(append(appendRecord(nil, 1<<19, 1<<19, make([]byte, 70), make([]byte, 70)), make([]byte, 16)...))
	f.Add([]byte{4, 0, 0})
	f.Fuzz(func(t *testing.T, raw []byte) {
		const first = 1 << 40
		answer := kmsg.NewFetchResponseTopicPartition()
		answer.RecordBatches = appendBatch(nil, kmsg.RecordBatch{FirstOffset: first, NumRecords: 1, Records: raw})
		part, _ := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{}, &answer, kgo.DefaultDecompressor(), nil)
		var e entry
		if next := e.read(raw, 0); next < 0 || len(part.Records) == 0 {
			if next >= 0 || len(part.Records) > 0 {
				t.Fatalf("got a record that ends at %d, want %d records", next, len(part.Records))
			}
			return
		}
		o := opened{batch: raw, entries: []entry{e}, base: first, unit: 1e6}
		var room [1]pipeline.Record
		o.read(room[:], nil)
		got := &room[0]
		want, _ := single(part.Records[0], nil)
		if got, want := textOf(got.Offset, got.Timestamp, got.Key, got.Value, got.Headers), textOf(want.Offset, want.Timestamp, want.Key, want.Value, want.Headers); got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
	})
}

// What is set aside for the records of a batch follows from the batches before, those of one record among them.
func TestRoomForABatch(t *testing.T) {
	const size = 100_000
	batch := appendRecord(nil, 0, 0, nil, make([]byte, size))
	compressor, err := kgo.DefaultCompressor(kgo.SnappyCompression())
	if err != nil {
		t.Fatal(err)
	}
	src, codec := compressor.Compress(new(bytes.Buffer), batch)
	b := someBundler(t)
	for range 3 {
		if _, err := b.Decompress(src, codec); err != nil {
			t.Fatal(err)
		}
	}
	if got := cap(b.room(size)); got > 8 {
		t.Errorf("got room for %d records of a batch like those of one record, want a few at the most", got)
	}
}
