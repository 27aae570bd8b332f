package events

import (
	"encoding/binary"
	"math"

	"github.com/vigie-io/vigie/pkg/series"
)

// AppendMetricProtobuf appends m as a vigie.v1.Events of one event and returns the longer slice. Such messages one
// after another are one of all their events. Decoding it gives m again, if its times are after March 1973: smaller
// numbers are no nanoseconds. Fields that are empty are left out. Nothing is checked: the decoder refuses what is not
// finite or not UTF-8.
func AppendMetricProtobuf(dst []byte, m *Metric) []byte {
	return appendMessage(dst, eventsMetric, func(dst []byte) []byte {
		dst = appendFixed(dst, 1, uint64(m.Time))
		switch {
		case m.Stale:
			dst = append(dst, 11<<3|wireVarint, 1)
		case m.Histogram != nil:
			dst = appendMessage(dst, 3<<3|wireBytes, func(dst []byte) []byte { return appendHistogramFields(dst, m.Histogram) })
		default:
			dst = appendDouble(dst, 2, m.Value)
		}
		dst = appendTextField(dst, 4, m.Name)
		if m.Kind != Observation {
			dst = append(dst, 5<<3|wireVarint, byte(m.Kind)+1)
		}
		dst = appendLabelFields(dst, 6, m.Labels)
		dst = appendFixed(dst, 7, uint64(m.Start))
		dst = appendTextField(dst, 8, m.Unit)
		dst = appendTextField(dst, 9, m.Help)
		return appendTextField(dst, 10, m.Tenant)
	})
}

// AppendSpanProtobuf appends p as a vigie.v1.Events of one event, as AppendMetricProtobuf does.
func AppendSpanProtobuf(dst []byte, p *Span) []byte {
	return appendMessage(dst, eventsSpan, func(dst []byte) []byte {
		dst = appendFixed(dst, 1, uint64(p.Time))
		dst = binary.AppendUvarint(append(dst, 2<<3|wireVarint), uint64(p.Duration))
		dst = appendTextField(dst, 3, p.Service)
		dst = appendTextField(dst, 4, p.Name)
		dst = appendWord(dst, 5, spanKinds, p.Kind)
		dst = appendWord(dst, 6, spanStatuses, p.Status)
		if p.StatusCode != 0 {
			dst = binary.AppendUvarint(append(dst, 7<<3|wireVarint), uint64(p.StatusCode))
		}
		dst = appendTextField(dst, 8, p.Route)
		dst = appendTextField(dst, 9, p.Peer)
		dst = appendTextField(dst, 10, p.TraceID)
		dst = appendTextField(dst, 11, p.SpanID)
		dst = appendTextField(dst, 12, p.ParentID)
		dst = appendLabelFields(dst, 13, p.Attributes)
		return appendTextField(dst, 14, p.Tenant)
	})
}

// AppendLogProtobuf appends l as a vigie.v1.Events of one event, as AppendMetricProtobuf does.
func AppendLogProtobuf(dst []byte, l *Log) []byte {
	return appendMessage(dst, eventsLog, func(dst []byte) []byte {
		dst = appendFixed(dst, 1, uint64(l.Time))
		dst = appendMessage(dst, 2<<3|wireBytes, func(dst []byte) []byte { return append(dst, l.Body...) })
		dst = appendTextField(dst, 3, l.Service)
		dst = appendTextField(dst, 4, l.Severity)
		dst = appendTextField(dst, 5, l.TraceID)
		dst = appendTextField(dst, 6, l.SpanID)
		dst = appendLabelFields(dst, 7, l.Attributes)
		return appendTextField(dst, 8, l.Tenant)
	})
}

// appendMessage appends a field whose contents body appends. The length before them is known when they are there.
func appendMessage(dst []byte, tag byte, body func([]byte) []byte) []byte {
	dst = append(dst, tag)
	at := len(dst)
	dst = body(dst)
	end := len(dst)
	dst = binary.AppendUvarint(dst, uint64(end-at))
	var size [binary.MaxVarintLen64]byte
	n := copy(size[:], dst[end:])
	copy(dst[at+n:], dst[at:end])
	copy(dst[at:], size[:n])
	return dst
}

func appendFixed(dst []byte, number byte, v uint64) []byte {
	if v == 0 {
		return dst
	}
	return binary.LittleEndian.AppendUint64(append(dst, number<<3|wireFixed64), v)
}

// appendDouble appends a number that may be 0.
func appendDouble(dst []byte, number byte, v float64) []byte {
	return binary.LittleEndian.AppendUint64(append(dst, number<<3|wireFixed64), math.Float64bits(v))
}

func appendTextField(dst []byte, number byte, text string) []byte {
	if text == "" {
		return dst
	}
	return append(binary.AppendUvarint(append(dst, number<<3|wireBytes), uint64(len(text))), text...)
}

func appendWord(dst []byte, number byte, words []string, word string) []byte {
	for n := 1; n < len(words); n++ {
		if words[n] == word {
			return append(dst, number<<3|wireVarint, byte(n))
		}
	}
	return dst
}

func appendLabelFields(dst []byte, number byte, labels series.Labels) []byte {
	for i := range labels {
		dst = appendMessage(dst, number<<3|wireBytes, func(dst []byte) []byte {
			return appendTextField(appendTextField(dst, 1, labels[i].Name), 2, labels[i].Value)
		})
	}
	return dst
}

func appendHistogramFields(dst []byte, h *Histogram) []byte {
	dst = appendSint(append(dst, 1<<3|wireVarint), h.Scale)
	dst = appendDouble(dst, 2, h.Count)
	dst = appendDouble(dst, 3, h.Sum)
	if !math.IsNaN(h.Min) {
		dst = appendDouble(dst, 4, h.Min)
	}
	if !math.IsNaN(h.Max) {
		dst = appendDouble(dst, 5, h.Max)
	}
	dst = appendFixed(dst, 6, math.Float64bits(h.ZeroThreshold))
	dst = appendFixed(dst, 7, math.Float64bits(h.ZeroCount))
	for i, side := range [...]*Buckets{&h.Positive, &h.Negative} {
		if len(side.Counts) == 0 {
			continue
		}
		dst = appendMessage(dst, byte(8+i)<<3|wireBytes, func(dst []byte) []byte {
			if side.Offset != 0 {
				dst = appendSint(append(dst, 1<<3|wireVarint), side.Offset)
			}
			return appendDoubles(dst, 2, side.Counts)
		})
	}
	if len(h.Bounds) > 0 {
		dst = appendDoubles(dst, 10, h.Bounds)
	}
	return dst
}

// appendDoubles appends a packed field.
func appendDoubles(dst []byte, number byte, list []float64) []byte {
	dst = binary.AppendUvarint(append(dst, number<<3|wireBytes), uint64(8*len(list)))
	for _, f := range list {
		dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(f))
	}
	return dst
}

func appendSint(dst []byte, v int32) []byte {
	return binary.AppendUvarint(dst, uint64(uint32(v)<<1^uint32(v>>31)))
}
