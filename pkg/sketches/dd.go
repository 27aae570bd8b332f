package sketches

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// ErrState means that bytes are not a quantilesDD state that this package could have written or merged.
var ErrState = errors.New("decode quantilesDD state")

// Flags of the state (docs/format/sketch.md).
const (
	flagMapping    = 0x02 // logarithmic mapping: γ and offset follow
	flagPositive   = 0x01
	flagNegative   = 0x03
	flagZero       = 0x04
	flagSparse     = 0x04 // pairs of (distance from the bucket before, count)
	flagContiguous = 0x0C // first bucket, step, counts
)

// AppendDD appends the state of ClickHouse's quantilesDD that holds this sketch: the bytes
// of one value of an AggregateFunction column in Native and RowBinary, which have no length in front.
// ClickHouse's bucket numbers are ours. The same content gives the same bytes, however it came together.
func (s *Sketch) AppendDD(dst []byte) []byte {
	dst = appendHead(dst)
	dst = appendStore(dst, &s.positive)
	dst = append(dst, flagNegative)
	dst = appendStore(dst, s.negative)
	dst = append(dst, flagZero)
	return appendFloat(dst, s.zero)
}

// appendHead is what stands in front of the store of positive values.
func appendHead(dst []byte) []byte {
	dst = append(dst, flagMapping)
	dst = appendFloat(dst, Gamma)
	dst = appendFloat(dst, 0)
	return append(dst, flagPositive)
}

// DecodeDD replaces the sketch by the state at the beginning of src and returns the length of that state.
// It takes what AppendDD writes and what ClickHouse makes of it by merging; for anything else, another γ
// included, it returns an error wrapping ErrState and leaves the sketch empty. Counts in Clamped are not part
// of a state. src is not retained.
func (s *Sketch) DecodeDD(src []byte) (n int, err error) {
	s.Reset()
	if n, err = s.MergeDD(src); err != nil {
		s.Reset()
	}
	return n, err
}

// MergeDD adds the state at the beginning of src, and returns its length. Errors are those of DecodeDD; the sketch then
// holds a part of it, so a state of which it is not known should be measured before.
func (s *Sketch) MergeDD(src []byte) (n int, err error) {
	d := decoder{rest: src, is: ErrState}
	zero := d.state(func(i int32, n float64) { s.positive.add(i, n) }, func(i int32, n float64) { s.negatives().add(i, n) })
	if d.err != nil {
		return 0, d.err
	}
	s.zero += zero
	return len(src) - len(d.rest), nil
}

// WalkDD reads the state at the beginning of src without making a sketch of it: it calls positive and negative for
// every bucket with a count, indexes ascending, and returns the count of zeros and the length of the state. Errors are
// those of DecodeDD; buckets may have been given before one is found.
func WalkDD(src []byte, positive, negative func(i int32, n float64)) (zero float64, n int, err error) {
	d := decoder{rest: src, is: ErrState}
	if zero = d.state(positive, negative); d.err != nil {
		return 0, 0, d.err
	}
	return zero, len(src) - len(d.rest), nil
}

// MeasureDD returns the length of the state at the beginning of src, and the errors of DecodeDD, without making a
// sketch of it.
func MeasureDD(src []byte) (n int, err error) {
	d := decoder{rest: src, is: ErrState}
	if d.state(nil, nil); d.err != nil {
		return 0, d.err
	}
	return len(src) - len(d.rest), nil
}

// state reads a state, buckets into positive and negative, which may be nil, and returns its count of zeros.
func (d *decoder) state(positive, negative func(i int32, n float64)) (zero float64) {
	d.expect(flagMapping, "mapping")
	if gamma, offset := d.float(), d.float(); d.err == nil && (gamma != Gamma || offset != 0) {
		d.fail("mapping γ %v offset %v: want γ %v offset 0; write the column type with the literal %v",
			gamma, offset, Gamma, Alpha)
	}
	d.expect(flagPositive, "positive store")
	d.store(positive)
	d.expect(flagNegative, "negative store")
	d.store(negative)
	d.expect(flagZero, "zero count")
	return d.count()
}

func appendStore(dst []byte, st *store) []byte {
	used, least, greatest := st.extent()
	width := int(greatest-least) + 1
	if used == 0 || !contiguous(used, width) {
		dst = append(dst, flagSparse)
		dst = binary.AppendUvarint(dst, uint64(used))
		previous := int32(0)
		for i, n := range st.all() {
			dst = binary.AppendVarint(dst, int64(i-previous))
			dst = appendFloat(dst, n)
			previous = i
		}
		return dst
	}
	dst = append(dst, flagContiguous)
	dst = binary.AppendUvarint(dst, uint64(width))
	dst = binary.AppendVarint(dst, int64(least))
	dst = binary.AppendVarint(dst, 1)
	next := least
	for i, n := range st.all() {
		for ; next < i; next++ {
			dst = appendFloat(dst, 0)
		}
		dst = appendFloat(dst, n)
		next++
	}
	return dst
}

// contiguous says how to write a store that uses so many of so many buckets: a sparse bucket costs its count and mostly
// one byte more; a contiguous one its count, empty or not.
func contiguous(used, width int) bool { return 9*used >= 8*width }

func appendFloat(dst []byte, v float64) []byte {
	return binary.LittleEndian.AppendUint64(dst, math.Float64bits(v))
}

// decoder reads a state; after the first error it reads zeros.
type decoder struct {
	rest []byte
	is   error // what an error wraps
	err  error
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: %s", d.is, fmt.Sprintf(format, args...))
	}
	d.rest = nil
}

func (d *decoder) byte() byte {
	if len(d.rest) == 0 {
		d.fail("unexpected end")
		return 0
	}
	b := d.rest[0]
	d.rest = d.rest[1:]
	return b
}

// bytes takes the next n; they are those of the source.
func (d *decoder) bytes(n uint64) []byte {
	if n > uint64(len(d.rest)) {
		d.fail("unexpected end")
		return nil
	}
	taken := d.rest[:n]
	d.rest = d.rest[n:]
	return taken
}

func (d *decoder) expect(flag byte, what string) {
	if got := d.byte(); d.err == nil && got != flag {
		d.fail("%s: got flag %#02x, want %#02x", what, got, flag)
	}
}

func (d *decoder) float() float64 {
	if len(d.rest) < 8 {
		d.fail("unexpected end")
		return 0
	}
	v := math.Float64frombits(binary.LittleEndian.Uint64(d.rest))
	d.rest = d.rest[8:]
	return v
}

func (d *decoder) count() float64 {
	n := d.float()
	if !(n >= 0) || math.IsInf(n, 1) {
		d.fail("count %v: want a finite number of at least 0", n)
		return 0
	}
	return n
}

func (d *decoder) uvarint() uint64 {
	v, width := binary.Uvarint(d.rest)
	if width <= 0 {
		d.fail("unexpected end or overlong number")
		return 0
	}
	d.rest = d.rest[width:]
	return v
}

func (d *decoder) varint() int64 {
	v, width := binary.Varint(d.rest)
	if width <= 0 {
		d.fail("unexpected end or overlong number")
		return 0
	}
	d.rest = d.rest[width:]
	return v
}

// store reads one store and calls add, unless it is nil, for every bucket with a count. The announced length allocates
// nothing: the bytes must be there.
func (d *decoder) store(add func(i int32, n float64)) {
	switch flag := d.byte(); flag {
	case flagContiguous:
		d.contiguous(add)
	case flagSparse:
		d.sparse(add)
	default:
		d.fail("store: got encoding %#02x, want %#02x or %#02x", flag, flagSparse, flagContiguous)
	}
}

func (d *decoder) contiguous(add func(i int32, n float64)) {
	// ClickHouse writes an empty store so, with its greatest int as the first bucket.
	left, at, step := d.uvarint(), d.varint(), d.varint()
	if left > 0 && step != 1 {
		d.fail("store: got a step of %d buckets, want 1", step)
	}
	for ; left > 0 && d.err == nil; left-- {
		d.bucket(at, d.count(), add)
		at++
	}
}

func (d *decoder) sparse(add func(i int32, n float64)) {
	left := d.uvarint()
	for at := int64(0); left > 0 && d.err == nil; left-- {
		if left, at = d.plain(left, at, add); left == 0 {
			return
		}
		distance := d.varint()
		// Bounding the distance keeps the sum from overflowing.
		if distance > MaxIndex-MinIndex || distance < MinIndex {
			d.fail("store: got a distance of %d buckets, want %d to %d", distance, MinIndex, MaxIndex-MinIndex)
			return
		}
		at += distance
		d.bucket(at, d.count(), add)
	}
}

// plain reads buckets of a sparse store as nearly all are: with a distance of one byte and a good count. It stops
// before another one, and returns how many are left and the last bucket.
func (d *decoder) plain(left uint64, at int64, add func(i int32, n float64)) (uint64, int64) {
	rest := d.rest
	for ; left > 0 && len(rest) >= 9 && rest[0] < 0x80; left-- {
		bits := binary.LittleEndian.Uint64(rest[1:])
		next := at + (int64(rest[0]>>1) ^ -int64(rest[0]&1))
		if bits-1 >= infinity-1 || next < MinIndex || next > MaxIndex {
			break
		}
		at, rest = next, rest[9:]
		if add != nil {
			add(int32(at), math.Float64frombits(bits))
		}
	}
	d.rest = rest
	return left, at
}

// infinity is the first of the bits that are no count; those below it, but zero, are finite and above zero.
const infinity = 0x7ff << 52

func (d *decoder) bucket(at int64, n float64, add func(i int32, n float64)) {
	switch {
	case d.err != nil || n == 0:
	case at < MinIndex || at > MaxIndex:
		d.fail("store: got bucket %d, want %d to %d", at, MinIndex, MaxIndex)
	case add != nil:
		add(int32(at), n)
	}
}
