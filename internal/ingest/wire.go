package ingest

import (
	"errors"
	"math"
	"unsafe"

	"google.golang.org/protobuf/encoding/protowire"
)

// Remote write messages are walked by hand, field by field, into reused structs: the generated types of
// Prometheus would bring its module behind this door too, and cost an allocation per label.

var errWire = errors.New("not a protobuf message of the kind that Content-Type names")

// field is one field of a message: number is a varint's or fixed64's value, bytes a length-delimited one's.
type field struct {
	num    protowire.Number
	typ    protowire.Type
	number uint64
	bytes  []byte
}

// next takes the first field off b into f. Groups and fixed32 fields are skipped over: no message has any.
func (f *field) next(b []byte) (rest []byte, err error) {
	num, typ, n := protowire.Number(b[0]>>3), protowire.Type(b[0]&7), 1
	if b[0] >= 0x80 || num == 0 { // more than one byte, or wrong
		if num, typ, n = protowire.ConsumeTag(b); n < 0 {
			return nil, errWire
		}
	}
	b = b[n:]
	f.num, f.typ, f.number, f.bytes = num, typ, 0, nil
	switch {
	case typ == protowire.BytesType && len(b) > 0 && b[0] < 0x80: // shorter than 128 bytes, as nearly all are
		n = 1 + int(b[0])
		if n > len(b) {
			return nil, errWire
		}
		f.bytes = b[1:n]
		return b[n:], nil
	case typ == protowire.BytesType:
		f.bytes, n = protowire.ConsumeBytes(b)
	case typ == protowire.VarintType:
		f.number, n = protowire.ConsumeVarint(b)
	case typ == protowire.Fixed64Type:
		f.number, n = protowire.ConsumeFixed64(b)
	default:
		n = protowire.ConsumeFieldValue(num, typ, b)
	}
	if n < 0 {
		return nil, errWire
	}
	return b[n:], nil
}

// walk calls visit for every field of message. What is read once per sample or label has a loop of its own:
// there the calls would be half of the work.
func walk(message []byte, visit func(field) error) error {
	var f field
	for len(message) > 0 {
		rest, err := f.next(message)
		if err != nil {
			return err
		}
		if err := visit(f); err != nil {
			return err
		}
		message = rest
	}
	return nil
}

// expect tells whether f has the wire type its number must have.
func (f *field) expect(typ protowire.Type) error {
	if f.typ != typ {
		return errWire
	}
	return nil
}

func (f *field) double() float64 { return math.Float64frombits(f.number) }
func (f *field) int64() int64    { return int64(f.number) }
func (f *field) sint64() int64   { return protowire.DecodeZigZag(f.number) }

// appendVarints appends the values of a repeated varint field, packed or not.
func (f *field) appendVarints(dst []uint64) ([]uint64, error) {
	if f.typ == protowire.VarintType {
		return append(dst, f.number), nil
	}
	if f.typ != protowire.BytesType {
		return dst, errWire
	}
	for b := f.bytes; len(b) > 0; {
		v, n := protowire.ConsumeVarint(b)
		if n < 0 {
			return dst, errWire
		}
		dst, b = append(dst, v), b[n:]
	}
	return dst, nil
}

// appendDoubles appends the values of a repeated double field, packed or not.
func (f *field) appendDoubles(dst []float64) ([]float64, error) {
	if f.typ == protowire.Fixed64Type {
		return append(dst, f.double()), nil
	}
	if f.typ != protowire.BytesType || len(f.bytes)%8 != 0 {
		return dst, errWire
	}
	for b := f.bytes; len(b) > 0; b = b[8:] {
		v, _ := protowire.ConsumeFixed64(b)
		dst = append(dst, math.Float64frombits(v))
	}
	return dst, nil
}

// view is b as a string without a copy; it is valid as long as the request's body buffer, which nobody writes
// to while the request is handled.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
