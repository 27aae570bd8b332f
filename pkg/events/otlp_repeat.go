package events

import (
	"encoding/binary"
	"math"

	"github.com/vigie-io/vigie/pkg/series"
)

// Fields of OTLP metrics, with their wire types, that records known by their bytes may have. All others, deprecated ones among them, go
// the long way.
const (
	tagResourceMetrics = 1<<3 | 2 // of the request

	tagResource     = 1<<3 | 2
	tagScopeMetrics = 2<<3 | 2
	tagScope        = 1<<3 | 2
	tagMetrics      = 2<<3 | 2
	tagSchemaURL    = 3<<3 | 2

	tagMetricName        = 1<<3 | 2
	tagMetricDescription = 2<<3 | 2
	tagMetricUnit        = 3<<3 | 2
	tagMetricGauge       = 5<<3 | 2
	tagMetricSum         = 7<<3 | 2
	tagMetricMetadata    = 12<<3 | 2

	tagPoints      = 1<<3 | 2
	tagTemporality = 2 << 3
	tagMonotonic   = 3 << 3

	tagPointStart      = 2<<3 | 1
	tagPointTime       = 3<<3 | 1
	tagPointDouble     = 4<<3 | 1
	tagPointExemplars  = 5<<3 | 2
	tagPointInt        = 6<<3 | 1
	tagPointAttributes = 7<<3 | 2
	tagPointFlags      = 8 << 3
)

// repeatOTLP passes over an OTLP request whose data points are all known, and puts them into the batch. Otherwise the batch is as before,
// and digests holds those of the record's data points when it has none but of gauges and sums.
//
// That is Repeats' argument once more: time, start and value are tokens of fixed length, and a data point means what the bytes of itself, of its metric,
// scope and resource mean, each without what they hold of others. A request that is not well-formed has a part that is not, and that
// part was in none that was learnt.
func (w *work) repeatOTLP() bool {
	s := w.s
	s.digests, s.unknown = s.digests[:0], false
	fits := w.repeatRequest(w.src.Value) && len(s.digests) > 0
	if fits && !s.unknown {
		w.out.Events = len(s.digests)
		s.digests = s.digests[:0]
		return true
	}
	w.out.Repeats = w.out.Repeats[:0]
	if !fits {
		s.digests = s.digests[:0]
	}
	return false
}

func (w *work) repeatRequest(b []byte) bool {
	for len(b) > 0 {
		f, ok := cutField(&b)
		if !ok || f.tag != tagResourceMetrics || !w.repeatResource(f.bytes) {
			return false
		}
	}
	return true
}

func (w *work) repeatResource(b []byte) bool {
	context, ok := w.contextOf(b, series.ID{}, tagScopeMetrics, tagResource, tagSchemaURL)
	if !ok {
		return false
	}
	return each(b, tagScopeMetrics, func(scope []byte) bool {
		context, ok := w.contextOf(scope, context, tagMetrics, tagScope, tagSchemaURL)
		return ok && each(scope, tagMetrics, func(metric []byte) bool { return w.repeatMetric(metric, context) })
	})
}

// repeatMetric passes over a gauge or a sum.
func (w *work) repeatMetric(b []byte, context series.ID) bool {
	data := byte(tagMetricGauge)
	if rest := b; !findField(rest, tagMetricGauge) {
		data = tagMetricSum
	}
	context, ok := w.contextOf(b, context, data, tagMetricName, tagMetricDescription, tagMetricUnit, tagMetricMetadata)
	if !ok {
		return false
	}
	several := false
	return each(b, data, func(points []byte) bool {
		if several { // two parts of one message, or of a choice
			return false
		}
		several = true
		context, ok := w.contextOf(points, context, tagPoints, tagTemporality, tagMonotonic)
		return ok && each(points, tagPoints, func(point []byte) bool { return w.repeatPoint(point, context) })
	})
}

// repeatPoint passes over a data point with one time and one value.
func (w *work) repeatPoint(b []byte, context series.ID) bool {
	s := w.s
	if len(s.digests) >= min(w.opts.MaxEvents, maxRecordLabels/max(w.opts.MaxLabels, 1)) {
		return false
	}
	r := Repeat{Index: len(s.digests)}
	told := appendID(s.cutter.told[:0], context)
	times, starts, values := 0, 0, 0
	for rest := b; len(rest) > 0; {
		before := rest
		f, ok := cutField(&rest)
		if !ok {
			return false
		}
		switch f.tag {
		case tagPointTime:
			times++
			told = append(told, f.tag)
			r.Time = int64(f.fixed)
		case tagPointDouble:
			values++
			told = append(told, f.tag)
			r.Value = math.Float64frombits(f.fixed)
		case tagPointInt:
			values++
			told = append(told, f.tag)
			r.Value = float64(int64(f.fixed))
		case tagPointStart:
			starts++
			told = append(told, f.tag)
			if f.fixed <= math.MaxInt64 {
				r.Start = int64(f.fixed)
			}
		case tagPointExemplars, tagPointAttributes, tagPointFlags:
			told = append(told, before[:len(before)-len(rest)]...)
		default:
			return false
		}
	}
	s.cutter.told = told
	if times != 1 || starts > 1 || values != 1 || r.Time <= 0 || r.Value-r.Value != 0 {
		return false
	}
	digest := w.otlpDigest(told)
	s.digests = append(s.digests, digest)
	if s.unknown {
		return true
	}
	ref, ok := w.src.Repeats.find(digest)
	if s.unknown = !ok; ok {
		r.Ref = ref
		w.out.Repeats = append(w.out.Repeats, r)
	}
	return true
}

// otlpDigest hashes with another seed than that of JSON events: what one format says is nothing in the other.
func (w *work) otlpDigest(told []byte) series.ID { return series.HashSeeded(told, ^w.src.Repeats.seed) }

func appendID(dst []byte, id series.ID) []byte {
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(dst, id.Hi), id.Lo)
}

// contextOf hashes what a message says beside the fields with the tag inner, within what is around it. It is not ok when there is another field
// than inner and those of known, or none of inner.
func (w *work) contextOf(b []byte, around series.ID, inner byte, known ...byte) (series.ID, bool) {
	told, found := append(appendID(w.s.cutter.told[:0], around), inner), false
	for len(b) > 0 {
		before := b
		f, ok := cutField(&b)
		switch {
		case !ok:
			return series.ID{}, false
		case f.tag == inner:
			found = true
		case indexByte(known, f.tag) < 0:
			return series.ID{}, false
		default:
			told = append(told, before[:len(before)-len(b)]...)
		}
	}
	w.s.cutter.told = told
	return w.otlpDigest(told), found
}

func indexByte(list []byte, tag byte) int {
	for i, t := range list {
		if t == tag {
			return i
		}
	}
	return -1
}

// each calls fn with the fields of that tag until it returns false. The message is one that contextOf has passed over.
func each(b []byte, tag byte, fn func([]byte) bool) bool {
	for len(b) > 0 {
		if f, _ := cutField(&b); f.tag == tag && !fn(f.bytes) {
			return false
		}
	}
	return true
}

func findField(b []byte, tag byte) bool {
	for len(b) > 0 {
		f, ok := cutField(&b)
		if !ok || f.tag == tag {
			return ok
		}
	}
	return false
}

// wireField is a field of a protobuf message.
type wireField struct {
	tag   byte
	fixed uint64 // of wire type 1
	bytes []byte // of wire type 2
}

// cutField takes the first field of a message. It is not ok when the message is not well-formed, or the field has a tag of more than
// one byte or a wire type that OTLP's metrics do not use.
func cutField(b *[]byte) (f wireField, ok bool) {
	rest := *b
	f.tag = rest[0]
	if rest = rest[1:]; f.tag >= 0x80 || f.tag < 1<<3 {
		return f, false
	}
	switch f.tag & 7 {
	case 0:
		_, n := binary.Uvarint(rest)
		if n <= 0 {
			return f, false
		}
		rest = rest[n:]
	case 1:
		if len(rest) < 8 {
			return f, false
		}
		f.fixed = binary.LittleEndian.Uint64(rest)
		rest = rest[8:]
	case 2:
		var size uint64
		n := 1
		if len(rest) > 0 && rest[0] < 0x80 {
			size = uint64(rest[0])
		} else if size, n = binary.Uvarint(rest); n <= 0 {
			return f, false
		}
		if size > uint64(len(rest)-n) {
			return f, false
		}
		f.bytes, rest = rest[n:n+int(size)], rest[n+int(size):]
	default:
		return f, false
	}
	*b = rest
	return f, true
}
