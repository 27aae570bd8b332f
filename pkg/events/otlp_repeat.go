package events

import (
	"encoding/binary"
	"math"
	"slices"

	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"

	"github.com/vigie-io/vigie/pkg/series"
)

// Fields of OTLP metrics, with their wire types, that requests may have of which data points are known by their bytes.
// With any other, deprecated ones among them, the whole request is unmarshalled.
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
	tagMetricHistogram   = 9<<3 | 2
	tagMetricExponential = 10<<3 | 2
	tagMetricSummary     = 11<<3 | 2
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

// repeatOTLP decodes an OTLP request part by part: data points that are known go into the batch as they are, plain ones
// are decoded here, and a request of only the others is unmarshalled. Otherwise the batch is as before, and digests
// holds those of the request's data points, if they could be told.
//
// That is Repeats' argument once more: time, start and value are tokens of fixed length, and a data point means what
// the bytes of itself, of its metric, scope and resource mean, each without what they hold of others. A request that is
// not well-formed has a part that is not, and that part was in none that was learnt.
func (w *work) repeatOTLP() bool {
	s, r := w.s, w.src.Repeats
	s.digests, s.points = s.digests[:0], s.points[:0]
	if !w.repeatRequest(w.src.Value) || len(s.digests) == 0 {
		s.digests, w.out.Repeats = s.digests[:0], w.out.Repeats[:0]
		return false
	}
	if r.findAll(s.digests, w.out.Repeats, &s.fetched) == len(s.digests) {
		w.out.Events = len(s.digests)
	} else if !w.repeatSome() {
		w.out.empty()
		return false
	}
	s.digests = s.digests[:0]
	return true
}

// repeatSome decodes what is not known. It says no when that is no request, or when the record may have too much, of
// which what is known does not decide.
func (w *work) repeatSome() bool {
	w.found, w.out.Repeats = w.out.Repeats, w.out.Repeats[:0]
	defer func() { w.found = nil }()
	w.markPlain()
	rest := w.s.points
	w.s.request, _ = prune(w.s.request[:0], w.src.Value, 0, &rest)
	request := pmetricotlp.NewExportRequest()
	if request.UnmarshalProto(w.s.request) != nil || !w.otlpMetrics(request.Metrics()) {
		return false
	}
	return w.takeKnown()
}

// takeKnown puts the data points that are known, up to the next that is not, into the batch. It says no when the record
// may have too much.
func (w *work) takeKnown() bool {
	b := w.out
	for b.Events < len(w.found) {
		// room would count what is known as decoded.
		n := len(b.Repeats)
		if len(b.Metrics)+n >= w.opts.MaxEvents || len(b.scratch.labels)+n*w.opts.MaxLabels >= maxRecordLabels {
			return false
		}
		if w.found[b.Events].Ref == notKnown {
			break
		}
		b.Repeats = append(b.Repeats, w.found[b.Events])
		b.Events++
	}
	return true
}

// levels are the fields that lead from a request to its data points.
var levels = [...][]uint64{
	{tagResourceMetrics}, {tagScopeMetrics}, {tagMetrics},
	{tagMetricGauge, tagMetricSum, tagMetricHistogram, tagMetricExponential, tagMetricSummary}, {tagPoints},
}

// prune appends a message of one of levels without the data points that pdata need not decode, and says whether it has
// any that are not known. points are those of the message and of what follows it.
func prune(dst, b []byte, level int, points *[]otlpPoint) (_ []byte, some bool) {
	for len(b) > 0 {
		before := b
		f, _ := cutField(&b)
		field := before[:len(before)-len(b)]
		switch {
		case !slices.Contains(levels[level], f.tag):
			dst = append(dst, field...)
		case level == len(levels)-1:
			p := (*points)[0]
			if *points = (*points)[1:]; !p.known && !p.plain {
				dst = append(dst, field...)
			}
			some = some || !p.known
		default:
			from := len(dst)
			dst = append(binary.AppendUvarint(dst, f.tag), 0x80, 0x80, 0x80, 0x80, 0) // room for any size
			inner, left := len(dst), false
			if dst, left = prune(dst, f.bytes, level+1, points); !left {
				dst = dst[:from]
				continue
			}
			some = true
			for i, size := inner-5, len(dst)-inner; size > 0; i, size = i+1, size>>7 {
				dst[i] |= byte(size & 0x7f)
			}
		}
	}
	return dst, some
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

// repeatMetric reads a metric. What it and the message of its points say is one context. Points of histograms and
// summaries are noted as not known.
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
		case slices.Contains(levels[3], f.tag):
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
	numbers, found := kind == tagMetricGauge || kind == tagMetricSum, false
	for rest := data; len(rest) > 0; {
		before := rest
		f, ok := cutField(&rest)
		switch {
		case !ok:
			return false
		case f.tag == tagPoints:
			found = true
		case !numbers:
		case f.tag == tagTemporality || f.tag == tagMonotonic:
			told = append(told, before[:len(before)-len(rest)]...)
		default:
			return false
		}
	}
	w.s.cutter.told = told
	if context = w.otlpDigest(told); !found {
		return false // nothing of it would be looked up, and what is no protobuf in it not be found
	}
	from := len(w.s.points)
	ok := each(data, tagPoints, func(point []byte) bool {
		if !numbers {
			return w.notePoint(series.ID{}, Repeat{}, nil)
		}
		return w.repeatPoint(point, context)
	})
	for i := range w.s.points[from:] {
		w.s.points[from+i].end = len(w.s.points)
	}
	return ok
}

// repeatPoint reads a number. Its digest is that of its bytes with zeros for time, value and start.
func (w *work) repeatPoint(b []byte, context series.ID) bool {
	s := w.s
	told := append(appendID(s.cutter.told[:0], context), b...)
	s.cutter.told = told
	told = told[len(told)-len(b):]
	var r Repeat
	times, starts, values := 0, 0, 0
	for i := 0; i < len(b); {
		next, ok := endOfPointField(b, i)
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
		return w.notePoint(series.ID{}, r, b)
	}
	return w.notePoint(w.otlpDigest(s.cutter.told), r, b)
}

// notePoint takes what a data point says, its digest, zero for one that cannot be known, and its bytes if it is a
// number.
func (w *work) notePoint(digest series.ID, r Repeat, b []byte) bool {
	s := w.s
	if r.Index = len(s.digests); r.Index >= min(w.opts.MaxEvents, maxRecordLabels/max(w.opts.MaxLabels, 1)) {
		return false
	}
	s.digests = append(s.digests, digest)
	s.points = append(s.points, otlpPoint{bytes: b})
	w.out.Repeats = append(w.out.Repeats, r)
	return true
}

// endOfPointField returns where the field of a data point ends that begins at i, when it is one that points known by
// their bytes may have.
func endOfPointField(b []byte, i int) (next int, ok bool) {
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

// contextOf hashes what a message says beside the fields with the tag inner, within what is around it. It is not ok
// when there is another field than inner and those of known, or none of inner.
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

// each calls fn with the fields of that tag until it returns false. The message is one that contextOf has read.
func each(b []byte, tag uint64, fn func([]byte) bool) bool {
	for len(b) > 0 {
		if f, _ := cutField(&b); f.tag == tag && !fn(f.bytes) {
			return false
		}
	}
	return true
}
