package kafka

import (
	"encoding/binary"
	"errors"
	"slices"

	"github.com/pierrec/lz4/v4"
	"github.com/twmb/franz-go/pkg/kgo"
)

var _ kgo.Decompressor = (*unpacker)(nil)

// unpacker unpacks batches into memory. Frames of lz4, as producers write them, it takes apart itself: the client's reader of them
// unpacks into memory of its own, copies, and checks a sum that the batch's own has made sure of. Everything else is the client's.
type unpacker struct {
	memory *memory
	client kgo.Decompressor
}

// options make a client unpack into memory. Its records are to be recycled.
func (m *memory) options() []kgo.Opt {
	return []kgo.Opt{kgo.WithPools(m), kgo.WithHooks(m), kgo.WithDecompressor(&unpacker{m, kgo.DefaultDecompressor(m)})}
}

// Decompress implements kgo.Decompressor.
func (u *unpacker) Decompress(src []byte, codec kgo.CompressionCodecType) ([]byte, error) {
	if codec == kgo.CodecLz4 {
		dst := u.memory.GetDecompressBytes(src, codec)
		if out, ok := unframe(dst, src); ok {
			return out, nil
		}
		u.memory.PutDecompressBytes(dst)
	}
	return u.client.Decompress(src, codec)
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
	// maxUnpacked bounds what a batch may unpack to, as the client does.
	maxUnpacked = 1 << 30
)

// unframe appends to dst[:0] what the one frame of independent blocks that src is holds. It says no to anything else.
func unframe(dst, src []byte) (out []byte, ok bool) {
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
		if n > len(src) || n > most || len(dst) > maxUnpacked-most {
			return nil, false
		}
		if dst, ok = unblock(dst, src[:n], size&blockStored != 0, most); !ok {
			return nil, false
		}
		if src = src[n:]; flags&frameBlockSums != 0 {
			src = src[min(4, len(src)):]
		}
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
