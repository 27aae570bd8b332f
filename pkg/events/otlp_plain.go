package events

import (
	"strconv"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/vigie-io/vigie/pkg/series"
)

// otlpPoint is a data point of an OTLP request.
type otlpPoint struct {
	bytes []byte // of a number
	end   int    // where the data points of its metric end
	known bool
	plain bool // it is not known, and decoded without pdata, as are all of its metric that are not known
}

// next is the data point that is decoded next, nil where a request is decoded that pdata has unmarshalled whole.
func (w *work) next() *otlpPoint {
	if w.out.Events >= len(w.found) {
		return nil
	}
	return &w.s.points[w.out.Events]
}

// markPlain tells which data points are known, and which metrics have plain ones only beside these. Most of what is
// seen for the first time is such: to unmarshal it would take 27 allocations a data point.
func (w *work) markPlain() {
	points := w.s.points
	for from, end := 0, 0; from < len(points); from = end {
		end = points[from].end
		plain := true
		for i := from; i < end; i++ {
			p := &points[i]
			if p.known = w.found[i].Ref != notKnown; !p.known && plain {
				plain = p.bytes != nil && w.readPlain(p.bytes, &plainPoint{})
			}
		}
		for i := from; i < end; i++ {
			points[i].plain = plain && !points[i].known
		}
	}
}

// plainPoints decodes data points up to end, of which those that are not known are plain.
func (w *work) plainPoints(in *instrument, end int) bool {
	for w.out.Events < end {
		var p plainPoint
		c := &w.out.scratch
		at := len(c.text)
		c.text = append(c.text, w.next().bytes...) // what is decoded is no view of the record
		w.readPlain(c.text[at:], &p)
		labels := func() series.Labels { return w.labelsOf(&in.resource, w.s.attributes) }
		if !w.point(in, p.times, labels, func(base Metric) { w.number(base, p.value, p.has) }) || !w.takeKnown() {
			return false
		}
	}
	return true
}

// plainPoint is what a plain data point says beside its attributes.
type plainPoint struct {
	times pointTimes
	value float64
	has   bool // it has a value
}

// readPlain reads a number that has time, start and value at most once, and attributes; and says no to any other.
// Attributes are those of the scanner.
func (w *work) readPlain(b []byte, p *plainPoint) bool {
	w.s.attributes = w.s.attributes[:0]
	times, starts, values := 0, 0, 0
	for len(b) > 0 {
		f, ok := cutField(&b)
		if !ok {
			return false
		}
		switch f.tag {
		case tagPointTime:
			times++
			p.times.at = pcommon.Timestamp(f.value)
		case tagPointStart:
			starts++
			p.times.start = pcommon.Timestamp(f.value)
		case tagPointDouble:
			values++
			p.value = f.double()
		case tagPointInt:
			values++
			p.value = float64(int64(f.value))
		case tagPointAttributes:
			if !w.readPlainAttribute(f.bytes) {
				return false
			}
		default:
			return false
		}
	}
	p.has = values == 1
	return times <= 1 && starts <= 1 && values <= 1
}

// Fields of OTLP attributes.
const (
	tagKey   = 1<<3 | wireBytes
	tagValue = 2<<3 | wireBytes

	tagValueText = 1<<3 | wireBytes
	tagValueBool = 2<<3 | wireVarint
	tagValueInt  = 3<<3 | wireVarint
)

// readPlainAttribute reads a name and a text, a whole number or a truth value, as pdata would write it.
func (w *work) readPlainAttribute(b []byte) bool {
	var l series.Label
	named, valued := false, false
	for len(b) > 0 {
		f, ok := cutField(&b)
		switch {
		case !ok:
			return false
		case f.tag == tagKey && !named:
			l.Name, named = view(f.bytes), true
		case f.tag == tagValue && !valued && len(f.bytes) > 0:
			if l.Value, valued = w.plainText(f.bytes); !valued {
				return false
			}
		default:
			return false
		}
	}
	w.s.attributes = append(w.s.attributes, l)
	return valued
}

// plainText is the text of a value.
func (w *work) plainText(b []byte) (text string, ok bool) {
	f, ok := cutField(&b)
	if !ok || len(b) > 0 {
		return "", false
	}
	switch f.tag {
	case tagValueText:
		return view(f.bytes), true
	case tagValueBool:
		return strconv.FormatBool(f.value != 0), true
	case tagValueInt:
		c := &w.out.scratch
		at := len(c.text)
		c.text = strconv.AppendInt(c.text, int64(f.value), 10)
		return view(c.text[at:]), true
	}
	return "", false
}
