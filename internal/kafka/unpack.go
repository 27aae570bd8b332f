package kafka

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"unsafe"

	"github.com/pierrec/lz4/v4"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/vigie-io/vigie/internal/pipeline"
	"github.com/vigie-io/vigie/internal/units"
)

var _ kgo.Decompressor = (*unpacker)(nil)

// unpacker unpacks batches into memory. Frames of lz4, as producers write them, it takes apart itself: the client's
// reader of them unpacks into memory of its own, copies, and checks a sum that the batch's own has made sure of.
// Everything else is the client's.
type unpacker struct {
	memory *memory
	client kgo.Decompressor
	most   int // bytes that a batch may unpack to
}

func newUnpacker(m *memory, most int) (*unpacker, error) {
	client, err := boundedDecompressor(m, most)
	return &unpacker{m, client, most}, err
}

// boundedDecompressor is the client's own for batches of at most so many bytes. It makes one for a client only.
func boundedDecompressor(m *memory, most int) (kgo.Decompressor, error) {
	client, err := kgo.NewClient(kgo.WithPools(m), kgo.MaxDecompressBatchBytes(most))
	if err != nil {
		return nil, fmt.Errorf("kafka client: %w", err)
	}
	defer client.Close()
	return client.OptValue(kgo.WithDecompressor).(kgo.Decompressor), nil
}

// options make a client unpack into memory, batches of at most so many bytes. Its records are to be recycled. What
// becomes of batches that are refused: takeRefused.
func (m *memory) options(most int) ([]kgo.Opt, error) {
	u, err := newUnpacker(m, most)
	return []kgo.Opt{kgo.WithPools(m), kgo.WithHooks(m), kgo.WithDecompressor(u)}, err
}

// Decompress implements kgo.Decompressor. Of our own batches it skips none, and errors stay what they are.
func (u *unpacker) Decompress(src []byte, codec kgo.CompressionCodecType) ([]byte, error) {
	if u.most == unbounded {
		return u.bytes(src, codec)
	}
	out, err := u.unpack(src, codec)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errRefused, err)
	}
	return out, nil
}

func (u *unpacker) unpack(src []byte, codec kgo.CompressionCodecType) ([]byte, error) {
	out, err := u.bytes(src, codec)
	switch {
	case errors.Is(err, kgo.ErrMaxDecompress):
		return nil, fmt.Errorf("it unpacks to more than kafka.max_unpacked (%s)", units.Bytes(u.most))
	case err != nil:
		return nil, err
	case len(out) > lightBatch && footprint(out) > heaviest*u.most:
		clear(out)
		u.memory.PutDecompressBytes(out)
		return nil, fmt.Errorf("its records and headers take more than %d times kafka.max_unpacked (%s) in memory",
			heaviest, units.Bytes(u.most))
	}
	return out, nil
}

func (u *unpacker) bytes(src []byte, codec kgo.CompressionCodecType) ([]byte, error) {
	if codec == kgo.CodecLz4 {
		dst := u.memory.GetDecompressBytes(src, codec)
		if out, ok := unframe(dst, src, u.most); ok {
			return out, nil
		}
		u.memory.PutDecompressBytes(dst)
	}
	return u.client.Decompress(src, codec)
}

const (
	// heaviest is how many times max_unpacked the records of a batch may take in memory: those of events take less than
	// twice their bytes, but a record or a header of none takes thirty times its own.
	heaviest = 4
	// lightBatch is what batches are not looked at up to: about 40 times as much is the worst that they can take.
	lightBatch = 1 << 20
)

// footprint is about what the records in unpacked take in memory, the client's and the pipeline's.
func footprint(unpacked []byte) int {
	const (
		record = int(unsafe.Sizeof(kgo.Record{}) + unsafe.Sizeof(pipeline.Record{}))
		header = int(unsafe.Sizeof(kgo.RecordHeader{}) + unsafe.Sizeof(pipeline.Header{}))
	)
	total := len(unpacked)
	for len(unpacked) > 0 {
		size, n := binary.Varint(unpacked)
		if n <= 0 || size < 0 || size > int64(len(unpacked)-n) {
			break // the client ends here, too
		}
		total += record + header*headers(unpacked[n:n+int(size)])
		unpacked = unpacked[n+int(size):]
	}
	return total
}

// headers is how many a record has: behind its attributes, the deltas of its time and offset, key and value.
func headers(record []byte) int {
	if len(record) == 0 {
		return 0
	}
	record = record[1:]
	for field := range 5 {
		v, n := binary.Varint(record)
		if n <= 0 {
			return 0
		}
		record = record[n:]
		switch {
		case field == 4:
			return int(min(max(v, 0), int64(len(record)))) // each takes bytes
		case field >= 2 && v > int64(len(record)):
			return 0
		case field >= 2:
			record = record[max(v, 0):]
		}
	}
	return 0
}

// The format of frames: https://github.com/lz4/lz4/blob/dev/doc/lz4_Frame_format.md.
const (
	frameMagic = 0x184D2204
	// In the byte after the magic number.
	frameVersion     = 0xc0
	frameVersionOne  = 0x40
	frameIndependent = 1 << 5 // blocks do not refer to those before
	frameBlockSums   = 1 << 4
	frameSize        = 1 << 3 // of the content, is in the header
	frameSum         = 1 << 2 // of the content, is behind the blocks
	frameRest        = 3      // reserved, and a dictionary

	blockStored = 1 << 31 // in its size: it is not compressed
)

// unframe appends to dst[:0] what the one frame of independent blocks that src is holds. It says no to anything else,
// and to what holds more than so many bytes.
func unframe(dst, src []byte, limit int) (out []byte, ok bool) {
	if len(src) < 7 || binary.LittleEndian.Uint32(src) != frameMagic {
		return nil, false
	}
	flags := src[4]
	if flags&(frameVersion|frameIndependent|frameRest) != frameVersionOne|frameIndependent {
		return nil, false
	}
	most := 1 << (8 + 2*(src[5]>>4&7)) // of a block, unpacked
	src = src[6:]
	if flags&frameSize != 0 {
		src = src[min(8, len(src)):]
	}
	src = src[min(1, len(src)):] // sum of the header
	dst = dst[:0]
	for {
		if len(src) < 4 {
			return nil, false
		}
		size := binary.LittleEndian.Uint32(src)
		src = src[4:]
		if size == 0 {
			break
		}
		n := int(size &^ blockStored)
		if n > len(src) || n > most || len(dst) > limit {
			return nil, false
		}
		if dst, ok = unblock(dst, src[:n], size&blockStored != 0, most); !ok {
			return nil, false
		}
		if src = src[n:]; flags&frameBlockSums != 0 {
			src = src[min(4, len(src)):]
		}
	}
	if len(dst) > limit {
		return nil, false
	}
	if flags&frameSum != 0 {
		return dst, len(src) == 4
	}
	return dst, len(src) == 0
}

// unblock appends what a block holds, at most so many bytes.
func unblock(dst, block []byte, stored bool, most int) ([]byte, bool) {
	if stored {
		return append(dst, block...), true
	}
	for want := len(block) + 64; ; want *= 4 { // memory is mostly made large enough; without any, UncompressBlock crashes
		if cap(dst)-len(dst) < min(want, most) {
			dst = slices.Grow(dst, min(4*want, most))
		}
		room := dst[len(dst):min(cap(dst), len(dst)+most)]
		n, err := lz4.UncompressBlock(block, room)
		if err == nil {
			return dst[:len(dst)+n], true
		}
		// What is too short for a block looks like a bad block.
		if !errors.Is(err, lz4.ErrInvalidSourceShortBuffer) || len(room) == most {
			return nil, false
		}
		want = max(want, len(room))
	}
}
