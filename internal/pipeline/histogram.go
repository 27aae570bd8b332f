package pipeline

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/vigie-io/vigie/pkg/events"
)

// ErrHistogram means that bytes are not what AppendHistogram writes.
var ErrHistogram = errors.New("decode histogram: not a histogram of this version")

const (
	histogramVersion = 1
	boundsVersion    = 2 // with bounds behind the buckets
)

// AppendHistogram appends the bytes of a histogram that is kept as a sample (Rollups.LastHist). Equal histograms have
// equal bytes. docs/format/histogram.md has the layout.
func AppendHistogram(dst []byte, h *events.Histogram) []byte {
	version := byte(histogramVersion)
	if h.Scale == events.CustomScale {
		version = boundsVersion
	}
	dst = append(dst, version)
	dst = binary.AppendVarint(dst, int64(h.Scale))
	for _, v := range [...]float64{h.ZeroThreshold, h.ZeroCount, h.Count, h.Sum, h.Min, h.Max} {
		dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(v))
	}
	dst = appendBuckets(dst, &h.Positive)
	dst = appendBuckets(dst, &h.Negative)
	if version == boundsVersion {
		dst = binary.AppendUvarint(dst, uint64(len(h.Bounds)))
		for _, bound := range h.Bounds {
			dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(bound))
		}
	}
	return dst
}

// appendBuckets writes offset, number and counts. Whole counts below 2^53 are uvarint(2n), so that usual ones take
// one or two bytes; all others are 0x01 and the float's bits.
func appendBuckets(dst []byte, b *events.Buckets) []byte {
	dst = binary.AppendVarint(dst, int64(b.Offset))
	dst = binary.AppendUvarint(dst, uint64(len(b.Counts)))
	for _, n := range b.Counts {
		if n >= 0 && n < 1<<53 && n == math.Trunc(n) && !(n == 0 && math.Signbit(n)) {
			dst = binary.AppendUvarint(dst, uint64(n)<<1)
			continue
		}
		dst = append(dst, 1)
		dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(n))
	}
	return dst
}

// DecodeHistogram reads what AppendHistogram wrote. Its error is ErrHistogram, wrapped. It allocates no more than
// a small multiple of len(bytes), whatever they say.
func DecodeHistogram(bytes string) (*events.Histogram, error) {
	d := histogramDecoder{rest: bytes}
	version := d.byte()
	if !d.bad && version != histogramVersion && version != boundsVersion {
		return nil, fmt.Errorf("%w: version %d", ErrHistogram, version)
	}
	h := &events.Histogram{Scale: d.int32()}
	for _, v := range [...]*float64{&h.ZeroThreshold, &h.ZeroCount, &h.Count, &h.Sum, &h.Min, &h.Max} {
		*v = d.float()
	}
	h.Positive, h.Negative = d.buckets(), d.buckets()
	if version == boundsVersion {
		h.Bounds = d.bounds()
	}
	if d.bad || len(d.rest) > 0 || (version == boundsVersion) != (h.Scale == events.CustomScale) {
		return nil, fmt.Errorf("%w: %d bytes", ErrHistogram, len(bytes))
	}
	return h, nil
}

// histogramDecoder reads from the front of rest; once bad it reads zeros.
type histogramDecoder struct {
	rest string
	bad  bool
}

func (d *histogramDecoder) take(n int) string {
	if d.bad || len(d.rest) < n {
		d.bad = true
		return "\x00\x00\x00\x00\x00\x00\x00\x00"[:n]
	}
	taken := d.rest[:n]
	d.rest = d.rest[n:]
	return taken
}

func (d *histogramDecoder) byte() byte { return d.take(1)[0] }

func (d *histogramDecoder) float() float64 {
	return math.Float64frombits(binary.LittleEndian.Uint64([]byte(d.take(8))))
}

func (d *histogramDecoder) uvarint() (v uint64) {
	for shift := 0; shift < 64; shift += 7 {
		b := d.byte()
		if shift == 63 && b > 1 {
			break
		}
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return v
		}
	}
	d.bad = true
	return 0
}

func (d *histogramDecoder) int32() int32 {
	u := d.uvarint()
	v := int64(u>>1) ^ -int64(u&1)
	if v < math.MinInt32 || v > math.MaxInt32 {
		d.bad = true
	}
	return int32(v)
}

func (d *histogramDecoder) buckets() (b events.Buckets) {
	b.Offset = d.int32()
	n := d.uvarint()
	if n > uint64(len(d.rest)) { // every count takes a byte or more
		d.bad = true
		return b
	}
	if n > 0 {
		b.Counts = make([]float64, n)
	}
	for i := range b.Counts {
		switch u := d.uvarint(); {
		case u == 1:
			b.Counts[i] = d.float()
		case u&1 == 1:
			d.bad = true
		default:
			b.Counts[i] = float64(u >> 1)
		}
	}
	return b
}

func (d *histogramDecoder) bounds() []float64 {
	n := d.uvarint()
	if n > uint64(len(d.rest)/8) {
		d.bad = true
		return nil
	}
	list := make([]float64, n)
	for i := range list {
		list[i] = d.float()
	}
	return list
}
