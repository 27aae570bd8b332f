package pipeline

import (
	"encoding/binary"
	"math"
)

// appendFloat appends the bits of v, eight bytes.
func appendFloat(dst []byte, v float64) []byte {
	return binary.LittleEndian.AppendUint64(dst, math.Float64bits(v))
}

// readFloat reads what appendFloat wrote.
func readFloat(src []byte) float64 { return math.Float64frombits(binary.LittleEndian.Uint64(src)) }

// stateReader reads values from the front of src. What is not there reads as zeros, and is bad from then on.
type stateReader struct {
	src []byte
	bad bool
}

func (r *stateReader) skip(n int) {
	if n <= 0 || n > len(r.src) {
		r.bad, r.src = true, nil
		return
	}
	r.src = r.src[n:]
}

func (r *stateReader) uvarint() uint64 {
	v, n := binary.Uvarint(r.src)
	r.skip(n)
	return v
}

func (r *stateReader) varint() int64 {
	v, n := binary.Varint(r.src)
	r.skip(n)
	return v
}

func (r *stateReader) float() float64 {
	if len(r.src) < 8 {
		r.bad, r.src = true, nil
		return 0
	}
	v := readFloat(r.src)
	r.src = r.src[8:]
	return v
}

func (r *stateReader) byte() byte {
	if len(r.src) < 1 {
		r.bad = true
		return 0
	}
	b := r.src[0]
	r.src = r.src[1:]
	return b
}
