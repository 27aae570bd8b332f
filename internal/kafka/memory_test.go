package kafka

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"unsafe"

	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"
)

// Slices have room for what was asked, nobody else has them, and no more is kept than was said.
func TestMemory(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		most := rapid.Int64Range(0, 4000).Draw(t, "most")
		s := newShelf[uint16](most)
		var out [][]uint16
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			if len(out) > 0 && rapid.Bool().Draw(t, "put") {
				i := rapid.IntRange(0, len(out)-1).Draw(t, "which")
				back := out[i]
				if rapid.IntRange(0, 9).Draw(t, "grown") == 0 {
					back = make([]uint16, 0, rapid.IntRange(0, 500).Draw(t, "capacity"))
				}
				s.put(back)
				out = append(out[:i], out[i+1:]...)
			} else {
				n := rapid.IntRange(0, 500).Draw(t, "n")
				got := s.get(n)
				if len(got) != 0 || cap(got) < n || cap(got) > max(n*5/4+2, 8) {
					t.Fatalf("asked for %d: got length %d, capacity %d", n, len(got), cap(got))
				}
				for _, other := range out {
					if cap(other) > 0 && unsafe.SliceData(other) == unsafe.SliceData(got) {
						t.Fatal("got a slice that is in use")
					}
				}
				out = append(out, got)
			}
			held := int64(0)
			for size, list := range s.free {
				held += 2 * int64(size) * int64(len(list))
			}
			if held != s.held || held > most {
				t.Fatalf("got %d bytes kept (%d told), want at most %d", held, s.held, most)
			}
		}
	})
}

// The client unpacks into memory that it has given back, of every codec, and what it says of a batch's size is enough.
func TestMemoryIsUsedAgain(t *testing.T) {
	var text []byte
	r := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		text = fmt.Appendf(text, `{"time":"2026-11-24T12:00:00Z","name":"m","value":%v,"labels":{"service":"checkout"}}`, r.ExpFloat64())
	}
	for name, codec := range map[string]kgo.CompressionCodec{
		"gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(),
		"zstd": kgo.ZstdCompression(),
	} {
		t.Run(name, func(t *testing.T) {
			compressor, err := kgo.DefaultCompressor(codec)
			if err != nil {
				t.Fatal(err)
			}
			packed, kind := compressor.Compress(new(bytes.Buffer), text)
			m := newMemory(1 << 30)
			unpack := kgo.DefaultDecompressor(m)
			var first *byte
			for i := range 4 {
				got, err := unpack.Decompress(packed, kind)
				if err != nil || !bytes.Equal(got, text) {
					t.Fatalf("got %d bytes, %v; want those that were packed", len(got), err)
				}
				m.OnFetchBatchRead(kgo.BrokerMetadata{}, "t", 0, kgo.FetchBatchMetrics{
					UncompressedBytes: len(text), CompressedBytes: len(packed), CompressionType: uint8(kind),
				})
				switch at := unsafe.SliceData(got); {
				case i == 2:
					first = at
				case i == 3 && at != first:
					t.Error("the memory of the batch before was not used")
				}
				m.PutDecompressBytes(got)
			}
		})
	}
}

// A batch that claims to be huge makes nothing huge be set aside.
func TestMemoryIsNotFooled(t *testing.T) {
	m := newMemory(1 << 30)
	lie := append([]byte{0xff, 0xff, 0xff, 0xff, 0x0f}, make([]byte, 100)...)
	if got := cap(m.GetDecompressBytes(lie, kgo.CodecSnappy)); got > 100<<10 {
		t.Errorf("got %d bytes for a batch of 105", got)
	}
}
