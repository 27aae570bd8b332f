package events

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/vigie-io/vigie/pkg/series"
)

// Fields of vigie.v1.Metric of which the place matters: of events that are known, time and value stand first.
const (
	metricTime  = 1<<3 | wireFixed64
	metricValue = 2<<3 | wireFixed64
)

// metricMessage decodes a vigie.v1.Metric.
func (w *work) metricMessage(index int, e []byte) {
	s, b, c := w.s, w.out, &w.out.scratch
	b.Metrics = append(b.Metrics, Metric{})
	m := &b.Metrics[len(b.Metrics)-1]
	from := len(c.labels)
	p := messageCut{time: -1}
	for f := (fields{rest: e}); s.next(&f); {
		switch f.number() {
		case 1:
			s.timeField(&f, "time", fieldTime, &m.Time)
			p.time = len(e) - len(f.rest) - 8
		case 2:
			s.doubleField(&f, "value", fieldValue, &m.Value)
			p.value = len(e) - len(f.rest) - 8
		case 3:
			if s.is(&f, wireBytes, "histogram", fieldHistogram) {
				m.Histogram = w.histogramMessage(f.bytes)
			}
		case 4:
			s.textField(&f, "name", fieldName, &m.Name)
		case 5:
			if s.is(&f, wireVarint, "kind", fieldKind) {
				m.Kind = s.kindNumber(int32(f.value))
			}
		case 6:
			w.labelField(&f, from)
		case 7:
			s.timeField(&f, "start", fieldStart, &m.Start)
		case 8:
			s.textField(&f, "unit", fieldUnit, &m.Unit)
		case 9:
			s.textField(&f, "help", fieldHelp, &m.Help)
		case 10:
			s.textField(&f, "tenant", fieldTenant, &m.Tenant)
		case 11:
			if s.is(&f, wireVarint, "stale", fieldStale) {
				m.Stale = f.value != 0
			}
		}
	}
	s.field = "labels"
	if len(c.labels)-from > w.opts.MaxLabels {
		w.tooMany("labels", w.opts.MaxLabels)
	} else {
		m.Labels = w.sorted(from)
	}
	if w.endMetric(index) && m.Histogram == nil && !m.Stale && w.src.Repeats != nil && !s.has(fieldStart) {
		w.learnableMessage(m, e, p)
	}
}

// learnableMessage gives an event that was decoded in full its digest, if it is worth one.
func (w *work) learnableMessage(m *Metric, e []byte, p messageCut) {
	switch r := w.src.Repeats; {
	case w.unordered():
		m.Digest = w.src.Look.digest
	case w.s.has(fieldTime) == (p.time >= 0) && r.worthLearning():
		m.Digest = w.s.cutter.digestMessage(r, e, p)
	}
}

// labelField adds a label of a metric to those from the place from of the arena on.
func (w *work) labelField(f *fields, from int) {
	c := &w.out.scratch
	l, ok := w.label(f, "labels")
	if !ok {
		return
	}
	w.checkLabel(l.Name, l.Value)
	if l.Value != "" && len(c.labels)-from <= w.opts.MaxLabels {
		c.labels = append(c.labels, l)
	}
}

// kindNumber is the kind that vigie.v1.Kind gives a number, of which 0 is left out.
func (s *scanner) kindNumber(n int32) Kind {
	kind, ok := kindNumbered(n)
	if !ok {
		s.refuse(ReasonUnknownWord, fmt.Sprintf("want 1 to 4 (%s), got %d", kindList, n))
	}
	return kind
}

func kindNumbered(n int32) (kind Kind, ok bool) {
	switch n {
	case 0, 1:
		return Observation, true
	case 2:
		return Delta, true
	case 3:
		return Gauge, true
	case 4:
		return Cumulative, true
	}
	return Observation, false
}

// histogramMessage reads a vigie.v1.Histogram into the arena.
func (w *work) histogramMessage(b []byte) *Histogram {
	s := w.s
	outer := s.seen
	s.seen = 0
	c := &w.out.scratch
	bounds := len(c.bounds)
	h := Histogram{Min: math.NaN(), Max: math.NaN()}
	for f := (fields{rest: b}); s.next(&f); {
		switch f.number() {
		case 1:
			if s.is(&f, wireVarint, "histogram.scale", fieldScale) {
				h.Scale = s.scale(f.sint32())
			}
		case 2:
			s.doubleField(&f, "histogram.count", fieldCount, &h.Count)
		case 3:
			s.doubleField(&f, "histogram.sum", fieldSum, &h.Sum)
		case 4:
			s.doubleField(&f, "histogram.min", fieldMin, &h.Min)
		case 5:
			s.doubleField(&f, "histogram.max", fieldMax, &h.Max)
		case 6:
			s.doubleField(&f, "histogram.zero_threshold", fieldZeroThreshold, &h.ZeroThreshold)
		case 7:
			s.doubleField(&f, "histogram.zero_count", fieldZeroCount, &h.ZeroCount)
		case 8:
			if s.is(&f, wireBytes, "histogram.positive", fieldPositive) {
				w.bucketsMessage(f.bytes, &h.Positive)
			}
		case 9:
			if s.is(&f, wireBytes, "histogram.negative", fieldNegative) {
				w.bucketsMessage(f.bytes, &h.Negative)
			}
		case 10:
			s.field = "histogram.bounds"
			w.doubles(&f, &c.bounds, bounds)
		}
	}
	h.Bounds = c.bounds[bounds:len(c.bounds):len(c.bounds)]
	return w.endHistogram(&h, outer)
}

// bucketsMessage reads a vigie.v1.Buckets of the side that is the current field.
func (w *work) bucketsMessage(b []byte, dst *Buckets) {
	s, c := w.s, &w.out.scratch
	side, outer, from := s.field, s.seen, len(c.counts)
	s.seen = 0
	for f := (fields{rest: b}); s.next(&f); {
		switch f.number() {
		case 1:
			if s.is(&f, wireVarint, side, fieldOffset) {
				dst.Offset = f.sint32()
			}
		case 2:
			w.doubles(&f, &c.counts, from)
		}
	}
	s.seen = outer
	dst.Counts = c.counts[from:len(c.counts):len(c.counts)]
}

// doubles adds what a field has of a list, one number or several, to those from the place from of an arena on.
func (w *work) doubles(f *fields, arena *[]float64, from int) {
	switch s := w.s; f.wire() {
	case wireFixed64:
		w.double(f.double(), arena, from)
	case wireBytes:
		if len(f.bytes)%8 != 0 {
			s.fault = fault{ReasonBadProtobuf, s.field, fmt.Sprintf("%d bytes are no doubles", len(f.bytes))}
		}
		for ; len(f.bytes) >= 8; f.bytes = f.bytes[8:] {
			w.double(math.Float64frombits(binary.LittleEndian.Uint64(f.bytes)), arena, from)
		}
	default:
		s.hasWire(f, wireFixed64)
	}
}

// double adds one. What is too many is known by one too many.
func (w *work) double(n float64, arena *[]float64, from int) {
	if n = w.s.finite(n); len(*arena)-from <= w.opts.MaxBuckets {
		*arena = append(*arena, n)
	}
}

// messageCut says where the eight bytes of time (−1: there are none) and value stand in a vigie.v1.Metric.
type messageCut struct{ time, value int }

// inOrder is where they stand as most producers write them, first of all: then nothing else is before or between them.
var inOrder = messageCut{1, 10}

// cutMessage guesses it: in the order of their numbers, or else by looking at all fields.
func cutMessage(e []byte) (p messageCut, ok bool) {
	if len(e) >= 18 && e[0] == metricTime && e[9] == metricValue {
		return inOrder, true
	}
	p.time = -1
	for rest := e; len(rest) > 0; {
		f, ok := cutField(&rest)
		if !ok {
			return p, false
		}
		switch f.tag {
		case metricTime:
			p.time = len(e) - len(rest) - 8
		case metricValue:
			p.value = len(e) - len(rest) - 8
		}
	}
	return p, p.value > 0
}

// digestMessage hashes what the message says beside time and value, and where it says it. The seed is another than that
// of the other formats: what one says is nothing in another.
func (c *cutter) digestMessage(r *Repeats, e []byte, p messageCut) series.ID {
	const ours, oursInOrder = 0x9e3779b97f4a7c15, 0xc2b2ae3d27d4eb4f
	if p == inOrder {
		return series.HashSeeded(e[inOrder.value+8:], r.seed^oursInOrder)
	}
	told := append(c.told[:0], e...)
	binary.LittleEndian.PutUint64(told[p.value:], 0)
	if p.time >= 0 {
		binary.LittleEndian.PutUint64(told[p.time:], 0)
	}
	told = binary.LittleEndian.AppendUint32(told, uint32(p.time))
	c.told = binary.LittleEndian.AppendUint32(told, uint32(p.value))
	return series.HashSeeded(c.told, r.seed^ours)
}

// beginMessage looks at a vigie.v1.Metric: time and value are e's, when they are such as an event may have.
func (c *cutter) beginMessage(r *Repeats, b []byte, timestamp int64, e *Repeat) (digest series.ID, noTime, ok bool) {
	p, ok := cutMessage(b)
	if !ok || !p.read(b, timestamp, e) {
		return digest, false, false
	}
	return c.digestMessage(r, b, p), p.time < 0, true
}

// read reads time and value, and says whether they are such as an event may have.
func (p *messageCut) read(b []byte, timestamp int64, e *Repeat) bool {
	e.Time, e.Value = timestamp, math.Float64frombits(binary.LittleEndian.Uint64(b[p.value:]))
	if p.time >= 0 {
		var reason Reason
		if e.Time, reason = wholeTime(int64(binary.LittleEndian.Uint64(b[p.time:]))); reason != "" {
			return false
		}
	}
	return e.Time > 0 && e.Value-e.Value == 0
}

// unorderedMessage is beginMessage with a digest that is the same in whatever order fields come, and whatever fields it
// has that the contract does not know: the sum of the hashes of all others as they stand, a label as one, but for time
// and value. What it says of its series goes to asks, if that is not nil, and makes no digest then.
func unorderedMessage(
	seed uint64, b []byte, timestamp int64, e *Repeat, asks *candidate,
) (digest series.ID, noTime, ok bool) {
	const apart = 0x27d4eb2f165667c5 // from other digests
	p := messageCut{-1, -1}
	for rest := b; len(rest) > 0; {
		from := len(b) - len(rest)
		f, ok := cutField(&rest)
		if !ok {
			return digest, false, false
		}
		to := len(b) - len(rest)
		switch f.number() {
		case 1, 2:
			at := &p.time
			if f.tag == metricValue {
				at = &p.value
			}
			if f.wire() != wireFixed64 || *at >= 0 {
				return digest, false, false // as it should not be, or twice
			}
			*at = to - 8
		case 3, 7, 11: // a histogram, a start, the end of a series
			return digest, false, false
		case 4, 5, 6, 8, 9, 10:
			if asks != nil {
				asks.message(&f)
			} else {
				addHash(&digest, b[from:to], seed^apart)
			}
		}
	}
	return digest, p.time < 0, p.value >= 0 && p.read(b, timestamp, e)
}

// repeatMessage puts a vigie.v1.Metric that is known into the batch without decoding it. That is Repeats' argument once
// more, for tokens of eight bytes. only says that there is no other event in the record.
func (w *work) repeatMessage(b []byte, only bool) bool {
	r := w.src.Repeats
	l := w.src.Look
	if w.out.Events > 0 {
		l = nil // it is of another event
	}
	switch {
	case r.used == 0, l != nil && l.way == notAtAll:
		return false
	case l != nil && l.Missed() && only:
		return false // it is this event that was looked up
	case l == nil && r.vain.hopeless():
		return false
	}
	var e Repeat
	digest, noTime, ok := w.s.cutter.beginMessage(r, b, w.src.Timestamp, &e)
	if !ok {
		return false
	}
	ref, ok := r.find(digest)
	if r.tell(byBytes, ok); !ok {
		return false
	}
	e.Index, e.Ref = w.out.Events, ref
	w.out.Events++
	if noTime {
		w.out.NoTime++
	}
	w.out.Repeats = append(w.out.Repeats, e)
	return true
}
