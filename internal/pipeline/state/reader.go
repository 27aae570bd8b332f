package state

import (
	"encoding/binary"
	"math"
)

// AppendFloat appends the bits of v, eight bytes.
func AppendFloat(dst []byte, v float64) []byte {
	return binary.LittleEndian.AppendUint64(dst, math.Float64bits(v))
}

// Reader reads values from the front of Rest. What is not there reads as zeros, and Bad says so from then on.
type Reader struct {
	Rest []byte
	Bad  bool
}

// Skip leaves n bytes out; n below 1 is bad, as what binary.Uvarint says of bad input.
func (r *Reader) Skip(n int) {
	if n <= 0 || n > len(r.Rest) {
		r.Bad, r.Rest = true, nil
		return
	}
	r.Rest = r.Rest[n:]
}

// Uvarint reads a number as binary.AppendUvarint writes it.
func (r *Reader) Uvarint() uint64 {
	v, n := binary.Uvarint(r.Rest)
	r.Skip(n)
	return v
}

// Varint reads a number as binary.AppendVarint writes it.
func (r *Reader) Varint() int64 {
	v, n := binary.Varint(r.Rest)
	r.Skip(n)
	return v
}

// Float reads what AppendFloat wrote.
func (r *Reader) Float() float64 {
	if len(r.Rest) < 8 {
		r.Bad, r.Rest = true, nil
		return 0
	}
	v := math.Float64frombits(binary.LittleEndian.Uint64(r.Rest))
	r.Rest = r.Rest[8:]
	return v
}

// Byte reads one byte.
func (r *Reader) Byte() byte {
	if len(r.Rest) < 1 {
		r.Bad = true
		return 0
	}
	b := r.Rest[0]
	r.Rest = r.Rest[1:]
	return b
}
