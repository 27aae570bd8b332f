package events

import (
	"encoding/binary"
	"math"
)

// Wire types of protobuf fields.
const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
	wireFixed32 = 5
)

// wireField is a field of a protobuf message.
type wireField struct {
	tag   uint64 // its number times eight, and its wire type
	value uint64 // of a number
	bytes []byte // of wireBytes
}

func (f *wireField) number() int { return int(f.tag >> 3) }
func (f *wireField) wire() int   { return int(f.tag & 7) }

func (f *wireField) double() float64 { return math.Float64frombits(f.value) }

// sint32 undoes the encoding of protobuf's sint32, which is cut off where it is longer.
func (f *wireField) sint32() int32 { return int32(uint32(f.value)>>1) ^ -int32(f.value&1) }

// cutField takes the first field of a message that is not empty. It is not ok when the message is not well-formed
// there, or has a group, which proto3 has not.
func cutField(b *[]byte) (f wireField, ok bool) {
	rest := *b
	f.tag = uint64(rest[0])
	n := 1
	if f.tag >= 0x80 {
		if f.tag, n = binary.Uvarint(rest); n <= 0 {
			return f, false
		}
	}
	if number := f.tag >> 3; number == 0 || number >= 1<<29 {
		return f, false
	}
	rest = rest[n:]
	switch f.tag & 7 {
	case wireVarint:
		if f.value, n = binary.Uvarint(rest); n <= 0 {
			return f, false
		}
		rest = rest[n:]
	case wireFixed64:
		if len(rest) < 8 {
			return f, false
		}
		f.value, rest = binary.LittleEndian.Uint64(rest), rest[8:]
	case wireBytes:
		var size uint64
		if n = 1; len(rest) > 0 && rest[0] < 0x80 {
			size = uint64(rest[0])
		} else if size, n = binary.Uvarint(rest); n <= 0 {
			return f, false
		}
		if size > uint64(len(rest)-n) {
			return f, false
		}
		f.bytes, rest = rest[n:n+int(size)], rest[n+int(size):]
	case wireFixed32:
		if len(rest) < 4 {
			return f, false
		}
		f.value, rest = uint64(binary.LittleEndian.Uint32(rest)), rest[4:]
	default:
		return f, false
	}
	*b = rest
	return f, true
}
