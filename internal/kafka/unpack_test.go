package kafka

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/pierrec/lz4/v4"
	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"
)

// frame packs content as producers do.
func frame(t testing.TB, content []byte, options ...lz4.Option) []byte {
	t.Helper()
	var out bytes.Buffer
	w := lz4.NewWriter(&out)
	if err := w.Apply(options...); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// events are lines that compress as real ones do.
func someEvents(n int) (out []byte) {
	for i := range n {
		out = fmt.Appendf(out, `{"tenant":"t%d","name":"checkout_seconds","value":%d.%d,"time":%d,"labels":{"service":"shop","pod":"p-%d"}}`+"\n", i%7, i*i%977, i*7919%1000, 1764000000000+i, i%101)
	}
	return out
}

// Frames of independent blocks are unpacked without the client's reader, whatever else they say, and give what was
// packed.
func TestUnframe(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		var content []byte
		switch rapid.IntRange(0, 2).Draw(r, "kind") {
		case 0:
			content = rapid.SliceOfN(rapid.Byte(), 0, 2000).Draw(r, "random")
		case 1:
			content = someEvents(rapid.IntRange(1, 3000).Draw(r, "events"))
		default:
			content = make([]byte, rapid.IntRange(1, 1<<20).Draw(r, "zeros"))
		}
		options := []lz4.Option{
			lz4.BlockSizeOption(rapid.SampledFrom([]lz4.BlockSize{lz4.Block64Kb, lz4.Block256Kb, lz4.Block1Mb, lz4.Block4Mb}).Draw(r, "block")),
			lz4.BlockChecksumOption(rapid.Bool().Draw(r, "block sums")), lz4.ChecksumOption(rapid.Bool().Draw(r, "sum")),
			lz4.CompressionLevelOption(rapid.SampledFrom([]lz4.CompressionLevel{lz4.Fast, lz4.Level5}).Draw(r, "level")),
		}
		if rapid.Bool().Draw(r, "size") {
			options = append(options, lz4.SizeOption(uint64(len(content))))
		}
		packed := frame(t, content, options...)
		before := make([]byte, 0, rapid.IntRange(0, 2*len(content)+8).Draw(r, "room"))
		got, ok := unframe(before, packed, 1<<30)
		if !ok || !bytes.Equal(got, content) {
			r.Fatalf("got %d bytes, %v, want the %d that were packed", len(got), ok, len(content))
		}
		cut := rapid.IntRange(0, len(packed)-1).Draw(r, "cut")
		if _, ok := unframe(before, packed[:cut], 1<<30); ok {
			r.Fatalf("%d of %d bytes: got a frame", cut, len(packed))
		}
	})
}

// What is not one frame of independent blocks goes to the client, which knows it or says what is wrong.
func TestUnpackerLeavesTheRest(t *testing.T) {
	content := someEvents(100)
	packed := frame(t, content)
	linked := bytes.Clone(packed)
	linked[4] &^= frameIndependent
	for name, src := range map[string][]byte{
		"linked": linked, "two": append(bytes.Clone(packed), packed...), "tail": append(bytes.Clone(packed), 1),
		"magic": append([]byte{1}, packed[1:]...), "nothing": nil,
	} {
		if _, ok := unframe(nil, src, 1<<30); ok {
			t.Errorf("%s: got a frame", name)
		}
	}
	memory := newMemory(1 << 20)
	u := unpacker{memory, kgo.DefaultDecompressor(memory), 1 << 30}
	if got, err := u.Decompress(append(bytes.Clone(packed), packed...), kgo.CodecLz4); err != nil ||
		!bytes.Equal(got, append(bytes.Clone(content), content...)) {
		t.Errorf("two frames: got %d bytes, %v, want twice %d", len(got), err, len(content))
	}
	if _, err := u.Decompress(packed[:len(packed)-5], kgo.CodecLz4); err == nil {
		t.Error("a frame that is cut off: got no error")
	}
	if got, err := u.Decompress(content, kgo.CodecNone); err != nil || !bytes.Equal(got, content) {
		t.Errorf("no compression: got %d bytes, %v", len(got), err)
	}
}

// A block that says it is larger than blocks of its frame may be is no reason to set memory aside.
func TestUnframeBoundsBlocks(t *testing.T) {
	packed := frame(t, make([]byte, 100_000), lz4.BlockSizeOption(lz4.Block1Mb))
	packed[5] = packed[5]&0x8f | 4<<4 // of 64 kB at most
	if out, ok := unframe(nil, packed, 1<<30); ok {
		t.Errorf("got %d bytes of a block of 64 kB", len(out))
	}
	huge := binary.LittleEndian.AppendUint32(bytes.Clone(packed[:7]), 1<<30)
	if _, ok := unframe(nil, huge, 1<<30); ok {
		t.Error("got a block of 1 GiB")
	}
}

// What the client's reader takes, unframe gives the same of or leaves to it.
func FuzzUnframe(f *testing.F) {
	f.Add(frame(f, someEvents(20)))
	f.Add(frame(f, someEvents(3), lz4.BlockChecksumOption(true), lz4.BlockSizeOption(lz4.Block64Kb)))
	f.Add(frame(f, nil))
	f.Fuzz(func(t *testing.T, src []byte) {
		got, ok := unframe(nil, src, 1<<30)
		want, err := kgo.DefaultDecompressor().Decompress(src, kgo.CodecLz4)
		if ok && err == nil && !bytes.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// BenchmarkUnpack unpacks a batch of events in lz4, 500 kB of them, into memory that earlier ones have left.
func BenchmarkUnpack(b *testing.B) {
	const records = 4000
	packed := frame(b, someEvents(records))
	for _, with := range []string{"client", "own"} {
		b.Run(with, func(b *testing.B) {
			memory := newMemory(64 << 20)
			u := kgo.DefaultDecompressor(memory)
			if with == "own" {
				u = &unpacker{memory, u, 1 << 30}
			}
			memory.OnFetchBatchRead(kgo.BrokerMetadata{}, "", 0, kgo.FetchBatchMetrics{
				CompressedBytes: len(packed), UncompressedBytes: len(someEvents(records)), CompressionType: uint8(kgo.CodecLz4),
			})
			b.ReportAllocs()
			for b.Loop() {
				out, err := u.Decompress(packed, kgo.CodecLz4)
				if err != nil {
					b.Fatal(err)
				}
				memory.PutDecompressBytes(out)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/records, "ns/record")
		})
	}
}
