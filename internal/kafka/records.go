package kafka

import (
	"unsafe"

	"github.com/twmb/franz-go/pkg/kbin"

	"github.com/vigie-io/vigie/internal/pipeline"
)

// entry is a record as it stands in an unpacked batch (https://kafka.apache.org/documentation/#record). It takes half a
// cache line.
type entry struct {
	time       int64 // milliseconds from the batch's on
	offset     int32 // from the batch's on
	headers    int32 // how many
	key, value span  // headers follow the value
}

// span is where bytes are in a batch, which has less than 1 GiB of them. A size below 0 is no bytes, which is not the
// same as none.
type span struct{ at, size int32 }

func (s span) of(b []byte) []byte {
	if s.size < 0 {
		return nil
	}
	end := s.at + s.size
	return b[s.at:end:end]
}

// end is where what stands before ends.
func (s span) end() int { return int(s.at) + int(max(0, s.size)) }

// read reads the record that begins at at, and says where the next does: below 0 where there is no whole record. It
// takes what the client takes.
func (e *entry) read(b []byte, at int) (next int) {
	if next = e.readUsual(b, at); next > 0 {
		return next
	}
	length, at := varint(b, at)
	next = at + int(length)
	if at < 0 || length < 0 || next > len(b) || at == next {
		return bad
	}
	b = b[:next]
	e.time, at = varlong(b, at+attributes)
	e.offset, at = varint(b, at)
	e.key, at = field(b, at)
	e.value, at = field(b, at)
	e.headers, at = varint(b, at)
	if at < 0 || int(e.headers) > next-at {
		return bad
	}
	for range 2 * max(0, e.headers) { // keys and values
		if _, at = field(b, at); at < 0 {
			return bad
		}
	}
	return next
}

// attributes of a record are of no use, and a byte.
const attributes = 1

// readUsual is read for records as nearly all are: with a key and a value, without headers, all numbers of one byte or
// two. It returns 0 for others.
func (e *entry) readUsual(b []byte, at int) (next int) {
	if at+numbersMost > len(b) {
		return 0
	}
	length, at := brief(b, at)
	next = at + int(length>>1)
	time, at := brief(b, at+attributes)
	offset, at := brief(b, at)
	key, at := brief(b, at)
	e.time, e.offset, e.headers, e.key = int64(zigzag(time)), zigzag(offset), 0, span{int32(at), zigzag(key)}
	if at += int(key >> 1); at+numbersMost > len(b) {
		return 0
	}
	value, at := brief(b, at)
	e.value = span{int32(at), zigzag(value)}
	at += int(value >> 1)
	const twoBytes, negative = 1<<14 - 1, 1
	if length|time|offset|key|value > twoBytes || (length|key|value)&negative != 0 {
		return 0
	}
	if at+1 != next || next > len(b) || b[at] != 0 { // how many headers there are is the last byte
		return 0
	}
	return next
}

// numbersMost is more than the numbers take that stand before a key.
const numbersMost = 16

// brief is the number at at of one byte or two, as it is written, and where it ends. If it has more it is 1<<14 at
// least.
func brief(b []byte, at int) (u uint32, end int) {
	if u = uint32(b[at]); u < 0x80 {
		return u, at + 1
	}
	return u&0x7f | uint32(b[at+1])<<7, at + 2
}

// appendHeaders appends the record's headers, as views.
func (e *entry) appendHeaders(dst []pipeline.Header, b []byte) []pipeline.Header {
	if e.headers <= 0 {
		return dst
	}
	_, at := varint(b, e.value.end())
	for range e.headers {
		var key, value span
		key, at = field(b, at)
		value, at = field(b, at)
		text := key.of(b)
		dst = append(dst, pipeline.Header{Key: unsafe.String(unsafe.SliceData(text), len(text)), Value: value.of(b)})
	}
	return dst
}

// field is where the bytes are whose size is at at, and where they end.
func field(b []byte, at int) (s span, end int) {
	s.size, at = varint(b, at)
	s.at = int32(at)
	end = at + int(max(0, s.size))
	if end > len(b) {
		end = bad
	}
	return s, end
}

// bad is where a number ends that cannot be read, and whatever follows it.
const bad = -1 << 40

// varint reads the number at at, and where it ends.
func varint(b []byte, at int) (n int32, end int) {
	if uint(at) < uint(len(b)) {
		u := uint32(b[at])
		if u < 0x80 {
			return zigzag(u), at + 1
		}
		if at++; at < len(b) && b[at] < 0x80 {
			return zigzag(u&0x7f | uint32(b[at])<<7), at + 1
		}
		if n, width := kbin.Varint(b[at-1:]); width > 0 {
			return n, at - 1 + width
		}
	}
	return 0, bad
}

func zigzag(u uint32) int32 { return int32(u>>1) ^ -int32(u&1) }

// varlong is varint of 64 bits.
func varlong(b []byte, at int) (n int64, end int) {
	if uint(at) < uint(len(b)) {
		if b[at] < 0x80 {
			return int64(zigzag(uint32(b[at]))), at + 1
		}
		if n, width := kbin.Varlong(b[at:]); width > 0 {
			return n, at + width
		}
	}
	return 0, bad
}
