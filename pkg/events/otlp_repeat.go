package events

import (
	"encoding/binary"
	"math"
	"slices"

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
	s.digests = s.digests[:0]
	fits := w.repeatRequest(w.src.Value) && len(s.digests) > 0
	if fits && w.src.Repeats.findAll(s.digests, w.out.Repeats, &s.fetched) {
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

// repeatMetric passes over a gauge or a sum. What it and the message of its points say is one context.
func (w *work) repeatMetric(b []byte, context series.ID) bool {
	told := appendID(w.s.cutter.told[:0], context)
	var data []byte
	kind := uint64(0)
	for len(b) > 0 {
		before := b
		f, ok := cutField(&b)
		switch {
		case !ok:
			return false
		case f.tag == tagMetricGauge || f.tag == tagMetricSum:
			if kind != 0 { // two parts of one message, or of a choice
				return false
			}
			kind, data = f.tag, f.bytes
		case f.tag == tagMetricName || f.tag == tagMetricDescription || f.tag == tagMetricUnit || f.tag == tagMetricMetadata:
			told = append(told, before[:len(before)-len(b)]...)
		default:
			return false
		}
	}
	told = append(told, byte(kind)) // no field of a metric that stands before it has that tag
	found := false
	for rest := data; len(rest) > 0; {
		before := rest
		f, ok := cutField(&rest)
		switch {
		case !ok:
			return false
		case f.tag == tagPoints:
			found = true
		case f.tag == tagTemporality || f.tag == tagMonotonic:
			told = append(told, before[:len(before)-len(rest)]...)
		default:
			return false
		}
	}
	w.s.cutter.told = told
	context = w.otlpDigest(told)
	// Without points nothing of it would be looked up, and what is no protobuf in it not be found.
	return found && each(data, tagPoints, func(point []byte) bool { return w.repeatPoint(point, context) })
}

// repeatPoint passes over a data point with one time and one value. Its digest is that of its bytes with zeros for those and its start.
func (w *work) repeatPoint(b []byte, context series.ID) bool {
	s := w.s
	if len(s.digests) >= min(w.opts.MaxEvents, maxRecordLabels/max(w.opts.MaxLabels, 1)) {
		return false
	}
	told := append(appendID(s.cutter.told[:0], context), b...)
	s.cutter.told = told
	told = told[len(told)-len(b):]
	r := Repeat{Index: len(s.digests)}
	times, starts, values := 0, 0, 0
	for i := 0; i < len(b); {
		next, ok := passPointField(b, i)
		if !ok {
			return false
		}
		switch b[i] {
		case tagPointTime:
			times++
			r.Time = int64(takeFixed(told[i+1:]))
		case tagPointDouble:
			values++
			r.Value = math.Float64frombits(takeFixed(told[i+1:]))
		case tagPointInt:
			values++
			r.Value = float64(int64(takeFixed(told[i+1:])))
		case tagPointStart:
			starts++
			if start := takeFixed(told[i+1:]); start <= math.MaxInt64 {
				r.Start = int64(start)
			}
		}
		i = next
	}
	if times != 1 || starts > 1 || values != 1 || r.Time <= 0 || r.Value-r.Value != 0 {
		return false
	}
	s.digests = append(s.digests, w.otlpDigest(s.cutter.told))
	w.out.Repeats = append(w.out.Repeats, r)
	return true
}

// passPointField returns where the field of a data point ends that begins at i, when it is one that points known by their bytes may have.
func passPointField(b []byte, i int) (next int, ok bool) {
	switch b[i] {
	case tagPointTime, tagPointDouble, tagPointInt, tagPointStart:
		next = i + 9
		return next, next <= len(b)
	case tagPointAttributes, tagPointExemplars:
		if i+1 < len(b) && b[i+1] < 0x80 {
			next = i + 2 + int(b[i+1])
			return next, next <= len(b)
		}
	case tagPointFlags:
	default:
		return 0, false
	}
	rest := b[i:]
	_, ok = cutField(&rest)
	return len(b) - len(rest), ok
}

// takeFixed reads eight bytes and leaves zeros.
func takeFixed(b []byte) (v uint64) {
	v = binary.LittleEndian.Uint64(b)
	binary.LittleEndian.PutUint64(b, 0)
	return v
}

// otlpDigest hashes with another seed than that of JSON events: what one format says is nothing in the other.
func (w *work) otlpDigest(told []byte) series.ID { return series.HashSeeded(told, ^w.src.Repeats.seed) }

func appendID(dst []byte, id series.ID) []byte {
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(dst, id.Hi), id.Lo)
}

// contextOf hashes what a message says beside the fields with the tag inner, within what is around it. It is not ok when there is another field
// than inner and those of known, or none of inner.
func (w *work) contextOf(b []byte, around series.ID, inner uint64, known ...uint64) (series.ID, bool) {
	told, found := append(appendID(w.s.cutter.told[:0], around), byte(inner)), false
	for len(b) > 0 {
		before := b
		f, ok := cutField(&b)
		switch {
		case !ok:
			return series.ID{}, false
		case f.tag == inner:
			found = true
		case !slices.Contains(known, f.tag):
			return series.ID{}, false
		default:
			told = append(told, before[:len(before)-len(b)]...)
		}
	}
	w.s.cutter.told = told
	return w.otlpDigest(told), found
}

// each calls fn with the fields of that tag until it returns false. The message is one that contextOf has passed over.
func each(b []byte, tag uint64, fn func([]byte) bool) bool {
	for len(b) > 0 {
		if f, _ := cutField(&b); f.tag == tag && !fn(f.bytes) {
			return false
		}
	}
	return true
}
